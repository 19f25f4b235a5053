//! Certificates of a cluster, made by the very command that operators make them with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use bessemer_runtime::tls::{Config, Transport};

use crate::process::binary;

/// An authority in a directory.
#[derive(Debug, Clone)]
pub struct Pki {
    directory: PathBuf,
}

impl Pki {
    /// Makes one.
    ///
    /// # Errors
    /// When the command fails.
    pub fn init(directory: &Path) -> anyhow::Result<Self> {
        let pki = Self { directory: directory.to_owned() };
        pki.run(&["init"])?;
        Ok(pki)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Makes a certificate; `more` are further arguments of `bessemer pki issue`.
    ///
    /// # Errors
    /// When the command fails.
    pub fn issue(&self, role: &str, name: &str, more: &[&str]) -> anyhow::Result<Config> {
        self.run(&[&["issue", role, name], more].concat())?;
        Ok(Config {
            certificate_file: Some(self.directory.join(format!("{role}-{name}.pem"))),
            key_file: Some(self.directory.join(format!("{role}-{name}-key.pem"))),
            ca_file: Some(self.ca_file()),
            insecure: false,
        })
    }

    /// The same, ready to ask with.
    ///
    /// # Errors
    /// When the command fails.
    pub fn transport(&self, role: &str, name: &str) -> anyhow::Result<Transport> {
        Ok(self.issue(role, name, &[])?.client(None)?)
    }

    /// The `[tls]` table of a service that listens on loopback.
    ///
    /// # Errors
    /// When the command fails.
    pub fn table(&self, role: &str, name: &str) -> anyhow::Result<String> {
        let config = self.issue(role, name, &["--host", "127.0.0.1", "--force"])?;
        let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
        Ok(format!(
            "[tls]\ncertificate_file = {:?}\nkey_file = {:?}\nca_file = {:?}\n",
            path(&config.certificate_file),
            path(&config.key_file),
            path(&config.ca_file),
        ))
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new(binary("bessemer"));
        command.arg("pki").args(arguments).arg("--dir").arg(&self.directory);
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "bessemer pki {arguments:?}: {said}");
        Ok(())
    }
}
