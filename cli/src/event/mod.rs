//! `bessemer event`: the history of the cluster.

pub(crate) mod chain;
mod record;
mod tail;
mod verify;
mod words;

use clap::Subcommand;

pub(crate) use record::{Printed, Record};
pub(crate) use verify::verify;
pub(crate) use words::describe;

use crate::failure::Failure;
use crate::session::Session;

/// What can be asked of the history.
#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Print events as they happen
    Tail(tail::Tail),
    /// Check all of history: nothing missing, nothing altered
    Verify(verify::Verify),
}

impl EventCommand {
    /// Does it.
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Tail(tail) => tail.run(session).await,
            Self::Verify(verify) => verify.run(session).await,
        }
    }
}
