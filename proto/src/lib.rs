//! Bessemer's protocol buffers and the code generated from them. Holds no logic.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    reason = "generated from the .proto files, which carry the documentation"
)]

/// The public API and the services that conductors, agents and caches speak.
pub mod v1 {
    tonic::include_proto!("bessemer.v1");
}

/// What members of the Raft group say to each other.
pub mod raft {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("bessemer.raft.v1");
    }
}

/// The encoded descriptors of all files, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
