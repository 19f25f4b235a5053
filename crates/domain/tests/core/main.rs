//! The core through its public face: commands in, events and effects out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod allocations;
mod fields;
mod frozen;
mod lifecycle;
mod plans;
mod provision_table;
mod random_walks;
mod rescue_and_service;
mod templates;
mod world;
