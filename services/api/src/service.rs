//! Puts the parts together: one listener for clients, conductors, agents and the other members; one each for the
//! dashboard, Ironic's REST API and metrics, where they are asked for.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bessemer_access::{Guard, GuardLayer, InvalidTokenFile, Tokens};
use bessemer_domain::lease::Leases;
use bessemer_ledger::{Ledger, OpenError, RaftServiceServer};
use bessemer_proto::FILE_DESCRIPTOR_SET;
use bessemer_proto::v1::agent_lookup_service_server::AgentLookupServiceServer;
use bessemer_proto::v1::allocation_service_server::AllocationServiceServer;
use bessemer_proto::v1::cluster_service_server::ClusterServiceServer;
use bessemer_proto::v1::conductor_service_server::ConductorServiceServer;
use bessemer_proto::v1::event_service_server::EventServiceServer;
use bessemer_proto::v1::image_service_server::ImageServiceServer;
use bessemer_proto::v1::node_service_server::NodeServiceServer;
use bessemer_proto::v1::port_service_server::PortServiceServer;
use bessemer_proto::v1::template_service_server::TemplateServiceServer;
use bessemer_runtime::monitor;
use bessemer_runtime::tls::{InvalidTls, InvalidUrl, Listener, Transport};
use bessemer_secrets::{InvalidKeyRing, KeyRing};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tower::layer::util::{Identity, Stack};

use crate::api::Api;
use crate::commit::Commits;
use crate::image::ImageCaches;
use crate::metrics::CommandMetrics;
use crate::progress::ProgressTable;
use crate::{Config, dashboard, expiry, health, metrics, rest};

/// Largest message taken or sent, as clients have it.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Calls in progress on one connection. A conductor multiplexes all its nodes over one.
const STREAMS_PER_CONNECTION_MAX: u32 = 4096;

/// A peer is asked for a sign of life this often, so that a watcher that is gone does not stay for ever.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long calls in progress may go on once the member is told to stop.
const GRACE: Duration = Duration::from_secs(3);

/// What stands before the services.
type Guarded = Stack<GuardLayer, Identity>;

