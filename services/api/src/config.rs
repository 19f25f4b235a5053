//! What a member is told when it starts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bessemer_ledger::MemberId;
use bessemer_runtime::{telemetry, tls};
use serde::Deserialize;

use crate::AuthStrategy;

/// How a member of the API runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This member; one of `members`.
    pub member_id: u64,
    /// Where its ledger is kept.
    pub data_dir: PathBuf,
    /// Where it listens, for clients, conductors, agents and the other members alike.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The members of the cluster, this one among them. A member whose directory is empty asks them whether there is a
    /// cluster; when all of them are new, they form one.
    pub members: Vec<Member>,
    /// gRPC URLs of the image caches, tried in turn; without one, calls about images are refused.
    #[serde(default)]
    pub image_caches: Vec<String>,
    /// Where the dashboard is served; unset serves none. Without TLS nobody has to sign in to it: whoever reaches it may do
    /// everything.
    #[serde(default)]
    pub dashboard_listen: Option<SocketAddr>,
    /// Names by which browsers reach the dashboard, beside `localhost` and addresses: other names are refused, so that
    /// no foreign page can pose as it by DNS.
    #[serde(default)]
    pub dashboard_hosts: Vec<String>,
    /// Where Ironic's REST API is served; unset serves none.
    #[serde(default)]
    pub rest_listen: Option<SocketAddr>,
    /// How its callers prove who they are; unset asks for nothing on a loopback address without an htpasswd file.
    #[serde(default)]
    pub rest_auth_strategy: Option<AuthStrategy>,
    /// Users and their passwords, as bcrypt hashes, in Apache's htpasswd format.
    #[serde(default)]
    pub rest_htpasswd_file: Option<PathBuf>,
    /// What links begin with that it gives out, such as `https://metal.example.org:6385`; unset takes the host that the
    /// request names, by `http`.
    #[serde(default)]
    pub rest_public_endpoint: Option<String>,
    /// People and programs that come with a token, by the tokens' hashes, as `bessemer token issue` writes them; needs
    /// `tls`.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Keys that seal the secrets of nodes before they enter the log, as `bessemer secrets key` writes them, the newest first;
    /// the same for all members and conductors. Unset, secrets are stored in the clear.
    #[serde(default)]
    pub secret_keys_file: Option<PathBuf>,
    /// Certificates, for every listener and for what the member asks of others. Callers must then be somebody.
    #[serde(default)]
    pub tls: tls::Config,
    /// Where metrics and health are served over HTTP; unset serves none.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// A conductor that is not heard of for so long loses its nodes to others.
    #[serde(default = "default_lease")]
    pub conductor_lease_milliseconds: u32,
    /// What it tells of itself.
    #[serde(default)]
    pub telemetry: telemetry::Config,
}

/// A member as the others reach it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its number, chosen once and kept for ever.
    pub id: u64,
    /// `host:port` of its listener.
    pub address: String,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 6385))
}

/// Three heartbeats of a second: one may be lost and one late.
const fn default_lease() -> u32 {
    3_000
}

impl Config {
    /// A member of a cluster that these members form, with the defaults for everything else.
    #[must_use]
    pub fn new(member_id: u64, data_dir: impl Into<PathBuf>, members: Vec<Member>) -> Self {
        Self {
            member_id,
            data_dir: data_dir.into(),
            listen: default_listen(),
            members,
            image_caches: Vec::new(),
            dashboard_listen: None,
            dashboard_hosts: Vec::new(),
            rest_listen: None,
            rest_auth_strategy: None,
            rest_htpasswd_file: None,
            rest_public_endpoint: None,
            token_file: None,
            secret_keys_file: None,
            tls: tls::Config::default(),
            metrics_listen: None,
            conductor_lease_milliseconds: default_lease(),
            telemetry: telemetry::Config::default(),
        }
    }

    pub(crate) fn conductor_lease(&self) -> Duration {
        Duration::from_millis(self.conductor_lease_milliseconds.into())
    }

    pub(crate) fn ledger(&self, transport: tls::Transport) -> bessemer_ledger::Config {
        let members: BTreeMap<_, _> = self
            .members
            .iter()
            .map(|member| (MemberId(member.id), member.address.clone()))
            .collect();
        let config =
            bessemer_ledger::Config::new(MemberId(self.member_id), &self.data_dir, members);
        bessemer_ledger::Config { transport, ..config }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, bessemer_runtime::config::ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        bessemer_runtime::config::load(file.path())
    }

    const SMALLEST: &str = "member_id = 1\ndata_dir = \"/var/lib/bessemer\"\n\
        [[members]]\nid = 1\naddress = \"10.0.0.1:6385\"\n";

    #[test]
    fn what_must_be_given_is_little() {
        let config = load(SMALLEST).unwrap();
        assert_eq!(config.members[0].address, "10.0.0.1:6385");
        assert_eq!(config.conductor_lease(), Duration::from_secs(3));
        assert_eq!(config.listen, default_listen());
    }

    #[test]
    fn a_field_that_is_not_known_is_named() {
        let error = load(&format!("image_cache = []\n{SMALLEST}")).unwrap_err();
        assert!(error.to_string().contains("image_cache"), "{error}");
    }
}
