//! The `bessemer` command: asks a cluster and shows its answers.

mod allocation;
mod arguments;
mod cluster;
mod command;
mod conductor;
mod config_drive;
mod demo;
mod dev;
mod doctor;
mod event;
mod failure;
mod image;
mod image_argument;
mod machines;
mod node;
mod output;
mod partition_arguments;
mod pki;
mod port;
mod progress;
mod secrets;
mod session;
mod step_argument;
mod template;
mod token;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::ExitCode;

use bessemer_runtime::telemetry;
use clap::Parser;
use tokio::runtime::Builder;

use crate::command::CommandLine;
use crate::failure::{Failure, chain};

/// Threads of an agent's runtime: the network needs no more; disks and decoding have their own.
const AGENT_THREADS: usize = 2;

fn main() -> ExitCode {
    // Before there is a thread, which would not be confined.
    if bessemer_image_cache::is_decoder() {
        return bessemer_image_cache::decode();
    }
    bessemer_runtime::install_tls_provider();
    let result = if is_agent() {
        run(Builder::new_multi_thread().worker_threads(AGENT_THREADS), agent())
    } else {
        let command_line = CommandLine::parse();
        run(&mut Builder::new_multi_thread(), command_line.run())
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Whether this program was started under the agent's name, as the demo's machines do it.
fn is_agent() -> bool {
    let name = std::env::args_os().next().map(PathBuf::from);
    name.is_some_and(|name| name.file_name() == Some(OsStr::new(demo::AGENT_PROGRAM)))
}

async fn agent() -> Result<(), Failure> {
    let config = bessemer_agent::Config::parse();
    let logs = telemetry::Config::default();
    let _telemetry = telemetry::init(demo::AGENT_PROGRAM, &logs)
        .map_err(|error| Failure::failed(chain(&error)))?;
    let stop = bessemer_runtime::on_signal().map_err(|error| Failure::failed(chain(&error)))?;
    bessemer_agent::run(config, stop).await.map_err(|error| Failure::failed(chain(&error)))
}

fn run(
    runtime: &mut Builder,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    runtime
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?
        .block_on(work)
}
