//! What a conductor is told at start.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use bessemer_domain::turn::AtOnce;
use serde::Deserialize;

/// Configuration of a conductor.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its name, unique among conductors and kept across restarts: its place on the ring follows from it.
    pub id: String,
    /// It drives nodes of this group only.
    #[serde(default)]
    pub conductor_group: String,
    /// gRPC addresses of all members of the API, such as `http://10.0.0.1:6385`.
    pub api_urls: Vec<String>,
    /// gRPC addresses of the image caches.
    pub image_caches: Vec<String>,
    /// Where agents open their sessions.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The same as agents reach it, such as `http://10.0.1.1:6386`; the bound address when unset.
    pub advertised_address: Option<String>,
    /// NATS server whose JetStream gets the events; unset publishes none.
    pub nats: Option<NatsConfig>,
    /// Hardware type `fake`; unset leaves it out.
    pub fake: Option<FakeConfig>,
    /// Hardware type `redfish`, which every conductor has.
    #[serde(default)]
    pub redfish: RedfishConfig,
    /// Hardware type `ipmi`, which every conductor has.
    #[serde(default)]
    pub ipmi: IpmiConfig,
    /// What BMCs and firmware fetch from here; unset, deployments by `ramdisk` can have neither config drives nor kernels.
    pub http: Option<HttpConfig>,
    /// Deploy interface `ansible`; unset, deployments by it fail here.
    pub ansible: Option<AnsibleConfig>,
    /// How URLs of images are signed; unset, they are not.
    pub signed_urls: Option<SignedUrlsConfig>,
    /// How much is done at once.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// Patience with agents.
    #[serde(default)]
    pub agent: AgentLimits,
    /// Keys that open the secrets of nodes, as `bessemer secrets key` writes them: those of the members.
    #[serde(default)]
    pub secret_keys_file: Option<PathBuf>,
    /// Certificates, for every listener but that for BMCs, and for what the conductor asks of others.
    #[serde(default)]
    pub tls: bessemer_runtime::tls::Config,
    /// Where metrics and health are served over HTTP; unset serves none.
    #[serde(default)]
    pub metrics_listen: Option<SocketAddr>,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: bessemer_runtime::telemetry::Config,
}

/// Where events are published.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsConfig {
    /// Such as `nats://127.0.0.1:4222`; several servers of one NATS cluster are told apart by commas.
    pub url: String,
    /// Copies that JetStream keeps; needs as many NATS servers.
    #[serde(default = "default_replicas")]
    pub replicas: usize,
    /// The authorities whose certificates NATS servers may have, PEM; set, the connection is TLS whatever the URL says.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The conductor's certificate for NATS, PEM.
    #[serde(default)]
    pub certificate_file: Option<PathBuf>,
    /// The private key of that certificate, PEM.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// A credentials file, as `nsc` and `nats` write them, that says who the conductor is to NATS.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
}

impl NatsConfig {
    /// One server, or several told apart by commas, in the clear and as nobody.
    #[must_use]
    pub fn new(url: String) -> Self {
        Self {
            url,
            replicas: default_replicas(),
            ca_file: None,
            certificate_file: None,
            key_file: None,
            credentials_file: None,
        }
    }
}

/// Simulated machines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeConfig {
    /// Where machines that name no directory have theirs.
    pub machines_dir: PathBuf,
    /// The agent's program, `bessemer-agent`.
    pub agent_program: PathBuf,
    /// Where the agents find their plug-ins; the agent's own default when unset.
    #[serde(default)]
    pub steps_dir: Option<PathBuf>,
}

/// Machines whose BMCs serve Redfish.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RedfishConfig {
    /// URL of the ISO with the deploy ramdisk, as BMCs reach it; for nodes without `driver_info.deploy_iso`.
    pub deploy_iso: Option<String>,
}

/// Machines whose BMCs speak IPMI.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IpmiConfig {
    /// The program `ipmitool`: a name to be found in `PATH`, or a path.
    pub ipmitool: PathBuf,
}

