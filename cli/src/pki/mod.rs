//! `bessemer pki`: an authority and certificates for clusters whose owners have none.

mod authority;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_access::{Identity, Role};
use clap::{Args, Subcommand};

pub(crate) use authority::{Authority, Issued};

use crate::arguments::duration;
use crate::failure::Failure;
use crate::output::print;

/// The files of the authority within its directory.
pub(crate) const CA_FILE: &str = "ca.pem";
pub(crate) const CA_KEY_FILE: &str = "ca-key.pem";

/// `bessemer pki`.
#[derive(Debug, Subcommand)]
pub(crate) enum PkiCommand {
    /// Make an authority: ca.pem, which everybody is given, and ca-key.pem, which nobody is
    Init(Init),
    /// Make a certificate and its key: for a service, an agent or a person
    Issue(Issue),
}

/// `bessemer pki init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where the authority's files are kept
    #[arg(long, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,
    /// How long it holds
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "3650d")]
    valid_for: Duration,
}

/// `bessemer pki issue`.
#[derive(Debug, Args)]
pub(crate) struct Issue {
    /// What for: member, conductor, image-cache, agent, admin, operator or reader
    role: String,
    /// The name: a conductor's id, a member's number, or a person's name
    name: String,
    /// Where the authority's files are
    #[arg(long, value_name = "DIR", default_value = "pki")]
    dir: PathBuf,
    /// A host name or address by which others reach the service; repeatable
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// Of a person: only for the nodes whose owner or lessee this is
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// How long it holds
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "365d")]
    valid_for: Duration,
    /// Replace files of that name, to renew a certificate: services take note of it within a second
    #[arg(long)]
    force: bool,
}

impl PkiCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Init(init) => init.run(),
            Self::Issue(issue) => issue.run(),
        }
    }
}

impl Init {
    fn run(self) -> Result<(), Failure> {
        let authority = Authority::make(self.valid_for)?;
        std::fs::create_dir_all(&self.dir).map_err(|error| {
            Failure::refused(format!("cannot make {}: {error}", self.dir.display()))
        })?;
        write(&self.dir.join(CA_KEY_FILE), &authority.key_pem(), Kind::Secret, false)?;
        write(&self.dir.join(CA_FILE), authority.certificate_pem(), Kind::Public, false)?;
        print(&format!(
            "{}\n{}\nSHA-256 {}\n",
            self.dir.join(CA_FILE).display(),
            self.dir.join(CA_KEY_FILE).display(),
            authority.fingerprint()?
        ))
    }
}

impl Issue {
    fn run(self) -> Result<(), Failure> {
        let refused = |error: &dyn std::fmt::Display| Failure::refused(error.to_string());
        let role: Role = self.role.parse().map_err(|error| refused(&error))?;
        let identity = Identity::try_new(role, &self.name, self.project.as_deref());
        let identity = identity.map_err(|error| refused(&error))?;
        let listens = matches!(role, Role::Member | Role::Conductor | Role::ImageCache);
        if listens && self.hosts.is_empty() {
            return Err(Failure::refused(format!(
                "a {role} listens, so others must know it by its host"
            ))
            .hint("--host NAME-OR-ADDRESS, once for each by which it is reached"));
        }
        if !listens && !self.hosts.is_empty() {
            return Err(Failure::refused(format!(
                "--host is for services that listen, which a {role} does not"
            )));
        }
        let authority = Authority::open(&self.dir)?.ok_or_else(|| {
            Failure::refused(format!("{} holds no authority", self.dir.display()))
                .hint("`bessemer pki init` makes one")
        })?;
        let issued = authority.issue(&identity, &self.hosts, self.valid_for)?;
        let stem = format!("{role}-{}", self.name);
        let (certificate, key) = issued.write(&self.dir, &stem, self.force)?;
        print(&format!("{}\n{}\n", certificate.display(), key.display()))
    }
}

impl Authority {
    /// The one whose files a directory holds, if it holds any.
    pub(crate) fn open(dir: &Path) -> Result<Option<Self>, Failure> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path).map_err(|error| {
                Failure::refused(format!("cannot read {}: {error}", path.display()))
            })
        };
        if !dir.join(CA_FILE).exists() {
            return Ok(None);
        }
        Self::read(read(CA_FILE)?, &read(CA_KEY_FILE)?).map(Some)
    }
}

impl Issued {
    /// Writes `STEM.pem` and `STEM-key.pem`; each is whole or not there.
    pub(crate) fn write(
        &self,
        dir: &Path,
        stem: &str,
        replace: bool,
    ) -> Result<(PathBuf, PathBuf), Failure> {
        let certificate = dir.join(format!("{stem}.pem"));
        let key = dir.join(format!("{stem}-key.pem"));
        write(&key, &self.key_pem, Kind::Secret, replace)?;
        write(&certificate, &self.chain_pem, Kind::Public, replace)?;
        Ok((certificate, key))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Read by its owner alone.
    Secret,
    /// Read by everybody.
    Public,
}

/// Writes a file that is whole or not there.
pub(crate) fn write(path: &Path, content: &str, kind: Kind, replace: bool) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::refused(format!("cannot write {}: {error}", path.display()))
    };
    if !replace && path.exists() {
        return Err(Failure::refused(format!("{} is there already", path.display()))
            .hint("another --dir, or --force to replace a certificate"));
    }
    let mode = if kind == Kind::Secret { 0o600 } else { 0o644 };
    let new = path.with_extension("new");
    // One that was left behind may have another mode.
    std::fs::remove_file(&new).ok();
    let opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&new);
    let mut file = opened.map_err(failed)?;
    file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)
}
