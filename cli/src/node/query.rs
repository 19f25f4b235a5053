//! `node list` and `node show`.

use bessemer_proto::v1::{GetNodeRequest, ListNodesRequest, Node, NodeFilter};

use super::columns::NODES;
use crate::failure::Failure;
use crate::session::Session;

/// Nodes asked for at once; the API's limit.
const PAGE_SIZE: u32 = 1000;

/// `node list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// In one of these provision states; repeatable
    #[arg(long = "state", value_name = "STATE")]
    states: Vec<String>,
    /// Of this hardware type
    #[arg(long, default_value = "", hide_default_value = true)]
    driver: String,
    /// Of this resource class
    #[arg(long, default_value = "", hide_default_value = true)]
    resource_class: String,
    /// Of this conductor group
    #[arg(long, default_value = "", hide_default_value = true)]
    conductor_group: String,
    /// Of this owner
    #[arg(long, default_value = "", hide_default_value = true)]
    owner: String,
    /// In maintenance, or not
    #[arg(long, value_name = "true|false")]
    maintenance: Option<bool>,
    /// Driven by this conductor
    #[arg(long, default_value = "", hide_default_value = true)]
    conductor: String,
    /// Lent to this project
    #[arg(long, default_value = "", hide_default_value = true)]
    lessee: String,
    /// In this part of the fleet
    #[arg(long, default_value = "", hide_default_value = true)]
    shard: String,
    /// Parts of the node with this id
    #[arg(long, value_name = "UUID", default_value = "", hide_default_value = true)]
    parent_node: String,
    /// Protected, or not
    #[arg(long, value_name = "true|false")]
    protected: Option<bool>,
    /// Retired, or not
    #[arg(long, value_name = "true|false")]
    retired: Option<bool>,
    /// With this fault, such as `clean failure`
    #[arg(long, default_value = "", hide_default_value = true)]
    fault: String,
    /// With this trait; repeatable
    #[arg(long = "trait", value_name = "TRAIT")]
    traits: Vec<String>,
}

impl List {
    /// Reads all pages and prints them as one list.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let filter = NodeFilter {
            provision_states: self.states,
            driver: self.driver,
            resource_class: self.resource_class,
            conductor_group: self.conductor_group,
            owner: self.owner,
            maintenance: self.maintenance,
            conductor: self.conductor,
            lessee: self.lessee,
            shard: self.shard,
            parent_node: self.parent_node,
            protected: self.protected,
            retired: self.retired,
            fault: self.fault,
            traits: self.traits,
        };
        session.format.list(&all(session, &filter).await?, &NODES)
    }
}

/// All nodes that match, page by page.
pub(crate) async fn all(session: &Session, filter: &NodeFilter) -> Result<Vec<Node>, Failure> {
    let (mut nodes, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListNodesRequest {
            page_size: PAGE_SIZE,
            page_token,
            filter: Some(filter.clone()),
            stale_ok: false,
        };
        let page = session.client.list_nodes(request).await?;
        nodes.extend(page.nodes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(nodes);
        }
    }
}

/// `node show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Name or id
    node: String,
    /// As it was when history had come to this revision; by id also of a node that is no more
    #[arg(long = "at", value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    at_revision: Option<u64>,
}

impl Show {
    /// Reads and prints it.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let at_revision = self.at_revision.unwrap_or_default();
        let request = GetNodeRequest { node: self.node, at_revision, ..GetNodeRequest::default() };
        let node = session.client.get_node(request).await?;
        session.format.show(&node, &NODES)
    }
}
