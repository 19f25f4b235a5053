//! The agent: runs on the machine, finds its conductor, and does what only somebody on the machine
//! can do: erase disks, write images, put a config drive beside them.
//!
//! It dials out and has no port. Tasks outlive the sessions that asked for them.

mod backoff;
mod boot_loader;
mod bootc;
mod config;
mod config_drive;
mod disk;
mod erase;
mod filesystem;
mod identity;
mod image;
mod inventory;
mod machine;
mod memory;
mod overwrite;
mod partition;
mod plugin;
mod rescue;
mod root_device;
mod session;
mod task;

use std::sync::Arc;

use bessemer_runtime::tls::{InvalidTls, InvalidUrl};
use tokio_util::sync::CancellationToken;

pub use config::Config;
pub use identity::StateError;

/// An agent that cannot start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// Whom it is to believe.
    #[error(transparent)]
    Tls(#[from] InvalidTls),
    /// Where it is to look up its node.
    #[error("--api-url {0}")]
    Url(#[from] InvalidUrl),
}

/// Serves the machine until `stop` is cancelled. A task in progress is then stopped, too: between
/// two chunks, with nothing on the disk that a machine would boot.
///
/// # Errors
/// When the state directory or the authority's certificate cannot be used.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let transport = config.transport()?;
    for url in &config.api_urls {
        transport.endpoint(url)?;
    }
    let identity = identity::Identity::load_or_draw(&config.state_dir)?;
    let plugins = plugin::Plugins::ask(&config.steps_dir).await;
    let machine =
        Arc::new(machine::Machine::new(&config).with_transport(transport).with_plugins(plugins));
    let mut agent = session::Agent::new(machine, identity);
    stop.run_until_cancelled(agent.serve(&config.api_urls)).await;
    Ok(())
}
