//! A NATS server with JetStream.

use std::path::{Path, PathBuf};

use crate::network::Host;
use crate::process::{Process, free_port};

/// A NATS server, its store in a directory.
#[derive(Debug)]
pub struct NatsServer {
    /// The server process.
    pub process: Process,
    port: u16,
    store: PathBuf,
}

impl NatsServer {
    /// Starts Debian's `nats-server` with JetStream.
    ///
    /// # Errors
    /// When it is not installed; `scripts/test` does that.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        Self::start_on(Host::loopback(), directory)
    }

    pub(crate) fn start_on(host: Host, directory: &Path) -> anyhow::Result<Self> {
        let (address, port) = (host.address(), free_port());
        let store = directory.join("jetstream");
        let arguments = ["-js", "-a", &address.to_string(), "-p", &port.to_string(), "-sd"]
            .map(ToOwned::to_owned)
            .into_iter()
            .chain([store.display().to_string()])
            .collect::<Vec<_>>();
        let program = Path::new("nats-server");
        let process = Process::start_on(host, "nats", program, &arguments, directory)?;
        Ok(Self { process, port, store })
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.process.host().address(), self.port)
    }

    /// Ends it, empties its store and starts it again: everything it held is gone.
    ///
    /// # Errors
    /// When the store cannot be removed or the server not be started.
    pub fn lose_everything(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        std::fs::remove_dir_all(&self.store)?;
        self.process.restart()
    }
}
