//! A NATS server with JetStream.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::network::Host;
use crate::pki::Pki;
use crate::process::{Process, free_port};

/// A NATS server, its store in a directory.
#[derive(Debug)]
pub struct NatsServer {
    /// The server process.
    pub process: Process,
    port: u16,
    pki: Option<Pki>,
    store: PathBuf,
}

impl NatsServer {
    /// Starts Debian's `nats-server` with JetStream.
    ///
    /// # Errors
    /// When it is not installed; `scripts/test` does that.
    pub fn start(directory: &Path) -> anyhow::Result<Self> {
        Self::start_on(Host::loopback(), directory, None)
    }

    /// With certificates, of clients too, if there is an authority.
    pub(crate) fn start_on(
        host: Host,
        directory: &Path,
        pki: Option<&Pki>,
    ) -> anyhow::Result<Self> {
        let (address, port) = (host.address(), free_port());
        let store = directory.join("jetstream");
        let mut arguments = ["-js", "-a", &address.to_string(), "-p", &port.to_string(), "-sd"]
            .map(ToOwned::to_owned)
            .into_iter()
            .chain([store.display().to_string()])
            .collect::<Vec<_>>();
        if let Some(pki) = pki {
            // What listens has the role of a service; NATS asks for none.
            let config = pki.issue("image-cache", "nats", &["--host", "127.0.0.1"])?;
            let files = [config.certificate_file, config.key_file, config.ca_file];
            let options = ["--tlscert", "--tlskey", "--tlscacert"];
            for (option, file) in options.iter().zip(files.into_iter().flatten()) {
                arguments.extend([(*option).to_owned(), file.display().to_string()]);
            }
            arguments.extend(["--tls", "--tlsverify"].map(ToOwned::to_owned));
        }
        let program = Path::new("nats-server");
        let process = Process::start_on(host, "nats", program, &arguments, directory)?;
        Ok(Self { process, port, pki: pki.cloned(), store })
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.pki.is_some() { "tls" } else { "nats" };
        format!("{scheme}://{}:{}", self.process.host().address(), self.port)
    }

    /// A client of it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(&self) -> anyhow::Result<async_nats::Client> {
        let mut options = async_nats::ConnectOptions::new();
        if let Some(pki) = &self.pki {
            let config = pki.issue("reader", "nats-client", &["--force"])?;
            let own = config.certificate_file.zip(config.key_file);
            let (certificate, key) = own.context("a certificate")?;
            options = options.require_tls(true).add_root_certificates(pki.ca_file());
            options = options.add_client_certificate(certificate, key);
        }
        Ok(options.connect(self.url()).await?)
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
