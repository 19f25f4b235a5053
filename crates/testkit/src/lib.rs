//! Real clusters for tests: real binaries on loopback, killed and cut off on purpose.
//!
//! Nothing here pretends. What a test breaks is a process, a connection or a file, and what it waits for is a condition
//! with a deadline that says what was last seen.

mod cluster;
mod history;
mod image;
mod ipmi;
mod launch;
mod nats;
mod network;
mod pki;
mod process;
mod proxy;
mod python;
mod wait;

pub use cluster::{Cluster, Options, deployment_of, prost_struct, verb};
pub use history::{assert_stream_complete, settled_history};
pub use image::{PartitionedImage, digest_of_file, digest_of_prefix, empty_disk};
pub use ipmi::IpmiSimulator;
pub use launch::ImageCache;
pub use nats::NatsServer;
pub use network::{Cut, Host, Network, enter_own_network};
pub use pki::Pki;
pub use process::{Agent, Process, binary, free_port, peak_rss_bytes};
pub use proxy::Proxy;
pub use python::{python, run};
pub use wait::wait_for;
