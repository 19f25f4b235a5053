//! `node power` and `node maintenance`.

use bessemer_proto::v1::{
    GetNodeRequest, PowerState, PowerTarget, SetNodeMaintenanceRequest, SetNodePowerRequest,
};
use clap::ValueEnum;

use super::fan_out::{Asked, Verb};
use super::verdict::Goal;
use crate::arguments::{Mutation, Version};
use crate::failure::Failure;
use crate::session::Session;

/// `node power`.
#[derive(Debug, clap::Args)]
pub(crate) struct Power {
    /// What to do
    target: Target,
    #[command(flatten)]
    verb: Verb,
    /// When it is given up; an operating system may take its time to shut down, or not listen
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    limit_seconds: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Target {
    /// Switch on
    On,
    /// Switch off, at once
    Off,
    /// Switch off and on
    Reboot,
    /// Ask what runs on it to shut down
    SoftOff,
    /// Ask what runs on it to shut down, and switch it on
    SoftReboot,
    /// Send a non-maskable interrupt
    Nmi,
}

impl Power {
    /// Asks for it, and waits if told to.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let (target, state) = match self.target {
            Target::On => (PowerTarget::On, PowerState::On),
            Target::Off => (PowerTarget::Off, PowerState::Off),
            Target::Reboot => (PowerTarget::Reboot, PowerState::On),
            Target::SoftOff => (PowerTarget::SoftOff, PowerState::Off),
            Target::SoftReboot => (PowerTarget::SoftReboot, PowerState::On),
            Target::Nmi => (PowerTarget::Nmi, PowerState::On),
        };
        let ask = async |Asked { node, command_id, version }| {
            let before = GetNodeRequest { node: node.clone(), ..GetNodeRequest::default() };
            let before = session.client.get_node(before).await?;
            let error_before = before.status.map(|status| status.last_error).unwrap_or_default();
            let request = SetNodePowerRequest {
                command_id,
                node,
                version,
                target: target.into(),
                limit_seconds: self.limit_seconds,
            };
            let node = session.client.set_node_power(request).await?;
            Ok((node, Goal::Power { state, error_before }))
        };
        self.verb.each(session, ask).await
    }
}

/// `node maintenance`.
#[derive(Debug, clap::Args)]
pub(crate) struct Maintenance {
    /// Whether conductors leave it alone
    switch: Switch,
    /// Name or id
    node: String,
    /// Why, for those who find it so
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    version: Version,
    #[command(flatten)]
    mutation: Mutation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    /// They leave it alone
    On,
    /// They drive it again
    Off,
}

impl Maintenance {
    /// Sets or clears it.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let request = SetNodeMaintenanceRequest {
            command_id: self.mutation.command_id(),
            node: self.node,
            version: self.version.version,
            maintenance: self.switch == Switch::On,
            reason: self.reason,
        };
        let node = session.client.set_node_maintenance(request).await?;
        let sentence = match self.switch {
            Switch::On => "is in maintenance",
            Switch::Off => "is out of maintenance",
        };
        super::answer(session.format, &node, sentence)
    }
}
