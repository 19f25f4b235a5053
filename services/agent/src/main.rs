//! The `bessemer-agent` binary.

use bessemer_agent::Config;
use clap::Parser;

/// Threads of the runtime: the network needs no more; disks and decoding have their own.
const RUNTIME_THREADS: usize = 2;

fn main() -> anyhow::Result<()> {
    bessemer_runtime::install_tls_provider();
    let config = Config::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let telemetry = bessemer_runtime::telemetry::Config {
            file: config.log_file.clone(),
            ..Default::default()
        };
        let _telemetry = bessemer_runtime::telemetry::init("bessemer-agent", &telemetry)?;
        let stop = bessemer_runtime::on_signal()?;
        bessemer_agent::run(config, stop).await?;
        Ok(())
    })
}
