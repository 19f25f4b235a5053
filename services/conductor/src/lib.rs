//! The conductor: claims nodes, runs the steps that their state asks for, and publishes their events.
//!
//! It holds nothing that must not be lost. It follows the replicated state, does what [`bessemer_domain::effects`] says
//! must be happening for the nodes that the ring gives it, and reports with commands. Another conductor that takes over
//! computes the same effects from the same state.

mod bmc;
mod cluster;
mod config;
mod config_drives;
mod hardware;
mod images;
mod metrics;
mod progress;
mod publish;
mod replica;
mod sessions;
mod steps;
mod work;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bessemer_access::{Guard, GuardLayer};
use bessemer_domain::command::CommandBody;
use bessemer_domain::conductor::Registration;
use bessemer_domain::ids::{ClusterId, ConductorId, Incarnation, NodeId};
use bessemer_domain::lease::OwnLease;
use bessemer_domain::outbox::Notice;
use bessemer_domain::turn::AtOnce;
use bessemer_domain::{Rejection, Subject};
use bessemer_hardware::HardwareError;
use bessemer_hardware::fake::AgentRunner;
use bessemer_image::permit::{PermitKey, WeakSecret};
use bessemer_proto::v1::agent_session_service_server::AgentSessionServiceServer;
use bessemer_runtime::monitor::{self, Monitor};
use bessemer_runtime::tls::{InvalidTls, InvalidUrl, Listener, Transport};
use bessemer_secrets::{InvalidKeyRing, KeyRing};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use config::{
    AgentLimits, AnsibleConfig, Concurrency, Config, FakeConfig, HttpConfig, IpmiConfig,
    NatsConfig, RedfishConfig, SignedUrlsConfig,
};

use bmc::Bmc;
use cluster::{Followers, Members, Proposals};
use hardware::HardwareTypes;
use images::ImageCaches;
use metrics::Metrics;
use progress::ProgressBoard;
use replica::Replica;
use sessions::Sessions;

/// Changes that the work loop has not looked at yet. It only compares states, so it is never far behind.
const CHANGES_WAITING: usize = 1024;

/// Largest message of an agent: its inventory.
const AGENT_MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Who this conductor is: its name, and which life of it.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) id: ConductorId,
    pub(crate) incarnation: Incarnation,
}

/// What all parts of the conductor use.
pub(crate) struct Context {
    pub(crate) own: Arc<Identity>,
    pub(crate) replica: Replica,
    pub(crate) members: Arc<Members>,
    pub(crate) proposals: Proposals,
    pub(crate) sessions: Sessions,
    pub(crate) images: ImageCaches,
    pub(crate) progress: ProgressBoard,
    pub(crate) at_once: AtOnce,
    pub(crate) limits: AgentLimits,
    pub(crate) ansible: Option<AnsibleConfig>,
    /// Where BMCs find what this conductor serves them.
    pub(crate) http_url: Option<String>,
    pub(crate) metrics: Metrics,
    pub(crate) lease: watch::Receiver<OwnLease>,
    hardware: HardwareTypes,
}

impl Context {
    /// Sends a command and waits until its effects show in the replica. Repeats it for as long as the cluster cannot
    /// be reached.
    ///
    /// # Errors
    /// The cluster's own refusal.
    pub(crate) async fn propose(&self, body: CommandBody) -> Result<(), Rejection> {
        let accepted = self.proposals.propose(body).await?;
        self.replica.reached(accepted.revision).await;
        Ok(())
    }

    /// Whether other conductors may be expected to leave this one's nodes alone.
    pub(crate) fn has_lease(&self) -> bool {
        self.lease.borrow().is_held(Instant::now())
    }

    /// Returns when this conductor may give an order to the node's machine under the claim with `epoch`: waits for the
    /// lease, and for ever when the claim is another's by now. To be called right before every order.
    pub(crate) async fn entitled(&self, node: NodeId, epoch: u64) {
        // The sender lives as long as the conductor.
        self.lease.clone().wait_for(|lease| lease.is_held(Instant::now())).await.ok();
        let state = self.replica.state();
        let claim = state.node(node).and_then(|node| node.claim.as_ref());
        let Identity { id, incarnation } = &*self.own;
        if !claim.is_some_and(|it| it.epoch == epoch && it.is_held_by(id, *incarnation)) {
            std::future::pending::<()>().await;
        }
    }

