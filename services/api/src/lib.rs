//! The API service: gRPC over the replicated ledger, Ironic's REST API, and a dashboard for people.
//!
//! A request becomes a command, the command an outcome, and the answer is read from the state that holds it. What the
//! ledger need not know, heartbeats and progress, is kept here in memory. Knows nothing of hardware or images.

mod allocation;
mod api;
mod caller;
mod cluster;
mod commit;
mod conductor;
mod config;
mod dashboard;
mod event;
mod expiry;
mod health;
mod image;
mod ledger_error;
mod lookup;
mod metrics;
mod node;
mod page;
mod port;
mod progress;
mod project;
mod reference;
mod rescue;
mod rest;
mod service;
mod template;
mod wait;

pub use bessemer_ledger::{MemberId, backup};
pub use config::{Config, Member};
pub use rest::AuthStrategy;
pub use service::{Handle, ServeError, StartError, start, start_on};