/// A member could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error("configuration: {field} {reason}")]
    Config {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The address cannot be listened at.
    #[error("cannot listen at {address}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address for metrics cannot be listened at.
    #[error(transparent)]
    Metrics(#[from] monitor::ListenError),
    /// The URL of an image cache is none.
    #[error("image_caches: {0}")]
    ImageCache(InvalidUrl),
    /// The certificates cannot be used, or there are none where there must be.
    #[error("configuration: {0}")]
    Tls(#[from] InvalidTls),
    /// The keys of secrets cannot be used.
    #[error("configuration: {0}")]
    Keys(#[from] InvalidKeyRing),
    /// The tokens cannot be used.
    #[error("configuration: {0}")]
    Tokens(#[from] InvalidTokenFile),
    /// The ledger cannot be opened.
    #[error("cannot open the ledger")]
    Ledger(#[from] OpenError),
}

/// A member stopped that should not have.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The ledger can take no part any more.
    #[error("the ledger has failed: {reason}")]
    Ledger {
        /// What happened to it.
        reason: String,
    },
    /// The listener failed.
    #[error("the server has failed")]
    Server(#[from] tonic::transport::Error),
    /// The listener of the dashboard, of Ironic's REST API or of the metrics failed.
    #[error("the HTTP server has failed")]
    Http(#[from] std::io::Error),
    /// A defect of ours.
    #[error("a task has panicked")]
    Panicked(#[from] JoinError),
}

/// A running member.
#[derive(Debug)]
pub struct Handle {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it serves the dashboard, if it does.
    pub dashboard_address: Option<SocketAddr>,
    /// Where it serves Ironic's REST API, if it does.
    pub rest_address: Option<SocketAddr>,
    /// Where it serves metrics and health, if it does.
    pub metrics_address: Option<SocketAddr>,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Handle {
    /// Returns when the member has stopped.
    ///
    /// # Errors
    /// [`ServeError`] when it was not told to.
    pub async fn stopped(self) -> Result<(), ServeError> {
        self.task.await?
    }
}

/// Starts a member that listens where `config` says. It stops when `shutdown` is cancelled.
///
/// # Errors
/// [`StartError`] when the address is taken, the ledger cannot be opened or the configuration is wrong.
pub async fn start(config: Config, shutdown: CancellationToken) -> Result<Handle, StartError> {
    let address = config.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| StartError::Listen { address, source })?;
    start_on(listener, config, shutdown).await
}

/// The same on a listener that is bound already, for members whose ports are chosen by the system.
///
/// # Errors
/// As [`start`].
pub async fn start_on(
    listener: TcpListener,
    config: Config,
    shutdown: CancellationToken,
) -> Result<Handle, StartError> {
    if config.conductor_lease().is_zero() {
        let reason = "is 0; conductors need time to be heard of".to_owned();
        return Err(StartError::Config { field: "conductor_lease_milliseconds", reason });
    }
    let address = listener
        .local_addr()
        .map_err(|source| StartError::Listen { address: config.listen, source })?;
    let transport = config.tls.service(&[
        ("listen", Some(address)),
        ("dashboard_listen", config.dashboard_listen),
        ("rest_listen", config.rest_listen),
        ("metrics_listen", config.metrics_listen),
    ])?;
    let guard = guard(&config, &transport)?;
    let keys = config.secret_keys_file.as_deref().map(KeyRing::open).transpose()?;
    let image_caches = ImageCaches::new(&config.image_caches, &transport)?;
    let dashboard = match config.dashboard_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let rest = match config.rest_listen {
        Some(address) => {
            let settings = rest::Settings::try_new(&config, address, transport.is_secure())?;
            Some((bind(address).await?, settings))
        }
        None => None,
    };
    let metrics = monitor::listen(config.metrics_listen).await?;
    let dashboard_address = dashboard.as_ref().map(|(_, address)| *address);
    let rest_address = rest.as_ref().map(|((_, address), _)| *address);
    let metrics_address = metrics.as_ref().map(|(_, address)| *address);
    let (ledger, raft) = Ledger::open(config.ledger(transport.clone())).await?;
    tracing::info!(
        %address, dashboard = ?dashboard_address, rest = ?rest_address, metrics = ?metrics_address,
        member.id = config.member_id, "listening"
    );
    let commands = CommandMetrics::default();
    let api = Arc::new(Api {
        config,
        guard,
        keys,
        commits: Commits::new(ledger.clone(), commands.clone()),
        ledger,
        image_caches,
        leases: Mutex::new(Leases::default()),
        progress: Mutex::new(ProgressTable::default()),
        stopping: shutdown.child_token(),
    });
    let mut http = JoinSet::new();
    if let Some((listener, _)) = dashboard {
        http.spawn(dashboard::serve(Arc::clone(&api), transport.http(listener)));
    }
    if let Some(((listener, _), settings)) = rest {
        http.spawn(rest::serve(Arc::clone(&api), settings, transport.http(listener)));
    }
    if let Some((listener, _)) = metrics {
        http.spawn(monitor::serve(transport.http(listener), metrics::monitor(&api, &commands)));
    }
    let task = tokio::spawn(run(api, raft, transport.grpc(listener), http));
    Ok(Handle { address, dashboard_address, rest_address, metrics_address, task })
}

/// With TLS callers are held to what they may do; without it nobody could prove who they are.
fn guard(config: &Config, transport: &Transport) -> Result<Guard, StartError> {
    match (&config.token_file, transport.is_secure()) {
        (None, false) => Ok(Guard::open()),
        (Some(_), false) => {
            let reason =
                "needs certificates: a token is not to be sent in the clear; set those of [tls]";
            Err(StartError::Config { field: "token_file", reason: reason.to_owned() })
        }
        (file, true) => {
            let tokens = file.as_deref().map(Tokens::open).transpose()?;
            Ok(Guard::holding(tokens))
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listen = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    Ok((listener, bound))
}

/// Serves until the member is told to stop or cannot go on.
async fn run(
    api: Arc<Api>,
    raft: RaftServiceServer,
    listener: Listener,
    mut http: JoinSet<std::io::Result<()>>,
) -> Result<(), ServeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut tasks = JoinSet::new();
    tasks.spawn(expiry::run(Arc::clone(&api)));
    tasks.spawn(health::report(api.ledger.clone(), reporter));
    let (stopping, ledger) = (api.stopping.clone(), api.ledger.clone());
    let router = router(api, raft).add_service(health);
    let stopped = stopping.clone().cancelled_owned();
    let serving = router.serve_with_incoming_shutdown(listener.incoming(), stopped);
    let mut server = tokio::spawn(serving);

    let ended = tokio::select! {
        () = stopping.cancelled() => Ok(()),
        reason = ledger.failed() => Err(ServeError::Ledger { reason }),
        served = &mut server => match served {
            Ok(served) => served.map_err(ServeError::from),
            Err(panicked) => Err(panicked.into()),
        },
        Some(Err(panicked)) = tasks.join_next() => Err(panicked.into()),
        Some(ended) = http.join_next() => match ended {
            Ok(served) => served.map_err(ServeError::from),
            Err(panicked) => Err(panicked.into()),
        },
    };
    stopping.cancel();
    tasks.shutdown().await;
    http.shutdown().await;
    if !server.is_finished() && tokio::time::timeout(GRACE, &mut server).await.is_err() {
        tracing::warn!("calls in progress were cut off");
        server.abort();
    }
    ledger.shutdown().await;
    ended
}

fn router(api: Arc<Api>, raft: RaftServiceServer) -> Router<Guarded> {
    /// The generated server of a service, with our limits.
    macro_rules! serve {
        ($server:ident) => {
            $server::from_arc(Arc::clone(&api))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        };
    }
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("the descriptors were encoded by our own build");
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_INTERVAL))
        .layer(GuardLayer(api.guard.clone()))
        .add_service(raft)
        .add_service(reflection)
        .add_service(serve!(NodeServiceServer))
        .add_service(serve!(PortServiceServer))
        .add_service(serve!(AllocationServiceServer))
        .add_service(serve!(TemplateServiceServer))
        .add_service(serve!(EventServiceServer))
        .add_service(serve!(ClusterServiceServer))
        .add_service(serve!(ImageServiceServer))
        .add_service(serve!(ConductorServiceServer))
        .add_service(serve!(AgentLookupServiceServer))
}
