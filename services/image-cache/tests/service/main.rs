//! The image cache as its clients see it: over gRPC and HTTP, against an origin that misbehaves.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod client;
mod crash;
mod decoder;
mod heal;
mod images;
mod origin;
mod prepare;
mod refuse;
mod registry;
mod replicas;
mod s3;
mod serve;
mod soak;
