//! Provision states, in the few kinds that an eye can tell apart.

use bessemer_domain::node::ProvisionState;

/// What a state means to an operator. Each has a colour and, for who does not see it, a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Not offered to anybody.
    Idle,
    /// Offered.
    Ready,
    /// Work is in progress.
    Busy,
    /// Holds a deployment.
    Active,
    /// Waits for a person.
    Failed,
}

impl Phase {
    pub(super) const ALL: [Self; 5] =
        [Self::Active, Self::Ready, Self::Busy, Self::Idle, Self::Failed];

    pub(super) const fn of(state: ProvisionState) -> Self {
        match state {
            ProvisionState::Enroll | ProvisionState::Manageable => Self::Idle,
            ProvisionState::Available => Self::Ready,
            ProvisionState::Active | ProvisionState::Rescue => Self::Active,
            ProvisionState::InspectFailed
            | ProvisionState::AdoptFailed
            | ProvisionState::CleanFailed
            | ProvisionState::DeployFailed
            | ProvisionState::Error
            | ProvisionState::RescueFailed
            | ProvisionState::UnrescueFailed
            | ProvisionState::ServiceFailed => Self::Failed,
            ProvisionState::Verifying
            | ProvisionState::Inspecting
            | ProvisionState::InspectWait
            | ProvisionState::Adopting
            | ProvisionState::Cleaning
            | ProvisionState::CleanWait
            | ProvisionState::Deploying
            | ProvisionState::WaitCallBack
            | ProvisionState::Deleting
            | ProvisionState::DeployHold
            | ProvisionState::CleanHold
            | ProvisionState::Rescuing
            | ProvisionState::RescueWait
            | ProvisionState::Unrescuing
            | ProvisionState::Servicing
            | ProvisionState::ServiceWait
            | ProvisionState::ServiceHold => Self::Busy,
        }
    }

    /// Its name, which is also that of its style.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Active => "active",
            Self::Failed => "failed",
        }
    }

    /// Tells it from the others without its colour.
    pub(super) const fn mark(self) -> &'static str {
        match self {
            Self::Idle => "·",
            Self::Ready => "○",
            Self::Busy => "◐",
            Self::Active => "●",
            Self::Failed => "✕",
        }
    }
}
