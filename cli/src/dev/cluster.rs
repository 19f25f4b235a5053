//! The services of a cluster, composed in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_access::Role;
use bessemer_api::Member;
use bessemer_client::Client;
use bessemer_conductor::{
    AgentLimits, Concurrency, FakeConfig, HttpConfig, IpmiConfig, NatsConfig, RedfishConfig,
};
use bessemer_hardware::fake::AgentRunner;
use bessemer_proto::v1::ListConductorsRequest;
use bessemer_runtime::tls::{self, Transport};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::addresses;
use super::pki::Pki;
use crate::failure::{Failure, chain};

/// Any free port of this machine, unreachable from others.
const EPHEMERAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Simulated machines boot in milliseconds: an agent that is gone is missed soon.
const AGENT_LIMITS: AgentLimits = AgentLimits { boot_seconds: 30, silence_seconds: 15 };

/// Agents that write images at once. All of them and the cache share the threads that this process has for blocking
/// work, 512; an agent takes several for as long as it writes, and as many agents as a production conductor drives would
/// leave none to read from the cache with.
const DEPLOYS_AT_ONCE: NonZeroUsize = NonZeroUsize::new(32).expect("is not zero");

/// How long an election and a registration may take on a machine that is busy building.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How often it is looked whether the cluster is ready.
const READY_INTERVAL: Duration = Duration::from_millis(20);

/// What the cluster is made of.
#[derive(Debug)]
pub(crate) struct ClusterConfig {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the first member listens, if that is to be other than usual or as before.
    pub listen: Option<SocketAddr>,
    /// How many members there are, if that is to be other than 1 or as before.
    pub members: Option<usize>,
    /// Where the first member serves the dashboard, if it does.
    pub dashboard: Option<SocketAddr>,
    /// Where it serves Ironic's REST API, if it does.
    pub rest: Option<SocketAddr>,
    /// Where events are published, if anywhere.
    pub nats: Option<String>,
    /// What starts the agents of simulated machines.
    pub agents: AgentRunner,
    /// Whether all of it speaks TLS, by an authority of its own in the data directory.
    pub tls: bool,
}

/// A running cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The members.
    pub api_urls: Vec<String>,
    /// Where prepared images are served.
    pub image_cache_url: String,
    /// Where the dashboard is served, if it is.
    pub dashboard_url: Option<String>,
    /// The certificates and the token of who runs it, with TLS.
    pub pki: Option<Pki>,
    stop: CancellationToken,
    services: JoinSet<Result<(), Failure>>,
}

impl Cluster {
    /// Starts all services. They stop when `stop` is cancelled, and cancel it when one of them fails.
    pub(crate) async fn start(
        config: ClusterConfig,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let data_dir = &config.data_dir;
        std::fs::create_dir_all(data_dir).map_err(|error| {
            Failure::refused(format!("cannot make {}: {error}", data_dir.display()))
        })?;
        let listeners = addresses::bind(data_dir, config.listen, config.members).await?;
        let members = members(&listeners)?;
        let open = exposed(&config, &listeners)?;
        let pki = config.tls.then(|| Pki::make(data_dir, &open)).transpose()?;
        let scheme = if config.tls { "https" } else { "http" };
        let tls = |role: Role, name: &str| match &pki {
            None => Ok(tls::Config::default()),
            Some(pki) => pki.service(role, name),
        };
        let api_urls: Vec<_> =
            members.iter().map(|member| format!("{scheme}://{}", member.address)).collect();
        // Dropped on every way out of here but the last, so that what was started is stopped again.
        let guard = stop.clone().drop_guard();
        let mut services = JoinSet::new();

        let mut cache = image_cache(data_dir);
        cache.tls = tls(Role::ImageCache, "dev")?;
        let cache = bessemer_image_cache::start(cache, stop.clone())
            .await
            .map_err(|error| not_started("image cache", &error))?;
        let (image_cache_url, cache_address) = (cache.base_url().to_owned(), cache.grpc_address());
        let image_caches = vec![format!("{scheme}://{cache_address}")];
        services.spawn(async move { cache.finished().await.map_err(|error| broken(&error)) });

        let (mut dashboard, mut rest) = (config.dashboard, config.rest);
        let mut dashboard_url = None;
        for (member, listener) in members.iter().zip(listeners) {
            let dir = data_dir.join(format!("member-{}", member.id));
            let mut config = bessemer_api::Config::new(member.id, dir, members.clone());
            config.image_caches.clone_from(&image_caches);
            config.tls = tls(Role::Member, &member.id.to_string())?;
            config.token_file = pki.as_ref().map(|pki| pki.token_file.clone());
            config.secret_keys_file = pki.as_ref().map(|pki| pki.secret_keys_file.clone());
            config.dashboard_listen = dashboard.take();
            config.rest_listen = rest.take();
            let member = bessemer_api::start_on(listener, config, stop.clone())
                .await
                .map_err(|error| not_started("member", &error))?;
            let address = member.dashboard_address;
            dashboard_url = dashboard_url.or_else(|| Some(format!("{scheme}://{}", address?)));
            services.spawn(async move { member.stopped().await.map_err(|error| broken(&error)) });
        }

        let mut conductor = conductor(data_dir, api_urls.clone(), image_caches);
        conductor.nats = config.nats.map(NatsConfig::new);
        conductor.tls = tls(Role::Conductor, "dev")?;
        conductor.secret_keys_file = pki.as_ref().map(|pki| pki.secret_keys_file.clone());
        let conductor = bessemer_conductor::start(conductor, config.agents, stop.clone())
            .await
            .map_err(|error| not_started("conductor", &error))?;
        services.spawn(async move {
            conductor.stopped().await;
            Ok(())
        });
        guard.disarm();
        Ok(Self { api_urls, image_cache_url, dashboard_url, pki, stop, services })
    }

