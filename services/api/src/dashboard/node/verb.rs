//! What can be asked of a node on its page.

use bessemer_domain::node::{ProvisionState, Verb};
use bessemer_proto::v1;

/// Something that can be asked of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Provision(Verb),
    PowerOn,
    SoftOff,
    PowerOff,
    Reboot,
    Maintain,
    EndMaintenance,
}

/// What cannot be taken back.
const CONSEQUENCES: [(Action, &str); 7] = [
    (Action::Provision(Verb::Deploy), "The root disk is overwritten with the image."),
    (
        Action::Provision(Verb::Rebuild),
        "The root disk is overwritten with the image again; what it holds now is lost.",
    ),
    (
        Action::Provision(Verb::Undeploy),
        "The machine is powered off, and its disks are erased unless cleaning is switched off for it. What runs on it is lost.",
    ),
    (Action::Provision(Verb::Clean), "What is on the disks is lost."),
    (
        Action::Provision(Verb::Rescue),
        "What runs on the machine is cut off; its disks are left as they are.",
    ),
    (Action::Provision(Verb::Service), "What runs on the machine may be cut off."),
    (Action::PowerOff, "The machine is switched off at once, as by its button."),
];

impl Action {
    const FIXED: [Self; 6] = [
        Self::PowerOn,
        Self::SoftOff,
        Self::PowerOff,
        Self::Reboot,
        Self::Maintain,
        Self::EndMaintenance,
    ];

    /// Its name in URLs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Provision(verb) => verb.as_str(),
            Self::PowerOn => "power-on",
            Self::SoftOff => "shut-down",
            Self::PowerOff => "power-off",
            Self::Reboot => "reboot",
            Self::Maintain => "maintenance",
            Self::EndMaintenance => "end-maintenance",
        }
    }

    /// What the button says.
    pub(super) fn title(self) -> String {
        match self {
            Self::EndMaintenance => "End maintenance".to_owned(),
            Self::Maintain => "Set maintenance".to_owned(),
            _ => {
                let mut title = self.name().replace('-', " ");
                if let Some(first) = title.get_mut(..1) {
                    first.make_ascii_uppercase();
                }
                title
            }
        }
    }

    /// What becomes of the machine that cannot be taken back, if anything does.
    pub(super) fn consequence(self) -> Option<&'static str> {
        CONSEQUENCES.iter().find(|(action, _)| *action == self).map(|(_, what)| *what)
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        let verbs = Verb::ALL.iter().copied().map(Self::Provision);
        verbs.chain(Self::FIXED).find(|action| action.name() == name)
    }

    /// What the node's state allows. The cluster decides when it is asked; this is to spare people what it would refuse.
    pub(super) fn allowed(status: &v1::NodeStatus) -> Vec<Self> {
        let state = status.provision_state.parse::<ProvisionState>();
        let verbs = state.map(ProvisionState::verbs).unwrap_or_default();
        let power = match status.power_state() {
            v1::PowerState::On => [Self::SoftOff, Self::PowerOff, Self::Reboot].as_slice(),
            v1::PowerState::Off => &[Self::PowerOn],
            v1::PowerState::Unspecified => &[Self::PowerOn, Self::PowerOff],
        };
        let maintenance = if status.maintenance { Self::EndMaintenance } else { Self::Maintain };
        let verbs = verbs.into_iter().map(Self::Provision);
        verbs.chain(power.iter().copied()).chain([maintenance]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_found_by_its_name() {
        for action in Verb::ALL.iter().copied().map(Action::Provision).chain(Action::FIXED) {
            assert_eq!(Action::named(action.name()), Some(action));
        }
        assert_eq!(Action::named("explode"), None);
        assert_eq!(Action::PowerOff.title(), "Power off");
    }

    #[test]
    fn what_the_state_does_not_allow_is_not_offered() {
        let status = |state: &str| v1::NodeStatus {
            provision_state: state.to_owned(),
            power_state: v1::PowerState::On.into(),
            ..v1::NodeStatus::default()
        };
        let names = |state| {
            Action::allowed(&status(state)).into_iter().map(Action::name).collect::<Vec<_>>()
        };
        let expected = ["manage", "deploy", "shut-down", "power-off", "reboot", "maintenance"];
        assert_eq!(names("available"), expected);
        assert_eq!(names("deploying")[0], "abort");
    }
}
