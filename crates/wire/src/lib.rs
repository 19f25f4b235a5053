//! Conversions between the protocol buffers and the domain, and the one map from errors to gRPC status.
//!
//! Each module owns one family of messages. What comes from outside becomes a domain value or an `Invalid` that names
//! the field as the caller wrote it; what goes out has its secrets masked.

pub mod allocation;
pub mod conductor;
pub mod container;
pub mod deployment;
pub mod event;
mod failure;
pub mod inventory;
pub mod json;
pub mod mask;
pub mod node;
pub mod plan;
pub mod port;
pub mod quantity;
pub mod spec;
pub mod step;
pub mod template;
mod text;
pub mod time;
pub mod words;

pub use failure::{ERROR_DOMAIN, ErrorCode, Failure};
