//! The replicated ledger: Raft log, event store, snapshots, membership, forwarding.
//!
//! Owns how commands become durable and ordered, and how every member comes to the same events and the same state. A
//! command goes into the Raft log ([`Ledger::propose`]); a committed entry is applied by the pure core of
//! `bessemer-domain` on every member; its events are kept and can be read and watched. Knows nothing of what a node is.

pub mod backup;
mod change;
mod config;
#[cfg(test)]
mod conformance;
mod entry;
mod error;
mod form;
mod home;
mod ledger;
mod log;
mod machine;
mod member;
mod membership;
mod network;
mod propose;
mod raft;
mod read;
mod route;
mod standing;
mod status;
mod store;
mod view;
mod watch;

pub use change::{Change, ChangeError, Changed};
pub use config::Config;
pub use error::{OpenError, ProposeError, ReadError, SnapshotError, StoreError, WatchError};
pub use ledger::{Ledger, Proposed};
pub use member::{MemberAddress, MemberId};
pub use network::{PeerService, RaftServiceServer};
pub use status::{MemberStatus, Status};
pub use store::StoredEvent;