impl Default for IpmiConfig {
    fn default() -> Self {
        Self { ipmitool: PathBuf::from("ipmitool") }
    }
}

/// Leave to read images, for deployments only.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedUrlsConfig {
    /// A file with the secret that the image caches check signatures with, one of their `url_key_files`.
    pub key_file: PathBuf,
}

/// Files for BMCs and firmware.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// Where they are served.
    pub listen: SocketAddr,
    /// The same as BMCs reach it, such as `http://10.0.1.1:6387`; the bound address when unset.
    pub advertised_url: Option<String>,
    /// Serves it in the clear though the conductor has certificates, or on an address that others reach though it has none:
    /// few BMCs believe an authority of one's own. URLs of config drives cannot be guessed, but they can be overheard.
    #[serde(default)]
    pub insecure: bool,
    /// The directory that `deploy/ramdisk/build` has made: kernel and ramdisk for machines that boot over the network, and the
    /// ISO.
    #[serde(default)]
    pub ramdisk_dir: Option<PathBuf>,
}

/// Playbooks that deploy machines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnsibleConfig {
    /// Where the playbooks are.
    pub playbooks_dir: PathBuf,
    /// The playbook of nodes that name none in `driver_info.ansible_deploy_playbook`.
    #[serde(default = "default_playbook")]
    pub deploy_playbook: String,
    /// Who to log in as on the ramdisk, for nodes without `driver_info.ansible_deploy_username`.
    #[serde(default = "default_ansible_user")]
    pub user: String,
    /// The private key to log in with; what SSH itself finds when unset.
    pub key_file: Option<PathBuf>,
    /// Where the ramdisk's SSH server listens.
    #[serde(default = "default_ssh_port")]
    pub port: u16,
    /// The program: a name to be found in `PATH`, or a path.
    #[serde(default = "default_ansible_playbook")]
    pub ansible_playbook: PathBuf,
    /// Ansible's own configuration; what it finds itself when unset.
    pub config_file: Option<PathBuf>,
}

/// How much a conductor does at once. What is asked for beyond that waits in line.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Concurrency {
    /// Deployments.
    pub deploys: NonZeroUsize,
    /// Cleanings.
    pub cleans: NonZeroUsize,
}

impl Default for Concurrency {
    /// Ironic's `max_concurrent_deploy` and `max_concurrent_clean`, which count for all of its conductors together.
    fn default() -> Self {
        Self { deploys: nonzero(250), cleans: nonzero(50) }
    }
}

impl From<Concurrency> for AtOnce {
    fn from(concurrency: Concurrency) -> Self {
        Self { deploys: concurrency.deploys.get(), cleans: concurrency.cleans.get() }
    }
}

/// Patience with agents, in seconds.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentLimits {
    /// A machine whose agent has not called back this long after power on is power-cycled.
    pub boot_seconds: u64,
    /// A machine whose agent went silent in the middle of a task for so long is booted into a new one.
    pub silence_seconds: u64,
}

impl Default for AgentLimits {
    /// Servers take up to ten minutes through firmware and network boot. An agent that lost its conductor is back
    /// within seconds, so two minutes of silence mean that it is gone.
    fn default() -> Self {
        Self { boot_seconds: 600, silence_seconds: 120 }
    }
}

impl AgentLimits {
    pub(crate) const fn boot(&self) -> Duration {
        Duration::from_secs(self.boot_seconds)
    }

    pub(crate) const fn silence(&self) -> Duration {
        Duration::from_secs(self.silence_seconds)
    }
}

const fn nonzero(count: usize) -> NonZeroUsize {
    match NonZeroUsize::new(count) {
        Some(count) => count,
        None => NonZeroUsize::MIN,
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 6386))
}

/// Ironic's default.
fn default_playbook() -> String {
    "deploy.yaml".to_owned()
}

/// Ironic's default.
fn default_ansible_user() -> String {
    "ansible".to_owned()
}

const fn default_ssh_port() -> u16 {
    22
}

fn default_ansible_playbook() -> PathBuf {
    PathBuf::from("ansible-playbook")
}

const fn default_replicas() -> usize {
    1
}
