//! `event replay`: what the cluster was like at a revision, worked out anew from an exported history alone.

use std::path::PathBuf;

use bessemer_domain::{EventHash, EventRecord, SealedEvent, State};
use bessemer_proto::v1::{Event, Node};
use bessemer_wire::node;

use super::history;
use crate::failure::Failure;
use crate::node::columns::NODES;
use crate::session::Session;

/// `event replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct Replay {
    /// What `bessemer event export` wrote
    file: PathBuf,
    /// Up to this revision; without it, all of it
    #[arg(long = "at", value_name = "REVISION", value_parser = clap::value_parser!(u64).range(1..))]
    at_revision: Option<u64>,
    /// Only this node, by name or id, with all that is known of it
    #[arg(long)]
    node: Option<String>,
}

impl Replay {
    /// Checks the history, folds it, and prints the nodes. Asks no cluster.
    pub(super) fn run(self, session: &Session) -> Result<(), Failure> {
        let mut state = State::default();
        let chain = history::of_file(&self.file, self.at_revision, |_, event| {
            state.evolve(&sealed(event)?);
            Ok(())
        })?;
        if let Some(asked) = self.at_revision.filter(|asked| *asked > chain.revision()) {
            let (path, newest) = (self.file.display(), chain.revision());
            return Err(Failure::refused(format!(
                "--at {asked} is beyond the newest revision in {path}, {newest}"
            )));
        }
        let Some(wanted) = self.node else {
            let nodes: Vec<_> = state.nodes().map(|node| node::to_proto(&state, node)).collect();
            return session.format.list(&nodes, &NODES);
        };
        session.format.show(&find(&state, &wanted, chain.revision())?, &NODES)
    }
}

/// An event whose place and hash have been checked.
fn sealed(event: &Event) -> Result<SealedEvent, Failure> {
    let unknown = |reason: String| {
        Failure::failed(format!("event {} cannot be replayed: {reason}", event.revision))
            .hint("a newer version may have written it; replay with that version")
    };
    let record = EventRecord::decode(&event.record).map_err(|error| unknown(error.to_string()))?;
    let hash = <[u8; 32]>::try_from(&*event.hash).map_err(|error| unknown(error.to_string()))?;
    Ok(SealedEvent { record, bytes: event.record.to_vec(), hash: EventHash(hash) })
}

fn find(state: &State, wanted: &str, revision: u64) -> Result<Node, Failure> {
    let mut named = state.nodes().filter(|node| {
        node.id.to_string() == wanted
            || node.name.as_ref().is_some_and(|name| name.as_str() == wanted)
    });
    let node = named.next().ok_or_else(|| {
        Failure::refused(format!("no node `{wanted}` at revision {revision}"))
            .hint("without --node, all there were are listed")
    })?;
    Ok(node::to_proto(state, node))
}
