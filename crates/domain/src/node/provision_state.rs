//! Ironic's provision states and the one table of how a node moves between them.
//!
//! `decide` consults [`TRANSITIONS`], and nothing else knows which move is legal. The strings are Ironic's.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Invalid;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $field:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name as it is stored and shown.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                Self::ALL.iter().copied().find(|item| item.as_str() == text).ok_or_else(|| {
                    let known: Vec<_> = Self::ALL.iter().map(|item| item.as_str()).collect();
                    Invalid::new($field, text, format!("is none of: {}", known.join(", ")))
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

named!(
    /// Where a node stands in its life.
    ProvisionState, "provision_state" {
        /// Known, not yet reachable.
        Enroll = "enroll",
        /// Its power control is being tried.
        Verifying = "verifying",
        /// Under management, not offered.
        Manageable = "manageable",
        /// Being looked at, a conductor at work.
        Inspecting = "inspecting",
        /// Being looked at, the agent at work or awaited.
        InspectWait = "inspect wait",
        /// The inspection did not succeed.
        InspectFailed = "inspect failed",
        /// Being taken over with what runs on it.
        Adopting = "adopting",
        /// Could not be taken over.
        AdoptFailed = "adopt failed",
        /// Being cleaned, a conductor at work.
        Cleaning = "cleaning",
        /// Being cleaned, the agent at work.
        CleanWait = "clean wait",
        /// Being cleaned, and held until a person says `unhold`.
        CleanHold = "clean hold",
        /// Cleaning did not succeed.
        CleanFailed = "clean failed",
        /// Clean and offered.
        Available = "available",
        /// Being deployed, a conductor at work.
        Deploying = "deploying",
        /// Being deployed, the agent at work or awaited.
        WaitCallBack = "wait call-back",
        /// Being deployed, and held until a person says `unhold`.
        DeployHold = "deploy hold",
        /// The deployment did not succeed.
        DeployFailed = "deploy failed",
        /// Holds a deployment and runs.
        Active = "active",
        /// Its deployment is being taken off.
        Deleting = "deleting",
        /// The deployment could not be taken off.
        Error = "error",
        /// Being booted into the rescue ramdisk, a conductor at work.
        Rescuing = "rescuing",
        /// Being booted into the rescue ramdisk, the agent at work or awaited.
        RescueWait = "rescue wait",
        /// Runs the rescue ramdisk, for a person to log in.
        Rescue = "rescue",
        /// The rescue ramdisk could not be had.
        RescueFailed = "rescue failed",
        /// Being booted into its own system again.
        Unrescuing = "unrescuing",
        /// Could not be booted into its own system again.
        UnrescueFailed = "unrescue failed",
        /// Being serviced, a conductor at work.
        Servicing = "servicing",
        /// Being serviced, the agent at work or awaited.
        ServiceWait = "service wait",
        /// Being serviced, and held until a person says `unhold`.
        ServiceHold = "service hold",
        /// The service did not succeed.
        ServiceFailed = "service failed",
    }
);

named!(
    /// What a user can ask that moves the provision state.
    Verb, "verb" {
        /// Take under management.
        Manage = "manage",
        /// Find out what it is made of.
        Inspect = "inspect",
        /// Take it over with what runs on it.
        Adopt = "adopt",
        /// Do these steps of cleaning.
        Clean = "clean",
        /// Make available.
        Provide = "provide",
        /// Put an image on it.
        Deploy = "deploy",
        /// Put an image on it again.
        Rebuild = "rebuild",
        /// Take the image off it.
        Undeploy = "undeploy",
        /// Stop what is going on.
        Abort = "abort",
        /// Boot a ramdisk that a person can log in to.
        Rescue = "rescue",
        /// Boot its own system again.
        Unrescue = "unrescue",
        /// Do steps on a machine that holds a deployment, which stays.
        Service = "service",
        /// Go on after a hold.
        Unhold = "unhold",
    }
);

