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
    /// How much is done at once.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// Patience with agents.
    #[serde(default)]
    pub agent: AgentLimits,
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
}

/// Simulated machines.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeConfig {
    /// Where machines that name no directory have theirs.
    pub machines_dir: PathBuf,
    /// The agent's program, `bessemer-agent`.
    pub agent_program: PathBuf,
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

const fn default_replicas() -> usize {
    1
}
