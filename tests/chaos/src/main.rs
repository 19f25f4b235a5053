//! Chaos: machines are deployed again and again, and nodes written and read through every member, while parts of the
//! cluster are killed, paused or restarted. In the end every deployment must have succeeded, every disk be right, history
//! be whole, and what clients saw be linearizable.

mod checks;
mod faults;
mod fleet;
mod registers;

use std::time::Duration;

use anyhow::Context;
use bessemer_testkit::{
    Cluster, Network, Options, PartitionedImage, digest_of_file, enter_own_network,
};
use clap::Parser;
use tokio::time::Instant;

use crate::faults::{Faults, Kind};
use crate::fleet::Fleet;
use crate::registers::Registers;

/// Deploys machines on a cluster of real processes that does not get a quiet minute.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// Machines, each with an agent of its own.
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// How long faults go on; deployments that are under way then are still awaited.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Time from one fault to the next.
    #[arg(long, default_value_t = 5)]
    every_seconds: u64,
    /// What is done to the cluster.
    #[arg(long, value_enum, default_value_t = Kind::Random)]
    faults: Kind,
    /// Repeats the same faults; drawn when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Size of the image in MiB.
    #[arg(long, default_value_t = 64)]
    image_mib: u64,
}

/// How long the last deployments may take once the faults have ended.
const SETTLE_LIMIT: Duration = Duration::from_secs(600);

/// Conductors: one may be down, and one more paused.
const CONDUCTORS: usize = 3;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.faults == Kind::Network {
        enter_own_network()?;
    }
    tokio::runtime::Runtime::new()?.block_on(chaos(&arguments))
}

async fn chaos(arguments: &Arguments) -> anyhow::Result<()> {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let network =
        if arguments.faults == Kind::Network { Network::Hosts } else { Network::Loopback };
    let options = Options { conductors: CONDUCTORS, caches: 2, network, ..Options::default() };
    let mut cluster = Cluster::start(&options).await?;
    let outcome = run(arguments, seed, &mut cluster).await;
    outcome.with_context(|| cluster.last_words())
}

async fn run(arguments: &Arguments, seed: u64, cluster: &mut Cluster) -> anyhow::Result<()> {
    let image =
        PartitionedImage::build(cluster.home(), arguments.image_mib, arguments.image_mib / 2)?;
    let mut fleet = Fleet {
        client: cluster.client.clone(),
        machines_dir: cluster.home().join("machines"),
        image_sha256: digest_of_file(&image.qcow2)?,
        raw_sha256: digest_of_file(&image.raw)?,
        image: image.qcow2,
        deployments: 0,
    };
    let began = Instant::now();
    fleet.enrol(arguments.nodes, image.raw_bytes).await?;
    println!("{} machines available after {} s", arguments.nodes, began.elapsed().as_secs());

    let mut registers = Registers::create(cluster).await?;
    let api_urls = cluster.api_urls().to_vec();
    let mut faults = Faults::new(arguments.faults, seed);
    let began = Instant::now();
    let until = began + Duration::from_secs(arguments.seconds);
    fleet.deploy_all().await?;
    let deploying = fleet.keep_deploying(until, SETTLE_LIMIT);
    let breaking = faults.go_on(cluster, until, Duration::from_secs(arguments.every_seconds));
    let registering = registers.use_until(&api_urls, until, seed);
    let ((), (), ()) = futures::try_join!(deploying, breaking, registering)?;
    println!(
        "{} deployments succeeded in {} s, during {}",
        fleet.deployments,
        began.elapsed().as_secs(),
        faults.told()
    );
    checks::all(cluster, &fleet, &registers).await
}
