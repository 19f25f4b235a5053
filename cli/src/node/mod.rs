//! `bessemer node`: machines and what is asked of them.

pub(crate) mod columns;
mod deploy;
mod edit;
mod fan_out;
pub(crate) mod history;
mod power;
mod provision;
pub(crate) mod query;
mod range;
mod rescue;
mod selection;
mod spec;
pub(crate) mod steps;
pub(crate) mod verdict;
pub(crate) mod wait;

use bessemer_proto::v1::Node;
use clap::Subcommand;

use crate::failure::Failure;
use crate::output::{Format, print};
use crate::session::Session;

/// What can be asked of nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Enrol a machine
    Create(edit::Create),
    /// List machines
    List(query::List),
    /// Show all that is known of a machine
    Show(query::Show),
    /// Change what you said of a machine
    Set(edit::Set),
    /// Stop managing a machine
    Delete(edit::Delete),
    /// Take under management: enroll → manageable; available → manageable
    Manage(fan_out::Verb),
    /// Boot the agent and record what the machine is made of: manageable → inspecting → manageable
    Inspect(fan_out::Verb),
    /// Take over a machine with what runs on it, and touch nothing: manageable → active
    Adopt(deploy::Adopt),
    /// Do steps of cleaning: manageable → cleaning → manageable
    Clean(provision::Clean),
    /// Clean and offer: manageable → available
    Provide(fan_out::Verb),
    /// Put an image on it: available → active
    Deploy(deploy::Deploy),
    /// Put an image on it again; without --image, the last deployment is repeated
    Rebuild(deploy::Rebuild),
    /// Take the image off it and clean: active → available
    Undeploy(fan_out::Verb),
    /// Stop what is going on
    Abort(fan_out::Verb),
    /// Boot the ramdisk, and let user `rescue` log in: active → rescue
    Rescue(rescue::Rescue),
    /// Boot its own system again: rescue → active
    Unrescue(fan_out::Verb),
    /// Do steps on a machine that keeps its deployment: active → servicing → active
    Service(provision::Service),
    /// Go on after a step `hold`
    Unhold(fan_out::Verb),
    /// Switch on, off, or off and on; shut down; send an NMI
    Power(power::Power),
    /// Have conductors leave it alone, or not
    Maintenance(power::Maintenance),
    /// Tell what happened to it, and when
    History(history::History),
}

impl NodeCommand {
    /// Does it.
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run(session).await,
            Self::List(list) => list.run(session).await,
            Self::Show(show) => show.run(session).await,
            Self::Set(set) => set.run(session).await,
            Self::Delete(delete) => delete.run(session).await,
            Self::Manage(verb) => verb.manage(session).await,
            Self::Inspect(verb) => verb.inspect(session).await,
            Self::Adopt(adopt) => adopt.run(session).await,
            Self::Clean(clean) => clean.run(session).await,
            Self::Provide(verb) => verb.provide(session).await,
            Self::Deploy(deploy) => deploy.run(session).await,
            Self::Rebuild(rebuild) => rebuild.run(session).await,
            Self::Undeploy(verb) => verb.undeploy(session).await,
            Self::Abort(verb) => verb.abort(session).await,
            Self::Rescue(rescue) => rescue.run(session).await,
            Self::Unrescue(verb) => verb.unrescue(session).await,
            Self::Service(service) => service.run(session).await,
            Self::Unhold(verb) => verb.unhold(session).await,
            Self::Power(power) => power.run(session).await,
            Self::Maintenance(maintenance) => maintenance.run(session).await,
            Self::History(history) => history.run(session).await,
        }
    }
}

/// What people call a node: its name, or its id when it has none.
pub(crate) fn label(node: &Node) -> &str {
    match &node.metadata {
        Some(metadata) if metadata.name.is_empty() => &metadata.id,
        Some(metadata) => &metadata.name,
        None => "",
    }
}

/// The provision state as the API tells it.
pub(crate) fn state(node: &Node) -> &str {
    node.status.as_ref().map_or("", |status| &status.provision_state)
}

/// Prints a node that was changed: in a sentence for people, whole for programs.
fn answer(format: Format, node: &Node, sentence: &str) -> Result<(), Failure> {
    match format {
        Format::Table | Format::Wide => print(&format!("node {} {sentence}\n", label(node))),
        Format::Json | Format::Yaml | Format::Name => format.show(node, &columns::NODES),
    }
}
