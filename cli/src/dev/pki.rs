//! The authority of a development cluster: made at its first start and kept, with certificates that are new at each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_access::{Identity, NewToken, Role};
use bessemer_runtime::tls::{self, Transport};
use bessemer_secrets::draw_key;

use crate::failure::Failure;
use crate::pki::{Authority, CA_FILE, CA_KEY_FILE, Kind, write};
use crate::token::random;

/// A development cluster is started anew before that.
const VALID_FOR: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Who runs the cluster.
const NAME: &str = "dev";

/// Its files.
#[derive(Debug)]
pub(crate) struct Pki {
    directory: PathBuf,
    authority: Authority,
    hosts: Vec<String>,
    admin: tls::Config,
    /// The token of who runs it, for the dashboard.
    secret_file: PathBuf,
    /// What seals the secrets of nodes.
    pub(super) secret_keys_file: PathBuf,
    /// What the members know of it.
    pub(super) token_file: PathBuf,
}

impl Pki {
    /// Reads or makes the authority, and makes what who runs the cluster needs. Services are reached by loopback, and by
    /// `addresses`.
    pub(super) fn make(data_dir: &Path, addresses: &[SocketAddr]) -> Result<Self, Failure> {
        let directory = data_dir.join("pki");
        std::fs::create_dir_all(&directory).map_err(|error| {
            Failure::refused(format!("cannot make {}: {error}", directory.display()))
        })?;
        let authority = match Authority::open(&directory)? {
            Some(authority) => authority,
            None => {
                let authority = Authority::make(VALID_FOR)?;
                write(&directory.join(CA_KEY_FILE), &authority.key_pem(), Kind::Secret, true)?;
                write(&directory.join(CA_FILE), authority.certificate_pem(), Kind::Public, true)?;
                authority
            }
        };
        let mut hosts = ["127.0.0.1", "::1", "localhost"].map(str::to_owned).to_vec();
        hosts.extend(addresses.iter().map(|address| address.ip().to_string()));
        let (secret_file, token_file) = (directory.join("token"), directory.join("tokens"));
        let secret_keys_file = directory.join("secret-keys");
        if !secret_keys_file.exists() {
            let key =
                draw_key().ok_or_else(|| Failure::failed("the system gives no randomness"))?;
            write(&secret_keys_file, &(key + "\n"), Kind::Secret, true)?;
        }
        let mut pki = Self {
            directory,
            authority,
            hosts,
            admin: tls::Config::default(),
            secret_file,
            secret_keys_file,
            token_file,
        };
        pki.admin = pki.issue(Role::Admin, NAME, &[])?;
        let admin = identity(Role::Admin, NAME)?;
        let token = NewToken::issue(&admin, None, random())
            .ok_or_else(|| Failure::failed("an admin has no token"))?;
        write(&pki.secret_file, &token.token, Kind::Secret, true)?;
        write(&pki.token_file, &(token.line + "\n"), Kind::Public, true)?;
        Ok(pki)
    }

    /// What a service of that name is configured with.
    pub(super) fn service(&self, role: Role, name: &str) -> Result<tls::Config, Failure> {
        self.issue(role, name, &self.hosts)
    }

    /// How who runs the cluster speaks with it.
    pub(super) fn transport(&self) -> Result<Transport, Failure> {
        self.admin.client(None).map_err(|error| Failure::failed(error.to_string()))
    }

    /// What another terminal needs beside the cluster's address.
    pub(super) fn exports(&self) -> String {
        let paths = [&self.admin.ca_file, &self.admin.certificate_file, &self.admin.key_file];
        let names = ["BESSEMER_CA_FILE", "BESSEMER_CERTIFICATE_FILE", "BESSEMER_KEY_FILE"];
        let exports = names.iter().zip(paths).filter_map(|(name, path)| {
            Some(format!("  export {name}={}\n", path.as_ref()?.display()))
        });
        let secret = self.secret_file.display();
        exports.chain([format!("  # The dashboard asks for the token in {secret}\n")]).collect()
    }

    fn issue(&self, role: Role, name: &str, hosts: &[String]) -> Result<tls::Config, Failure> {
        let issued = self.authority.issue(&identity(role, name)?, hosts, VALID_FOR)?;
        let (certificate, key) = issued.write(&self.directory, &format!("{role}-{name}"), true)?;
        Ok(tls::Config {
            certificate_file: Some(certificate),
            key_file: Some(key),
            ca_file: Some(self.directory.join(CA_FILE)),
            insecure: false,
        })
    }
}

fn identity(role: Role, name: &str) -> Result<Identity, Failure> {
    Identity::try_new(role, name, None).map_err(|error| Failure::failed(error.to_string()))
}
