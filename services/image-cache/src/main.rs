//! The image cache as a process.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bessemer_image_cache::{Config, decode, is_decoder, start};
use clap::Parser;

/// Prepares images once and serves them to agents.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML). Without one, the defaults.
    #[arg(long, value_name = "FILE", env = "BESSEMER_IMAGE_CACHE_CONFIG")]
    config: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    // Before there is a thread, which would not be confined.
    if is_decoder() { Ok(decode()) } else { serve() }
}

#[tokio::main]
async fn serve() -> anyhow::Result<ExitCode> {
    bessemer_runtime::install_tls_provider();
    let arguments = Arguments::parse();
    let config = match &arguments.config {
        Some(path) => bessemer_runtime::config::load(path)?,
        None => Config::default(),
    };
    let _telemetry = bessemer_runtime::telemetry::init("bessemer-image-cache", &config.telemetry)?;
    let stop = bessemer_runtime::on_signal().context("cannot handle signals")?;
    start(config, stop).await?.finished().await?;
    Ok(ExitCode::SUCCESS)
}
