//! `node manage|inspect|clean|provide|undeploy|abort|unrescue|service|unhold`: verbs that need little but the node.

use bessemer_proto::v1::{CleanNodeRequest, NodeVerbRequest, ServiceNodeRequest};

use super::fan_out::{Asked, Verb};
use super::verdict::Goal;
use crate::failure::Failure;
use crate::session::Session;
use crate::step_argument::RequestedSteps;

impl From<Asked> for NodeVerbRequest {
    fn from(Asked { node, command_id, version }: Asked) -> Self {
        Self { command_id, node, version }
    }
}

impl Verb {
    pub(super) async fn manage(self, session: &Session) -> Result<(), Failure> {
        let ask = async |asked: Asked| {
            let node = session.client.manage_node(asked.into()).await?;
            Ok((node, Goal::State("manageable")))
        };
        self.each(session, ask).await
    }

    pub(super) async fn inspect(self, session: &Session) -> Result<(), Failure> {
        let ask = async |asked: Asked| {
            let node = session.client.inspect_node(asked.into()).await?;
            Ok((node, Goal::State("manageable")))
        };
        self.each(session, ask).await
    }

    pub(super) async fn provide(self, session: &Session) -> Result<(), Failure> {
        let ask = async |asked: Asked| {
            let node = session.client.provide_node(asked.into()).await?;
            Ok((node, Goal::State("available")))
        };
        self.each(session, ask).await
    }

    pub(super) async fn undeploy(self, session: &Session) -> Result<(), Failure> {
        let ask = async |asked: Asked| {
            let node = session.client.undeploy_node(asked.into()).await?;
            Ok((node, Goal::State("available")))
        };
        self.each(session, ask).await
    }

    pub(super) async fn unrescue(self, session: &Session) -> Result<(), Failure> {
        let ask = async |asked: Asked| {
            let node = session.client.unrescue_node(asked.into()).await?;
            Ok((node, Goal::State("active")))
        };
        self.each(session, ask).await
    }

    pub(super) async fn unhold(self, session: &Session) -> Result<(), Failure> {
        let ask = async |asked: Asked| {
            let node = session.client.unhold_node(asked.into()).await?;
            let goal = match super::state(&node) {
                "cleaning" => Goal::Rest,
                _ => Goal::State("active"),
            };
            Ok((node, goal))
        };
        self.each(session, ask).await
    }

    pub(super) async fn abort(self, session: &Session) -> Result<(), Failure> {
        let ask = async |asked: Asked| {
            let node = session.client.abort_node(asked.into()).await?;
            Ok((node, Goal::Rest))
        };
        self.each(session, ask).await
    }
}

/// `node clean`.
#[derive(Debug, clap::Args)]
pub(crate) struct Clean {
    #[command(flatten)]
    verb: Verb,
    /// `erase_devices_metadata` (partition tables and signatures) or `erase_devices` (overwrites the disks); repeatable
    #[arg(
        long = "clean-step",
        value_name = "STEP",
        required_unless_present_any = ["plugin_steps", "runbook"]
    )]
    clean_steps: Vec<String>,
    /// Universal steps and steps of the agent's plug-ins: a list of {step, args, priority, limit_seconds} as JSON or YAML, or a file with it
    #[arg(long, value_name = "FILE|JSON")]
    plugin_steps: Option<RequestedSteps>,
    /// Name or id of a runbook whose steps are done
    #[arg(long, conflicts_with_all = ["clean_steps", "plugin_steps"])]
    runbook: Option<String>,
}

impl Clean {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let plugin_steps = self.plugin_steps.unwrap_or_default().0;
        let runbook = self.runbook.unwrap_or_default();
        let ask = async |Asked { node, command_id, version }| {
            let request = CleanNodeRequest {
                command_id,
                node,
                version,
                clean_steps: self.clean_steps.clone(),
                plugin_steps: plugin_steps.clone(),
                runbook: runbook.clone(),
            };
            Ok((session.client.clean_node(request).await?, Goal::State("manageable")))
        };
        self.verb.each(session, ask).await
    }
}

/// `node service`.
#[derive(Debug, clap::Args)]
pub(crate) struct Service {
    #[command(flatten)]
    verb: Verb,
    /// Universal steps (`reboot`, `power_on`, `power_off`, `hold`, `wait`) and steps of the agent's plug-ins: a list of {step, args,
    /// priority, limit_seconds} as JSON or YAML, or a file with it
    #[arg(long, value_name = "FILE|JSON", required_unless_present = "runbook")]
    service_steps: Option<RequestedSteps>,
    /// Name or id of a runbook whose steps are done
    #[arg(long, conflicts_with = "service_steps")]
    runbook: Option<String>,
}

impl Service {
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let service_steps = self.service_steps.unwrap_or_default().0;
        let runbook = self.runbook.unwrap_or_default();
        let ask = async |Asked { node, command_id, version }| {
            let request = ServiceNodeRequest {
                command_id,
                node,
                version,
                service_steps: service_steps.clone(),
                runbook: runbook.clone(),
            };
            Ok((session.client.service_node(request).await?, Goal::State("active")))
        };
        self.verb.each(session, ask).await
    }
}
