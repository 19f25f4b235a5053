//! `node manage|provide|undeploy|abort`: verbs that need nothing but the node.

use bessemer_proto::v1::NodeVerbRequest;

use super::verdict::Goal;
use super::wait::settle;
use crate::arguments::{Mutation, Version, Wait};
use crate::failure::Failure;
use crate::session::Session;

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

    pub(super) async fn provide(self, session: &Session) -> Result<(), Failure> {
        let node = session.client.provide_node(self.request()).await?;
        settle(session, node, &Goal::State("available"), &self.wait).await
    }

    pub(super) async fn undeploy(self, session: &Session) -> Result<(), Failure> {
        let node = session.client.undeploy_node(self.request()).await?;
        settle(session, node, &Goal::State("available"), &self.wait).await
    }

    pub(super) async fn abort(self, session: &Session) -> Result<(), Failure> {
        let node = session.client.abort_node(self.request()).await?;
        settle(session, node, &Goal::Rest, &self.wait).await
    }
}
