//! Virtual machines with empty disks, BMCs that speak Redfish, and a real cluster: what a data centre does, on one computer.
//!
//! Everything is set up once. The scenarios run one after the other, since a machine with an emulated processor takes a
//! core; each says how long it took.

mod console;
mod domain;
mod lab;
mod ramdisk;
mod scenario;
mod site;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;

use crate::scenario::Scenario;
use crate::site::Site;

/// What `run` passes on.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these scenarios.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// The agent, statically linked.
    #[arg(long, value_name = "PATH")]
    agent: PathBuf,
    /// The program of sushy-tools.
    #[arg(long, value_name = "PATH")]
    sushy_emulator: PathBuf,
    /// Debian package of the ramdisk's kernel. The default has few drivers and starts faster.
    #[arg(long, value_name = "NAME", default_value = "linux-image-cloud-amd64")]
    kernel_package: String,
}

/// A scenario may take that long.
const SCENARIO_LIMIT: Duration = Duration::from_secs(90);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tokio::select! {
        outcome = run(&arguments) => outcome,
        // What was started ends with the site.
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            anyhow::bail!("interrupted")
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut site = Site::prepare(arguments).await?;
    println!("set-up: {:.1} s", began.elapsed().as_secs_f64());
    let wanted = if arguments.scenarios.is_empty() { Scenario::ALL } else { &arguments.scenarios };
    for scenario in wanted {
        let began = Instant::now();
        let outcome = scenario.run(&mut site).await;
        outcome.with_context(|| format!("scenario {scenario:?}\n{}", site.last_words()))?;
        let took = began.elapsed();
        println!("{scenario:?}: passed, {:.1} s", took.as_secs_f64());
        if took > SCENARIO_LIMIT {
            println!("{scenario:?}: took longer than {SCENARIO_LIMIT:?}; is the computer busy?");
        }
    }
    Ok(())
}
