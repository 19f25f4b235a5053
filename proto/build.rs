//! Compiles the `.proto` files with protox, so that no `protoc` is needed.

use std::path::{Path, PathBuf};

const FILES: &[&str] = &[
    "bessemer/v1/agent.proto",
    "bessemer/v1/allocation.proto",
    "bessemer/v1/cluster.proto",
    "bessemer/v1/conductor.proto",
    "bessemer/v1/event.proto",
    "bessemer/v1/image.proto",
    "bessemer/v1/node.proto",
    "bessemer/v1/port.proto",
    "bessemer/v1/resource.proto",
    "bessemer/v1/template.proto",
    "bessemer/raft/v1/raft.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed=bessemer");
    let descriptors = protox::compile(FILES, [&root])?;
    std::fs::write(
        Path::new(&out).join("descriptors.bin"),
        prost::Message::encode_to_vec(&descriptors),
    )?;
    tonic_prost_build::configure()
        // In order, so that a request that is sent again has the same bytes: they tell it from another with its id.
        .btree_map(".bessemer.v1.DeploymentSpec")
        .bytes(".bessemer.raft.v1")
        .bytes(".bessemer.v1.ReplicateResponse")
        .bytes(".bessemer.v1.Event")
        .bytes(".bessemer.v1.BackupResponse")
        .compile_fds_with_config(descriptors, type_names())?;
    Ok(())
}

/// Messages know their full names, so that a descriptor is found for any of them.
fn type_names() -> tonic_prost_build::Config {
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    config
}
