//! The `bessemer-conductor` binary.

use std::path::PathBuf;

use anyhow::Context as _;
use bessemer_conductor::Config;
use bessemer_hardware::fake::AgentRunner;
use clap::Parser;

/// Claims nodes, runs their steps and publishes their events.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file, TOML.
    #[arg(long, env = "BESSEMER_CONDUCTOR_CONFIG")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    bessemer_runtime::install_tls_provider();
    let arguments = Arguments::parse();
    let config: Config = bessemer_runtime::config::load(&arguments.config)?;
    let _telemetry = bessemer_runtime::telemetry::init("bessemer-conductor", &config.telemetry)?;
    let stop = bessemer_runtime::on_signal()?;
    let program = config.fake.as_ref().map(|fake| fake.agent_program.clone()).unwrap_or_default();
    let id = config.id.clone();
    let handle = bessemer_conductor::start(config, AgentRunner::Program(program), stop)
        .await
        .context("conductor not started")?;
    tracing::info!(conductor.id = id, address = %handle.address, "conductor started");
    handle.stopped().await;
    Ok(())
}
