//! `bessemer port`: the network interfaces of nodes.

use bessemer_proto::v1::{CreatePortRequest, DeletePortRequest, ListPortsRequest, Port, PortSpec};
use clap::Subcommand;

use crate::arguments::{KeyValue, Mutation, object};
use crate::failure::Failure;
use crate::output::{Column, View, print, quantity};
use crate::session::Session;

/// Ports asked for at once; the API's limit.
const PAGE_SIZE: u32 = 1000;

const PORTS: View<Port> = View {
    columns: &[
        Column { title: "ADDRESS", wide: false, cell: |port, _| address(port) },
        Column {
            title: "NODE",
            wide: false,
            cell: |port, _| spec(port).map(|spec| spec.node_id.clone()).unwrap_or_default(),
        },
        Column { title: "PXE", wide: false, cell: |port, _| pxe(port) },
        Column { title: "ID", wide: true, cell: |port, _| id(port) },
        Column {
            title: "PHYSICAL NETWORK",
            wide: true,
            cell: |port, _| {
                spec(port).map(|spec| spec.physical_network.clone()).unwrap_or_default()
            },
        },
        Column {
            title: "AGE",
            wide: false,
            cell: |port, now| {
                quantity::age(port.metadata.as_ref().and_then(|data| data.created_at.as_ref()), now)
            },
        },
    ],
    name: address,
    fields: |port, _| {
        vec![("Address", address(port)), ("ID", id(port)), ("Boots the agent", pxe(port))]
    },
};

fn spec(port: &Port) -> Option<&PortSpec> {
    port.spec.as_ref()
}

fn address(port: &Port) -> String {
    spec(port).map(|spec| spec.address.clone()).unwrap_or_default()
}

fn id(port: &Port) -> String {
    port.metadata.as_ref().map(|metadata| metadata.id.clone()).unwrap_or_default()
}

fn pxe(port: &Port) -> String {
    let enabled = spec(port).and_then(|spec| spec.pxe_enabled).unwrap_or(true);
    if enabled { "yes" } else { "no" }.to_owned()
}

/// What can be asked of ports.
#[derive(Debug, Subcommand)]
pub(crate) enum PortCommand {
    /// List network interfaces
    List(List),
    /// Add a network interface to a node
    Create(Create),
    /// Remove a network interface
    Delete(Delete),
}

/// `port list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only of this node, by name or id
    #[arg(long, default_value = "", hide_default_value = true)]
    node: String,
}

/// `port create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Name or id of the node
    node: String,
    /// MAC address
    address: String,
    /// Whether the node boots the agent from it
    #[arg(long, value_name = "true|false")]
    pxe_enabled: Option<bool>,
    /// The network it is plugged into
    #[arg(long, default_value = "", hide_default_value = true)]
    physical_network: String,
    /// Free for you; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    extra: Vec<KeyValue>,
    #[command(flatten)]
    mutation: Mutation,
}

/// `port delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// MAC address or id
    port: String,
    #[command(flatten)]
    mutation: Mutation,
}

impl PortCommand {
    /// Does it.
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(session).await,
            Self::Create(create) => create.run(session).await,
            Self::Delete(delete) => delete.run(session).await,
        }
    }
}

impl List {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut ports = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListPortsRequest {
                page_size: PAGE_SIZE,
                page_token,
                node: self.node.clone(),
                stale_ok: false,
            };
            let page = session.client.list_ports(request).await?;
            ports.extend(page.ports);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return session.format.list(&ports, &PORTS);
            }
        }
    }
}

impl Create {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let request = CreatePortRequest {
            command_id: self.mutation.command_id(),
            id: String::new(),
            node: self.node,
            spec: Some(PortSpec {
                node_id: String::new(),
                address: self.address,
                pxe_enabled: self.pxe_enabled,
                physical_network: self.physical_network,
                extra: object(&self.extra),
            }),
        };
        let port = session.client.create_port(request).await?;
        session.format.show(&port, &PORTS)
    }
}

impl Delete {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let sentence = format!("port {} deleted\n", self.port);
        let command_id = self.mutation.command_id();
        session.client.delete_port(DeletePortRequest { command_id, port: self.port }).await?;
        if session.format.is_data() { Ok(()) } else { print(&sentence) }
    }
}
