//! Images in container registries: what a reference stands for, and who the cache is to a registry.

mod challenge;
mod pin;
mod reference;
mod resolve;

pub(crate) use challenge::{Challenge, Token};
pub(crate) use pin::pin;
pub(crate) use reference::Reference;
pub(crate) use resolve::resolve;
