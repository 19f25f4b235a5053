//! `bessemer allocation`: machines for those who say what it has to have, and not which it is.

use bessemer_proto::v1::{
    Allocation, AllocationSpec, AllocationStatus, CreateAllocationRequest, DeleteAllocationRequest,
    GetAllocationRequest, ListAllocationsRequest,
};
use clap::Subcommand;

use crate::arguments::{KeyValue, Mutation, object};
use crate::failure::Failure;
use crate::output::{Column, View, print, quantity};
use crate::session::Session;

/// Allocations asked for at once; the API's limit.
const PAGE_SIZE: u32 = 1000;

const ALLOCATIONS: View<Allocation> = View {
    columns: &[
        Column { title: "NAME", wide: false, cell: |it, _| name(it) },
        Column { title: "RESOURCE CLASS", wide: false, cell: |it, _| spec(it).resource_class },
        Column { title: "STATE", wide: false, cell: |it, _| status(it).state },
        Column { title: "NODE", wide: false, cell: |it, _| status(it).node_id },
        Column { title: "OWNER", wide: true, cell: |it, _| spec(it).owner },
        Column { title: "ID", wide: true, cell: |it, _| id(it) },
        Column {
            title: "AGE",
            wide: false,
            cell: |it, now| {
                quantity::age(it.metadata.as_ref().and_then(|data| data.created_at.as_ref()), now)
            },
        },
        Column { title: "ERROR", wide: false, cell: |it, _| status(it).last_error },
    ],
    name: label,
    fields: |it, _| {
        vec![
            ("Name", name(it)),
            ("ID", id(it)),
            ("State", status(it).state),
            ("Node", status(it).node_id),
            ("Error", status(it).last_error),
            ("Resource class", spec(it).resource_class),
            ("Traits", spec(it).traits.join(", ")),
            ("Candidate nodes", spec(it).candidate_nodes.join("\n")),
            ("Owner", spec(it).owner),
        ]
    },
};

fn spec(allocation: &Allocation) -> AllocationSpec {
    allocation.spec.clone().unwrap_or_default()
}

fn status(allocation: &Allocation) -> AllocationStatus {
    allocation.status.clone().unwrap_or_default()
}

fn id(allocation: &Allocation) -> String {
    allocation.metadata.as_ref().map(|metadata| metadata.id.clone()).unwrap_or_default()
}

fn name(allocation: &Allocation) -> String {
    allocation.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default()
}

/// What people call it: its name, or its id when it has none.
fn label(allocation: &Allocation) -> String {
    Some(name(allocation)).filter(|name| !name.is_empty()).unwrap_or_else(|| id(allocation))
}

/// What can be asked of allocations.
#[derive(Debug, Subcommand)]
pub(crate) enum AllocationCommand {
    /// Get a machine that fits
    Create(Create),
    /// List allocations
    List(List),
    /// Show one
    Show(Show),
    /// Give its machine back
    Delete(Delete),
}

/// `allocation create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The resource class that the node must have
    #[arg(long, required_unless_present = "node", default_value = "", hide_default_value = true)]
    resource_class: String,
    /// Unique among allocations; a node of that name comes first
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// A trait that the node must have; repeatable
    #[arg(long = "trait", value_name = "TRAIT")]
    traits: Vec<String>,
    /// Name or id of a node that may be taken; repeatable. Others are not
    #[arg(long = "candidate-node", value_name = "NODE")]
    candidate_nodes: Vec<String>,
    /// The project that it is for
    #[arg(long, default_value = "", hide_default_value = true)]
    owner: String,
    /// Free for you; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    extra: Vec<KeyValue>,
    /// Name or id of a node that is `active` already and gets this allocation
    #[arg(long, default_value = "", hide_default_value = true)]
    node: String,
    #[command(flatten)]
    mutation: Mutation,
}

/// `allocation list`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// That of this node, by name or id
    #[arg(long, default_value = "", hide_default_value = true)]
    node: String,
    /// Of this resource class
    #[arg(long, default_value = "", hide_default_value = true)]
    resource_class: String,
    /// For this project
    #[arg(long, default_value = "", hide_default_value = true)]
    owner: String,
    /// `active` or `error`
    #[arg(long, default_value = "", hide_default_value = true)]
    state: String,
}

/// `allocation show`.
#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// Name or id
    allocation: String,
}

/// `allocation delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Name or id
    allocation: String,
    #[command(flatten)]
    mutation: Mutation,
}

impl AllocationCommand {
    /// Does it.
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(session).await,
            Self::List(list) => list.run(session).await,
            Self::Show(Show { allocation }) => {
                let request = GetAllocationRequest { allocation, stale_ok: false };
                let allocation = session.client.get_allocation(request).await?;
                session.format.show(&allocation, &ALLOCATIONS)
            }
            Self::Delete(delete) => delete.run(session).await,
        }
    }
}

impl Create {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let request = CreateAllocationRequest {
            command_id: self.mutation.command_id(),
            id: String::new(),
            name: self.name,
            spec: Some(AllocationSpec {
                resource_class: self.resource_class,
                traits: self.traits,
                candidate_nodes: self.candidate_nodes,
                owner: self.owner,
                extra: object(&self.extra),
            }),
            node: self.node,
        };
        let allocation = session.client.create_allocation(request).await?;
        session.format.show(&allocation, &ALLOCATIONS)?;
        match status(&allocation) {
            AllocationStatus { state, last_error, .. } if state == "error" => {
                let delete = format!("bessemer allocation delete {}", label(&allocation));
                Err(Failure::failed(last_error)
                    .hint(format!("`{delete}` forgets it; then ask again when there is one")))
            }
            _ => Ok(()),
        }
    }
}

impl List {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut allocations = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListAllocationsRequest {
                page_size: PAGE_SIZE,
                page_token,
                node: self.node.clone(),
                resource_class: self.resource_class.clone(),
                owner: self.owner.clone(),
                state: self.state.clone(),
                stale_ok: false,
            };
            let page = session.client.list_allocations(request).await?;
            allocations.extend(page.allocations);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return session.format.list(&allocations, &ALLOCATIONS);
            }
        }
    }
}

impl Delete {
    async fn run(self, session: &Session) -> Result<(), Failure> {
        let sentence = format!("allocation {} deleted\n", self.allocation);
        let (command_id, allocation) = (self.mutation.command_id(), self.allocation);
        let request = DeleteAllocationRequest { command_id, allocation };
        session.client.delete_allocation(request).await?;
        if session.format.is_data() { Ok(()) } else { print(&sentence) }
    }
}
