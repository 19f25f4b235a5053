//! `node manage|inspect|clean|provide|undeploy|abort|unrescue|service|unhold`: verbs that need little but the node.

use bessemer_proto::v1::{CleanNodeRequest, NodeVerbRequest, ServiceNodeRequest};

use super::verdict::Goal;
use super::wait::settle;
use crate::arguments::{Mutation, Version, Wait};
use crate::failure::Failure;
use crate::session::Session;
use crate::step_argument::RequestedSteps;

/// What such a verb takes.
#[derive(Debug, clap::Args)]
pub(crate) struct VerbArguments {
    /// Name or id
    node: String,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    version: Version,
    #[command(flatten)]
    mutation: Mutation,
}

impl VerbArguments {
    fn request(&self) -> NodeVerbRequest {
        NodeVerbRequest {
            command_id: self.mutation.command_id(),
            node: self.node.clone(),
            version: self.version.version,
        }
    }

    pub(super) async fn manage(self, session: &Session) -> Result<(), Failure> {
        let node = session.client.manage_node(self.request()).await?;
        settle(session, node, &Goal::State("manageable"), &self.wait).await
    }

    pub(super) async fn inspect(self, session: &Session) -> Result<(), Failure> {
        let node = session.client.inspect_node(self.request()).await?;
        settle(session, node, &Goal::State("manageable"), &self.wait).await
    }

    pub(super) async fn provide(self, session: &Session) -> Result<(), Failure> {
        let node = session.client.provide_node(self.request()).await?;
        settle(session, node, &Goal::State("available"), &self.wait).await
    }

    pub(super) async fn undeploy(self, session: &Session) -> Result<(), Failure> {
        let node = session.client.undeploy_node(self.request()).await?;
        settle(session, node, &Goal::State("available"), &self.wait).await
    }

    pub(super) async fn unrescue(self, session: &Session) -> Result<(), Failure> {
        let node = session.client.unrescue_node(self.request()).await?;
        settle(session, node, &Goal::State("active"), &self.wait).await
    }

    pub(super) async fn unhold(self, session: &Session) -> Result<(), Failure> {
        let node = session.client.unhold_node(self.request()).await?;
        let goal = match super::state(&node) {
            "cleaning" => Goal::Rest,
            _ => Goal::State("active"),
        };
        settle(session, node, &goal, &self.wait).await
    }

    pub(super) async fn abort(self, session: &Session) -> Result<(), Failure> {
        let node = session.client.abort_node(self.request()).await?;
        settle(session, node, &Goal::Rest, &self.wait).await
    }
}

/// `node clean`.
#[derive(Debug, clap::Args)]
pub(crate) struct Clean {
    #[command(flatten)]
    verb: VerbArguments,
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
        let NodeVerbRequest { command_id, node, version } = self.verb.request();
        let clean_steps = self.clean_steps;
        let plugin_steps = self.plugin_steps.unwrap_or_default().0;
        let runbook = self.runbook.unwrap_or_default();
        let request =
            CleanNodeRequest { command_id, node, version, clean_steps, plugin_steps, runbook };
        let node = session.client.clean_node(request).await?;
        settle(session, node, &Goal::State("manageable"), &self.verb.wait).await
    }
}

/// `node service`.
#[derive(Debug, clap::Args)]
pub(crate) struct Service {
    #[command(flatten)]
    verb: VerbArguments,
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
        let NodeVerbRequest { command_id, node, version } = self.verb.request();
        let service_steps = self.service_steps.unwrap_or_default().0;
        let runbook = self.runbook.unwrap_or_default();
        let request = ServiceNodeRequest { command_id, node, version, service_steps, runbook };
        let node = session.client.service_node(request).await?;
        settle(session, node, &Goal::State("active"), &self.verb.wait).await
    }
}
