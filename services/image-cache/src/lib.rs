//! The image cache: prepares images once and serves them to agents.
//!
//! Conductors ask over gRPC for an image to be prepared; whoever asks for the same one shares the
//! work. The source is fetched, verified, decoded and packed in one pass ([`bessemer_image::pack`]);
//! agents then read manifest and pack over HTTP. Nothing is published before the source's digest is
//! known to be right, nothing damaged is served, and a damaged pack is healed from its source.
//!
//! [`start`] runs a cache within a process; `main` is a thin shell around it. A program that does so asks [`is_decoder`]
//! before anything else.

mod cache;
mod catalogue;
mod config;
mod decode;
mod durable;
mod error;
mod fetch;
mod heal;
mod layout;
mod manifests;
mod metrics;
mod prepare;
mod registry;
mod replicas;
mod request;
mod serve;
mod service;
mod space;

pub use config::{Config, DEFAULT_COMPRESSION_LEVEL, InvalidConfig};
pub use decode::{decode, is_decoder};
pub use error::PrepareError;
pub use fetch::{CredentialsConfig, HttpConfig, S3Config};
pub use service::{Handle, StartError, start};