/// What moves a node: a verb, or how its work goes. Ironic's event names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A user asked.
    Verb(Verb),
    /// The plan is done.
    Done,
    /// A step failed.
    Fail,
    /// The agent's turn.
    Wait,
    /// The conductor's turn again.
    Resume,
    /// A person's turn.
    Hold,
    /// The deployment is off; cleaning follows.
    Clean,
    /// The cleaning that was asked for is done; the node is not offered.
    Manage,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verb(verb) => verb.as_str(),
            Self::Done => "done",
            Self::Fail => "fail",
            Self::Wait => "wait",
            Self::Resume => "resume",
            Self::Hold => "hold",
            Self::Clean => "clean",
            Self::Manage => "manage",
        })
    }
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The state it leaves.
    pub from: ProvisionState,
    /// What moves it.
    pub trigger: Trigger,
    /// The state it enters.
    pub to: ProvisionState,
}

const fn row(from: ProvisionState, trigger: Trigger, to: ProvisionState) -> Transition {
    Transition { from, trigger, to }
}

/// Every legal move. Beyond Ironic's table: `abort` also stops `deploying`, `cleaning`, `inspecting`, `rescuing`, `unrescuing`
/// and `servicing`, and leads out of `verifying` and `adopting`; `undeploy` leads out of every hold of a deployment; every hold
/// can fail, for it has a deadline; `unhold` leads straight to the conductor's turn; `abort` of a failed service leads back to
/// `active` by `servicing`, in which the machine is booted into its own system.
pub const TRANSITIONS: &[Transition] = {
    use ProvisionState::{
        Active, AdoptFailed, Adopting, Available, CleanFailed, CleanHold, CleanWait, Cleaning,
        Deleting, DeployFailed, DeployHold, Deploying, Enroll, Error, InspectFailed, InspectWait,
        Inspecting, Manageable, Rescue, RescueFailed, RescueWait, Rescuing, ServiceFailed,
        ServiceHold, ServiceWait, Servicing, UnrescueFailed, Unrescuing, Verifying, WaitCallBack,
    };
    use Trigger::{Clean, Done, Fail, Hold, Resume, Wait};
    use Verb::{
        Abort, Adopt, Deploy, Inspect, Manage, Provide, Rebuild, Service, Undeploy, Unhold,
        Unrescue,
    };
    &[
        row(Enroll, Trigger::Verb(Manage), Verifying),
        row(Verifying, Done, Manageable),
        row(Verifying, Fail, Enroll),
        row(Verifying, Trigger::Verb(Abort), Enroll),
        row(Manageable, Trigger::Verb(Provide), Cleaning),
        row(Manageable, Trigger::Verb(Verb::Clean), Cleaning),
        row(Manageable, Trigger::Verb(Inspect), Inspecting),
        row(Manageable, Trigger::Verb(Adopt), Adopting),
        row(Inspecting, Done, Manageable),
        row(Inspecting, Fail, InspectFailed),
        row(Inspecting, Wait, InspectWait),
        row(Inspecting, Trigger::Verb(Abort), InspectFailed),
        row(InspectWait, Resume, Inspecting),
        row(InspectWait, Fail, InspectFailed),
        row(InspectWait, Trigger::Verb(Abort), InspectFailed),
        row(InspectFailed, Trigger::Verb(Manage), Manageable),
        row(InspectFailed, Trigger::Verb(Inspect), Inspecting),
        row(Adopting, Done, Active),
        row(Adopting, Fail, AdoptFailed),
        row(Adopting, Trigger::Verb(Abort), AdoptFailed),
        row(AdoptFailed, Trigger::Verb(Adopt), Adopting),
        row(AdoptFailed, Trigger::Verb(Manage), Manageable),
        row(Available, Trigger::Verb(Manage), Manageable),
        row(Available, Trigger::Verb(Deploy), Deploying),
        row(Cleaning, Done, Available),
        row(Cleaning, Trigger::Manage, Manageable),
        row(Cleaning, Fail, CleanFailed),
        row(Cleaning, Wait, CleanWait),
        row(Cleaning, Trigger::Verb(Abort), CleanFailed),
        row(CleanWait, Resume, Cleaning),
        row(CleanWait, Fail, CleanFailed),
        row(CleanWait, Trigger::Verb(Abort), CleanFailed),
        row(Cleaning, Hold, CleanHold),
        row(CleanHold, Trigger::Verb(Unhold), Cleaning),
        row(CleanHold, Fail, CleanFailed),
        row(CleanHold, Trigger::Verb(Abort), CleanFailed),
        row(CleanFailed, Trigger::Verb(Manage), Manageable),
        row(Deploying, Done, Active),
        row(Deploying, Fail, DeployFailed),
        row(Deploying, Wait, WaitCallBack),
        row(Deploying, Trigger::Verb(Abort), DeployFailed),
        row(WaitCallBack, Resume, Deploying),
        row(WaitCallBack, Fail, DeployFailed),
        row(WaitCallBack, Trigger::Verb(Abort), DeployFailed),
        row(WaitCallBack, Trigger::Verb(Undeploy), Deleting),
        row(Deploying, Hold, DeployHold),
        row(DeployHold, Trigger::Verb(Unhold), Deploying),
        row(DeployHold, Fail, DeployFailed),
        row(DeployHold, Trigger::Verb(Abort), DeployFailed),
        row(DeployHold, Trigger::Verb(Undeploy), Deleting),
        row(DeployFailed, Trigger::Verb(Deploy), Deploying),
        row(DeployFailed, Trigger::Verb(Rebuild), Deploying),
        row(DeployFailed, Trigger::Verb(Undeploy), Deleting),
        row(Active, Trigger::Verb(Rebuild), Deploying),
        row(Active, Trigger::Verb(Undeploy), Deleting),
        row(Active, Trigger::Verb(Verb::Rescue), Rescuing),
        row(Active, Trigger::Verb(Service), Servicing),
        row(Deleting, Clean, Cleaning),
        row(Deleting, Fail, Error),
        row(Error, Trigger::Verb(Rebuild), Deploying),
        row(Error, Trigger::Verb(Undeploy), Deleting),
        row(Rescuing, Done, Rescue),
        row(Rescuing, Fail, RescueFailed),
        row(Rescuing, Wait, RescueWait),
        row(Rescuing, Trigger::Verb(Abort), RescueFailed),
        row(RescueWait, Resume, Rescuing),
        row(RescueWait, Fail, RescueFailed),
        row(RescueWait, Trigger::Verb(Abort), RescueFailed),
        row(RescueWait, Trigger::Verb(Undeploy), Deleting),
        row(Rescue, Trigger::Verb(Verb::Rescue), Rescuing),
        row(Rescue, Trigger::Verb(Unrescue), Unrescuing),
        row(Rescue, Trigger::Verb(Undeploy), Deleting),
        row(RescueFailed, Trigger::Verb(Verb::Rescue), Rescuing),
        row(RescueFailed, Trigger::Verb(Unrescue), Unrescuing),
        row(RescueFailed, Trigger::Verb(Undeploy), Deleting),
        row(Unrescuing, Done, Active),
        row(Unrescuing, Fail, UnrescueFailed),
        row(Unrescuing, Trigger::Verb(Abort), UnrescueFailed),
        row(UnrescueFailed, Trigger::Verb(Verb::Rescue), Rescuing),
        row(UnrescueFailed, Trigger::Verb(Unrescue), Unrescuing),
        row(UnrescueFailed, Trigger::Verb(Undeploy), Deleting),
        row(Servicing, Done, Active),
        row(Servicing, Fail, ServiceFailed),
        row(Servicing, Wait, ServiceWait),
        row(Servicing, Hold, ServiceHold),
        row(Servicing, Trigger::Verb(Abort), ServiceFailed),
        row(ServiceWait, Resume, Servicing),
        row(ServiceWait, Fail, ServiceFailed),
        row(ServiceWait, Trigger::Verb(Abort), ServiceFailed),
        row(ServiceWait, Trigger::Verb(Undeploy), Deleting),
        row(ServiceHold, Trigger::Verb(Unhold), Servicing),
        row(ServiceHold, Fail, ServiceFailed),
        row(ServiceHold, Trigger::Verb(Service), Servicing),
        row(ServiceHold, Trigger::Verb(Abort), ServiceFailed),
        row(ServiceHold, Trigger::Verb(Undeploy), Deleting),
        row(ServiceFailed, Trigger::Verb(Service), Servicing),
        row(ServiceFailed, Trigger::Verb(Verb::Rescue), Rescuing),
        row(ServiceFailed, Trigger::Verb(Undeploy), Deleting),
        row(ServiceFailed, Trigger::Verb(Abort), Servicing),
    ]
};

