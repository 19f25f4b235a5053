//! Runs a member of the API until it is told to stop.

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

/// Applying commands allocates much, on threads that come and go; the system's allocator took a quarter of the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A member of the Bessemer API: takes requests, keeps the ledger.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file, TOML.
    #[arg(long, default_value = "/etc/bessemer/api.toml")]
    config: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    bessemer_runtime::install_tls_provider();
    let arguments = Arguments::parse();
    let config: bessemer_api::Config = bessemer_runtime::config::load(&arguments.config)?;
    let _telemetry = bessemer_runtime::telemetry::init("bessemer-api", &config.telemetry)?;
    let shutdown = bessemer_runtime::on_signal().context("cannot handle signals")?;
    let service = bessemer_api::start(config, shutdown).await?;
    Ok(service.stopped().await?)
}
