//! The conductor: claims nodes, runs the steps that their state asks for, and publishes their events.
//!
//! It holds nothing that must not be lost. It follows the replicated state, does what [`bessemer_domain::effects`] says
//! must be happening for the nodes that the ring gives it, and reports with commands. Another conductor that takes over
//! computes the same effects from the same state.

mod bmc;
mod cluster;
mod config;
mod config_drives;
mod faces;
mod hardware;
mod images;
mod metrics;
mod network_boot;
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
use bessemer_runtime::monitor;
use bessemer_runtime::tls::{InvalidTls, InvalidUrl};
use bessemer_secrets::{InvalidKeyRing, KeyRing};
use futures::FutureExt;
use futures::future::BoxFuture;
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
use faces::Faces;
use hardware::HardwareTypes;
use images::ImageCaches;
use metrics::Metrics;
use progress::ProgressBoard;
use replica::Replica;
use sessions::Sessions;

/// Changes that the work loop has not looked at yet. It only compares states, so it is never far behind.
const CHANGES_WAITING: usize = 1024;

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
    /// Open the secrets of nodes, if there are any.
    pub(crate) keys: Option<KeyRing>,
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
    /// The deploy ramdisk for network boot cannot be used.
    #[error("configuration: {0}")]
    Ramdisk(String),
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
    let faces = Faces::bind(&config).await?;
    let (address, metrics_address) = (faces.address, faces.metrics_address());
    let members = Members::new(&config.api_urls, &faces.transport)
        .map_err(|source| StartError::Address { field: "api_urls", source })?;
    let (proposals, send_proposals) = Proposals::new(Arc::clone(&members), &own.id);
    let key = config.signed_urls.as_ref().map(permit_key).transpose()?;
    let images = ImageCaches::new(&config.image_caches, key, &faces.transport)
        .map_err(|source| StartError::Address { field: "image_caches", source })?;
    let keys = config.secret_keys_file.as_deref().map(KeyRing::open).transpose()?;
    let hardware = HardwareTypes::new(&config, runner, keys.clone());
    let registration = Registration {
        incarnation: own.incarnation,
        conductor_group: config.conductor_group.clone(),
        hardware_types: hardware.names().map(str::to_owned).collect(),
        address: faces.advertised(config.advertised_address.as_deref())?,
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
        http_url: faces.http_url(),
        metrics: metrics.clone(),
        keys,
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
    faces.serve(&context).into_iter().for_each(&mut spawn);
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