impl ProvisionState {
    /// The state that `trigger` leads to from here, if the table has it.
    #[must_use]
    pub fn after(self, trigger: Trigger) -> Option<Self> {
        TRANSITIONS.iter().find(|row| row.from == self && row.trigger == trigger).map(|row| row.to)
    }

    /// The verbs that the table allows here.
    #[must_use]
    pub fn verbs(self) -> Vec<Verb> {
        Verb::ALL
            .iter()
            .copied()
            .filter(|verb| self.after(Trigger::Verb(*verb)).is_some())
            .collect()
    }

    /// Where a node in this state is heading; none when it rests.
    #[must_use]
    pub const fn target(self) -> Option<Self> {
        match self {
            Self::Verifying | Self::Inspecting | Self::InspectWait => Some(Self::Manageable),
            Self::Cleaning | Self::CleanWait | Self::CleanHold | Self::Deleting => {
                Some(Self::Available)
            }
            Self::Deploying
            | Self::WaitCallBack
            | Self::DeployHold
            | Self::Adopting
            | Self::Unrescuing
            | Self::Servicing
            | Self::ServiceWait
            | Self::ServiceHold => Some(Self::Active),
            Self::Rescuing | Self::RescueWait => Some(Self::Rescue),
            Self::Enroll
            | Self::Manageable
            | Self::InspectFailed
            | Self::AdoptFailed
            | Self::CleanFailed
            | Self::Available
            | Self::DeployFailed
            | Self::Active
            | Self::Error
            | Self::Rescue
            | Self::RescueFailed
            | Self::UnrescueFailed
            | Self::ServiceFailed => None,
        }
    }

