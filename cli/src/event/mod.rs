//! `bessemer event`: the history of the cluster.

mod archive;
pub(crate) mod chain;
mod export;
mod history;
mod record;
mod replay;
mod tail;
mod verify;

pub(crate) use bessemer_wire::words::describe;
use clap::Subcommand;

pub(crate) use record::{Printed, Record};
pub(crate) use verify::verify;

use crate::failure::Failure;
use crate::session::Session;

/// What can be asked of the history.
#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Print events as they happen
    Tail(tail::Tail),
    /// Check all of history: nothing missing, nothing altered
    Verify(verify::Verify),
    /// Write all of history to a file, checked on the way
    Export(export::Export),
    /// What the cluster was like at a revision, from an exported history alone
    Replay(replay::Replay),
}

impl EventCommand {
    /// Does it.
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Tail(tail) => tail.run(session).await,
            Self::Verify(verify) => verify.run(session).await,
            Self::Export(export) => export.run(session).await,
            Self::Replay(replay) => replay.run(session),
        }
    }
}