    /// The BMC of the machine behind a node, for orders under the claim with `epoch`.
    pub(crate) fn bmc(&self, node: NodeId, epoch: u64) -> Result<Bmc<'_>, HardwareError> {
        let machine = self.hardware.machine(&self.replica.state(), node, &self.own.id, epoch)?;
        Ok(Bmc::new(self, node, epoch, machine))
    }

    pub(crate) async fn cluster_id(&self) -> ClusterId {
        self.replica.until(|state| state.cluster_id()).await
    }

    pub(crate) fn version_of(&self, subject: &Subject) -> u64 {
        self.replica.state().version_of(subject)
    }
}

/// A conductor that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value of the configuration.
    #[error(transparent)]
    Invalid(#[from] bessemer_domain::Invalid),
    /// An address of the configuration.
    #[error("{field}: {source}")]
    Address {
        /// The field.
        field: &'static str,
        /// Why.
        source: InvalidUrl,
    },
    /// The keys of secrets cannot be used.
    #[error("configuration: {0}")]
    Keys(#[from] InvalidKeyRing),
    /// The certificates cannot be used, or there are none where there must be.
    #[error("configuration: {0}")]
    Tls(#[from] InvalidTls),
    /// The address to listen on.
    #[error("cannot listen on {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that the configuration names.
    #[error(transparent)]
    File(#[from] bessemer_runtime::config::ConfigError),
    /// A secret that is none.
    #[error("signed_urls.key_file {path} cannot be used")]
    WeakSecret {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: WeakSecret,
    },
    /// The address for metrics.
    #[error(transparent)]
    Metrics(#[from] monitor::ListenError),
}

/// What the conductor speaks. What BMCs fetch is another matter, which its own field decides.
fn transport(config: &Config) -> Result<Transport, StartError> {
    let for_bmcs = config.http.as_ref().filter(|http| !http.insecure).map(|http| http.listen);
    Ok(config.tls.service(&[
        ("listen", Some(config.listen)),
        ("metrics_listen", config.metrics_listen),
        ("http.listen", for_bmcs),
    ])?)
}

fn permit_key(config: &SignedUrlsConfig) -> Result<PermitKey, StartError> {
    let secret = bessemer_runtime::config::secret(&config.key_file)?;
    PermitKey::derive(&secret)
        .map_err(|source| StartError::WeakSecret { path: config.key_file.clone(), source })
}

/// A running conductor.
#[derive(Debug)]
pub struct Handle {
    /// Where agents open their sessions.
    pub address: SocketAddr,
    /// Where metrics and health are served, if they are.
    pub metrics_address: Option<SocketAddr>,
    tasks: JoinSet<()>,
}

impl Handle {
    /// Waits until it has stopped: after its token was cancelled, or because a part of it ended, which is a defect.
    pub async fn stopped(mut self) {
        self.tasks.join_next().await;
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Starts a conductor. `runner` starts the agents of `fake` machines; it is used only if the configuration has them.
///
/// # Errors
/// [`StartError`] when the configuration is wrong or the address is taken. A cluster that cannot be reached is no
/// error: it is tried for ever.
pub async fn start(
    config: Config,
    runner: AgentRunner,
    stop: CancellationToken,
) -> Result<Handle, StartError> {
    let own = Arc::new(Identity {
        id: ConductorId::try_new(&config.id)?,
        incarnation: Incarnation::new(Uuid::new_v4()),
    });
    let transport = transport(&config)?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    let address = listener
        .local_addr()
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    let files = listen_for_bmcs(config.http.as_ref(), &transport).await?;
    let monitoring = monitor::listen(config.metrics_listen).await?;
    let metrics_address = monitoring.as_ref().map(|(_, address)| *address);
    let members = Members::new(&config.api_urls, &transport)
        .map_err(|source| StartError::Address { field: "api_urls", source })?;
    let (proposals, send_proposals) = Proposals::new(Arc::clone(&members), &own.id);
    let key = config.signed_urls.as_ref().map(permit_key).transpose()?;
    let images = ImageCaches::new(&config.image_caches, key, &transport)
        .map_err(|source| StartError::Address { field: "image_caches", source })?;
    let keys = config.secret_keys_file.as_deref().map(KeyRing::open).transpose()?;
    let hardware = HardwareTypes::new(&config, runner, keys);
    let registration = Registration {
        incarnation: own.incarnation,
        conductor_group: config.conductor_group.clone(),
        hardware_types: hardware.names().map(str::to_owned).collect(),
        address: match &config.advertised_address {
            Some(url) => {
                let checked = transport.endpoint(url);
                checked.map_err(|source| StartError::Address {
                    field: "advertised_address",
                    source,
                })?;
                url.clone()
            }
            None => format!("{}://{address}", transport.scheme()),
        },
    };

    let (state_in, state) = watch::channel(bessemer_domain::State::default());
    let (lease_in, lease) = watch::channel(OwnLease::default());
    let replica = Replica::new(state);
    let progress = ProgressBoard::default();
    let metrics = Metrics::new(&own.id);
    let context = Arc::new(Context {
        sessions: Sessions::new(replica.clone(), Arc::clone(&own)),
        own,
        replica,
        members: Arc::clone(&members),
        proposals,
        images,
        progress,
        at_once: config.concurrency.into(),
        limits: config.agent.clone(),
        ansible: config.ansible.clone(),
        http_url: files.as_ref().map(|(_, url)| url.clone()),
        metrics: metrics.clone(),
        lease: lease.clone(),
        hardware,
    });

    let (changes_in, changes) = mpsc::channel(CHANGES_WAITING);
    let (notices_in, notices) = mpsc::channel(CHANGES_WAITING);
    let followers =
        Followers { state: state_in, changes: changes_in, notices: notices_in, metrics };
    let mut tasks = JoinSet::new();
    let mut spawn = |task: BoxFuture<'static, ()>| {
        let stop = stop.clone();
        tasks.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
    };
    spawn(cluster::learn(Arc::clone(&members)).boxed());
    spawn(cluster::follow(members, followers).boxed());
    spawn(work::Work::new(Arc::clone(&context)).run(changes, lease).boxed());
    spawn(publisher(Arc::clone(&context), config.nats, notices).boxed());
    let guard = if transport.is_secure() { Guard::holding(None) } else { Guard::open() };
    let refused = guard.refused().clone();
    spawn(serve(transport.grpc(listener), guard, context.sessions.clone()).boxed());
    if let Some((listener, _)) = files {
        spawn(serve_files(listener, context.replica.clone()).boxed());
    }
    if let Some((listener, _)) = monitoring {
        let listener = transport.http(listener);
        spawn(serve_monitor(listener, metrics::monitor(&context, &refused)).boxed());
    }
    // The lease outlasts the others by a farewell, which is a command.
    let (done, lease_done) = tokio::sync::oneshot::channel::<()>();
    tasks.spawn(async move {
        cluster::keep_lease(context, registration, lease_in, stop).await;
        drop(done);
    });
    tasks.spawn(async move {
        tokio::select! { () = send_proposals => {}, _ = lease_done => {} }
    });
    Ok(Handle { address, metrics_address, tasks })
}

/// Publishes, or takes the notices and drops them when there is nowhere to publish to.
async fn publisher(
    context: Arc<Context>,
    nats: Option<NatsConfig>,
    mut notices: mpsc::Receiver<Notice>,
) {
    match nats {
        Some(nats) => publish::run(context, nats, notices).await,
        None => while notices.recv().await.is_some() {},
    }
}

/// Where BMCs fetch what they show to machines, and its URL as they reach it.
async fn listen_for_bmcs(
    http: Option<&HttpConfig>,
    transport: &Transport,
) -> Result<Option<(Listener, String)>, StartError> {
    let Some(http) = http else { return Ok(None) };
    let fault = |source| StartError::Listen { address: http.listen, source };
    let listener = TcpListener::bind(http.listen).await.map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    let transport = if http.insecure { Transport::plain() } else { transport.clone() };
    let url = match &http.advertised_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("{}://{bound}", transport.scheme()),
    };
    Ok(Some((transport.http(listener), url)))
}

async fn serve_files(listener: Listener, replica: Replica) {
    if let Err(error) = axum::serve(listener, config_drives::router(replica)).await {
        tracing::error!(error = steps::chain(&error), "config drives can no longer be served");
    }
}

async fn serve_monitor(listener: Listener, monitor: Monitor) {
    if let Err(error) = monitor::serve(listener, monitor).await {
        tracing::error!(%error, "metrics can no longer be served");
    }
}

async fn serve(listener: Listener, guard: Guard, sessions: Sessions) {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AgentSessionServiceServer<Sessions>>().await;
    let service =
        AgentSessionServiceServer::new(sessions).max_decoding_message_size(AGENT_MESSAGE_BYTES_MAX);
    let served = tonic::transport::Server::builder()
        .layer(GuardLayer(guard))
        .add_service(health_service)
        .add_service(service)
        .serve_with_incoming(listener.incoming())
        .await;
    if let Err(error) = served {
        tracing::error!(error = steps::chain(&error), "agent sessions can no longer be served");
    }
}
