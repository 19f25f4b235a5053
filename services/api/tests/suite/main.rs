//! A real member on a real ledger, asked over gRPC and HTTP on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agents;
mod allocations;
mod conductors;
mod dashboard;
mod errors;
mod events;
mod member;
mod members;
mod metrics;
mod nodes;
mod rest;
mod restart;
mod templates;