    /// A client of all members, for who runs it.
    pub(crate) fn client(&self, actor: &str) -> Result<Client, Failure> {
        let transport = match &self.pki {
            None => Transport::plain(),
            Some(pki) => pki.transport()?,
        };
        Ok(Client::over(&transport, &self.api_urls)?.with_actor(actor))
    }

    /// Returns when the cluster has a leader and a conductor to drive machines.
    pub(crate) async fn ready(&self, client: &Client) -> Result<(), Failure> {
        let ready = async {
            loop {
                let conductors = client.list_conductors(ListConductorsRequest {}).await?;
                if conductors.conductors.iter().any(|conductor| conductor.online) {
                    return Ok(());
                }
                tokio::time::sleep(READY_INTERVAL).await;
            }
        };
        tokio::time::timeout(READY_LIMIT, ready).await.unwrap_or_else(|_elapsed| {
            Err(Failure::failed(format!("the cluster was not ready within {READY_LIMIT:?}")))
        })
    }

    /// Waits until everything has stopped: after the token was cancelled, or because a service failed.
    pub(crate) async fn stopped(mut self) -> Result<(), Failure> {
        let mut result = Ok(());
        while let Some(ended) = self.services.join_next().await {
            let was_told_to = self.stop.is_cancelled();
            self.stop.cancel();
            let ended = match ended {
                Ok(Ok(())) if !was_told_to => Err(Failure::failed("a service ended by itself")),
                Ok(ended) => ended,
                Err(panic) => Err(broken(&panic)),
            };
            // The first failure is the cause of the others.
            result = result.and(ended);
        }
        result
    }
}

/// Where simulated machines have their disks: each in a directory named after its node's id.
pub(crate) fn machines_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("machines")
}

fn members(listeners: &[TcpListener]) -> Result<Vec<Member>, Failure> {
    (1..)
        .zip(listeners)
        .map(|(id, listener)| {
            let address = listener.local_addr().map_err(|error| broken(&error))?;
            Ok(Member { id, address: address.to_string() })
        })
        .collect()
}

/// The addresses at which others could reach it: refused without TLS.
fn exposed(config: &ClusterConfig, listeners: &[TcpListener]) -> Result<Vec<SocketAddr>, Failure> {
    let members = listeners.iter().filter_map(|listener| listener.local_addr().ok());
    let faces = [config.dashboard, config.rest].into_iter().flatten();
    let open = members.chain(faces).filter(|address| !address.ip().is_loopback());
    let open: Vec<_> = open.collect();
    match open.first() {
        Some(address) if !config.tls => {
            Err(Failure::refused(format!("{address} can be reached by others"))
                .hint("--tls has them prove who they are; without it everybody may do everything"))
        }
        _ => Ok(open),
    }
}

/// A conductor of simulated machines.
fn conductor(
    data_dir: &Path,
    api_urls: Vec<String>,
    image_caches: Vec<String>,
) -> bessemer_conductor::Config {
    bessemer_conductor::Config {
        id: "dev".to_owned(),
        conductor_group: String::new(),
        api_urls,
        image_caches,
        listen: EPHEMERAL,
        advertised_address: None,
        nats: None,
        fake: Some(FakeConfig {
            machines_dir: machines_dir(data_dir),
            agent_program: PathBuf::new(),
            steps_dir: Some(data_dir.join("steps.d")),
        }),
        redfish: RedfishConfig::default(),
        ipmi: IpmiConfig::default(),
        http: Some(HttpConfig {
            listen: EPHEMERAL,
            advertised_url: None,
            insecure: true,
            ramdisk_dir: None,
        }),
        tls: tls::Config::default(),
        secret_keys_file: None,
        ansible: None,
        signed_urls: None,
        concurrency: Concurrency { deploys: DEPLOYS_AT_ONCE, ..Concurrency::default() },
        agent: AGENT_LIMITS,
        metrics_listen: None,
        telemetry: bessemer_runtime::telemetry::Config::default(),
    }
}

/// Everything on this machine that its user can read may be an image: it is the user who runs the cache.
fn image_cache(data_dir: &Path) -> bessemer_image_cache::Config {
    bessemer_image_cache::Config {
        data_dir: data_dir.join("image-cache"),
        grpc_listen: EPHEMERAL,
        http_listen: EPHEMERAL,
        file_roots: vec![PathBuf::from("/")],
        ..bessemer_image_cache::Config::default()
    }
}

fn not_started(service: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::failed(format!("the {service} did not start: {}", chain(error)))
}

fn broken(error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::failed(chain(error))
}
