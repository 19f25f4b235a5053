//! Committed writes per second against etcd, on the same disk in the same run.
//!
//! Both sides are real processes that sync every write, one or three members, driven by the same client code: one unary
//! gRPC call a write, sent to the leader over the same number of connections. Ours is an `UpdateNode` of about 300 bytes
//! on one of 10,000 nodes, decided, applied and recorded as an event; etcd's is a `Put` of a value of 300 bytes on one of
//! 10,000 keys.

mod etcd;
mod load;
mod ours;

use std::path::Path;
use std::process::Stdio;

use anyhow::Context;
use clap::Args;
use tokio::process::{Child, Command};

pub(crate) use self::ours::MemberArguments;
use crate::report::Report;

/// Nodes, and keys, that writes are spread over.
const SUBJECTS: u64 = 10_000;

/// Writes in a call in bulk.
const BULK: u64 = 64;

/// Clients, and what each of their calls carries.
#[derive(Debug, Clone, Copy)]
struct Case {
    clients: usize,
    writes_in_call: u64,
}

/// What is measured.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Sizes of cluster.
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    members: Vec<usize>,
    /// Numbers of clients, each with one write under way.
    #[arg(long, value_delimiter = ',', default_value = "1,16,128,1024")]
    clients: Vec<usize>,
    /// The same for calls that carry [`BULK`] writes each.
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    bulk_clients: Vec<usize>,
    /// Seconds that each case is measured, after one second of warming up.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
}

impl Arguments {
    fn cases(&self) -> impl Iterator<Item = Case> {
        let single = self.clients.iter().map(|clients| (clients, 1));
        let bulk = self.bulk_clients.iter().map(|clients| (clients, BULK));
        single.chain(bulk).map(|(&clients, writes_in_call)| Case { clients, writes_in_call })
    }
}

/// Runs all cases and prints a table, then one `ratio` line for each.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let columns = ["ours/s", "p50 ms", "p99 ms", "etcd/s", "p50 ms", "p99 ms"];
    let mut report = Report::new("ledger", &columns);
    for members in &arguments.members {
        let ours = ours::measure(*members, &arguments).await.context("bessemer")?;
        let peer = etcd::measure(*members, &arguments).await.context("etcd")?;
        for ((case, ours), peer) in arguments.cases().zip(ours).zip(peer) {
            let bulk = if case.writes_in_call > 1 { "-bulk" } else { "" };
            let case = format!("{members}x{}{bulk}", case.clients);
            let row = ours.cells().into_iter().chain(peer.cells()).collect();
            report.more_is_better(&case, ours.per_second(), peer.per_second(), row);
        }
    }
    report.print();
    Ok(())
}

/// Runs one member of our cluster until killed.
pub(crate) async fn run_member(arguments: MemberArguments) -> anyhow::Result<()> {
    ours::run_member(arguments).await
}

/// Starts a process that ends with its handle, its output in a file.
fn start(command: &mut Command, log: &Path) -> anyhow::Result<Child> {
    let log = std::fs::File::create(log)?;
    let child = command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    Ok(child)
}

/// A port that was free a moment ago.
fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
