//! Benches: each measures us and a peer on the same work in the same run, one after the other.

mod agent;
mod control_plane;
mod disk;
mod failover;
mod fleet;
mod ledger;
mod origin;
mod prepare;
mod reimage;
mod report;
mod swarm;

use bessemer_testkit::enter_own_network;
use clap::{Parser, Subcommand};

/// As the API has it: some benches run a member of its cluster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures Bessemer side by side with what it replaces.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Preparing an image, against curl, qemu-img convert and openssl one after the other.
    Prepare(prepare::Arguments),
    /// Writing an image to a disk, against `curl | dd` and against downloading and converting a qcow2.
    Agent(agent::Arguments),
    /// Ironic's REST API, against a real Ironic.
    ControlPlane(control_plane::Arguments),
    /// Writing the next version of an image over the one before, against writing it to an empty disk.
    Reimage(reimage::Arguments),
    /// How long a killed leader and a killed conductor are missed.
    Failover(failover::Arguments),
    /// A fleet's life, by its size: enrolled, made available, deployed.
    Fleet(fleet::Arguments),
    /// Many machines that read one image from two caches at once, one of which is lost in the middle.
    Swarm(swarm::Arguments),
    /// Committed writes per second, against etcd.
    Ledger(ledger::Arguments),
    /// One member of the cluster that `ledger` measures.
    #[command(hide = true)]
    LedgerMember(ledger::MemberArguments),
}

fn main() -> anyhow::Result<()> {
    let bench = Arguments::parse().bench;
    if matches!(bench, Bench::Swarm(_)) {
        enter_own_network()?;
    }
    tokio::runtime::Runtime::new()?.block_on(measure(bench))
}

async fn measure(bench: Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Prepare(arguments) => prepare::run(arguments).await,
        Bench::Agent(arguments) => agent::run(arguments).await,
        Bench::ControlPlane(arguments) => control_plane::run(arguments).await,
        Bench::Reimage(arguments) => reimage::run(arguments).await,
        Bench::Failover(arguments) => failover::run(arguments).await,
        Bench::Fleet(arguments) => fleet::run(arguments).await,
        Bench::Swarm(arguments) => swarm::run(arguments).await,
        Bench::Ledger(arguments) => ledger::run(arguments).await,
        Bench::LedgerMember(arguments) => ledger::run_member(arguments).await,
    }
}
