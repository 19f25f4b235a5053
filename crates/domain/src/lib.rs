//! The pure core of Bessemer.
//!
//! Owns what a node, a port, a conductor and a plan of steps are, and the three functions that move them:
//! [`decide`] turns a command into events or a [`Rejection`], `evolve` folds an event into the [`State`], and
//! [`effects`] says what must be happening in the world for a given state. All three are synchronous, total and
//! deterministic: time, identities and randomness come in with the command. Nothing here does I/O, reads a clock or
//! knows how it is stored or sent. Beside them, as pure, the rules by which processes act on the state: [`lease`],
//! [`workload`], [`outbox`], [`task`] and [`rendezvous`]. The simulation runs all of it.

#![deny(clippy::wildcard_enum_match_arm, clippy::float_arithmetic)]

pub mod allocation;
pub mod chain;
pub mod command;
pub mod conductor;
pub mod decide;
pub mod effects;
pub mod event;
mod evolve;
pub mod ids;
mod invalid;
pub mod lease;
pub mod node;
pub mod outbox;
pub mod outcome;
pub mod port;
mod rejection;
pub mod rendezvous;
pub mod ring;
mod state;
pub mod task;
pub mod template;
mod timestamp;
pub mod turn;
pub mod workload;

pub use chain::{BrokenChain, ChainVerifier};
pub use command::{Command, CommandBody};
pub use event::{Event, EventHash, EventRecord, Revision, SealedEvent, Subject};
pub use invalid::Invalid;
pub use outcome::{Accepted, Outcome};
pub use rejection::Rejection;
pub use state::{Restored, State, Tip};
pub use timestamp::Timestamp;