    /// Whether work is in progress: such a state has a plan, an owner and a deadline.
    #[must_use]
    pub const fn is_transient(self) -> bool {
        self.target().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_no_row_twice() {
        for (place, row) in TRANSITIONS.iter().enumerate() {
            let again = TRANSITIONS[place + 1..]
                .iter()
                .find(|other| other.from == row.from && other.trigger == row.trigger);
            assert_eq!(again, None, "{} on {} is there twice", row.from, row.trigger);
        }
    }

    #[test]
    fn every_state_has_a_way_on() {
        for state in ProvisionState::ALL {
            assert!(TRANSITIONS.iter().any(|row| row.from == *state), "{state} is a dead end");
            if *state != ProvisionState::Enroll {
                assert!(
                    TRANSITIONS.iter().any(|row| row.to == *state),
                    "{state} cannot be reached"
                );
            }
        }
    }

    #[test]
    fn transient_states_can_fail_and_resting_ones_only_move_by_a_verb() {
        for state in ProvisionState::ALL {
            assert_eq!(state.after(Trigger::Fail).is_some(), state.is_transient(), "{state}");
            if !state.is_transient() {
                assert!(
                    TRANSITIONS
                        .iter()
                        .filter(|row| row.from == *state)
                        .all(|row| matches!(row.trigger, Trigger::Verb(_))),
                    "{state}"
                );
            }
        }
    }

    #[test]
    fn there_are_as_many_states_as_in_ironic() {
        assert_eq!(ProvisionState::ALL.len(), 30);
    }

    #[test]
    fn names_are_read_back() {
        for state in ProvisionState::ALL {
            assert_eq!(state.as_str().parse(), Ok(*state));
        }
        let error = "deployed".parse::<ProvisionState>().unwrap_err();
        assert!(error.to_string().starts_with("provision_state `deployed` is none of: enroll,"));
    }
}
