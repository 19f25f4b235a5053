//! Starts and stops the cache's servers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use bessemer_access::{Guard, GuardLayer};
use bessemer_image::permit::{PermitKey, WeakSecret};
use bessemer_proto::v1::container_service_server::ContainerServiceServer;
use bessemer_proto::v1::image_replica_service_server::ImageReplicaServiceServer;
use bessemer_proto::v1::image_service_server::ImageServiceServer;
use bessemer_runtime::monitor;
use bessemer_runtime::tls::{InvalidTls, Listener, Peer};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cache::Shared;
use crate::config::{Config, InvalidConfig};
use crate::fetch::Origins;
use crate::metrics;
use crate::replicas::Replicas;
use crate::serve::{Containers, Images, router};

/// What waits in the kernel to be sent on one connection. By default it would be megabytes, which hundreds of connections
/// would take of the memory and, when they begin at different times, of each other's share.
const UNSENT_BYTES: u32 = 256 << 10;

/// Why a cache does not start or ended badly.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    #[error("invalid configuration: {0}")]
    Tls(#[from] InvalidTls),
    #[error(transparent)]
    Metrics(#[from] monitor::ListenError),
    #[error(transparent)]
    File(#[from] bessemer_runtime::config::ConfigError),
    #[error("url_key_files entry `{}` cannot be used", path.display())]
    WeakSecret { path: PathBuf, source: WeakSecret },
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot use data directory `{}`", data_dir.display())]
    DataDir { data_dir: PathBuf, source: std::io::Error },
    #[error("the configuration's [http], [s3] or peers cannot be used")]
    Http { source: std::io::Error },
    #[error("the {server} server failed")]
    Serve { server: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

/// A running cache.
#[derive(Debug)]
pub struct Handle {
    grpc_address: SocketAddr,
    http_address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    base_url: String,
    servers: JoinHandle<Result<(), StartError>>,
}

impl Handle {
    /// Where the gRPC service listens.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc_address
    }

    /// Where the HTTP service listens.
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
    }

    /// Where metrics and health are served, if they are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// The URL that images are advertised under.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// Waits for the cache to end: after its token was cancelled, or because a server failed.
    pub async fn finished(self) -> Result<(), StartError> {
        self.servers.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

/// Starts a cache, which runs until `stop` is cancelled.
///
/// The process must have a TLS provider ([`bessemer_runtime::install_tls_provider`]).
pub async fn start(config: Config, stop: CancellationToken) -> Result<Handle, StartError> {
    config.validate()?;
    let transport = config.tls.service(&[
        ("grpc_listen", Some(config.grpc_listen)),
        ("http_listen", Some(config.http_listen)),
        ("metrics_listen", config.metrics_listen),
    ])?;
    let guard = if transport.is_secure() { Guard::holding(None) } else { Guard::open() };
    let grpc = listen(config.grpc_listen).await?;
    let http = listen(config.http_listen).await?;
    let monitoring = monitor::listen(config.metrics_listen).await?;
    let metrics_address = monitoring.as_ref().map(|(_, address)| *address);
    let (grpc_address, http_address) = (address(&grpc, &config)?, address(&http, &config)?);
    let base_url = match &config.advertised_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("{}://{http_address}", transport.scheme()),
    };
    let origins = Origins::new(&config.http, config.s3.as_ref(), None)
        .map_err(|source| StartError::Http { source })?;
    let replicas = Replicas::new(&config.peers, config.copies, &transport)
        .map_err(|source| StartError::Http { source })?;
    let permit_keys =
        config.url_key_files.iter().map(|path| permit_key(path)).collect::<Result<_, _>>()?;
    let data_dir = config.data_dir.clone();
    let (opened_url, opened_stop) = (base_url.clone(), stop.clone());
    let open =
        move || Shared::open(config, opened_url, origins, replicas, permit_keys, opened_stop);
    let shared = tokio::task::spawn_blocking(open)
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
        .map_err(|source| StartError::DataDir { data_dir, source })?;
    tracing::info!(grpc = %grpc_address, http = %http_address, base_url, "image cache started");
    let servers = tokio::spawn(async move {
        // A server that fails takes the other one with it.
        let stop_all = stop.child_token();
        let _stop_on_return = stop_all.clone().drop_guard();
        let served = tokio::try_join!(
            serve_grpc(transport.grpc(grpc), guard.clone(), Arc::clone(&shared), stop_all.clone()),
            serve_http(transport.http(http), Arc::clone(&shared), stop_all.clone()),
            serve_metrics(
                monitoring.map(|(listener, _)| transport.http(listener)),
                guard,
                Arc::clone(&shared),
                stop_all
            ),
        );
        stop.cancel();
        shared.close().await;
        served.map(|_| ())
    });
    Ok(Handle { grpc_address, http_address, metrics_address, base_url, servers })
}

fn permit_key(path: &Path) -> Result<PermitKey, StartError> {
    let secret = bessemer_runtime::config::secret(path)?;
    PermitKey::derive(&secret)
        .map_err(|source| StartError::WeakSecret { path: path.to_owned(), source })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

fn address(listener: &TcpListener, config: &Config) -> Result<SocketAddr, StartError> {
    listener
        .local_addr()
        .map_err(|source| StartError::Listen { address: config.grpc_listen, source })
}

async fn serve_grpc(
    listener: Listener,
    guard: Guard,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ImageServiceServer<Images>>().await;
    let server = tonic::transport::Server::builder()
        .layer(GuardLayer(guard))
        .add_service(health_service)
        .add_service(ImageReplicaServiceServer::new(Images(Arc::clone(&shared))))
        .add_service(ContainerServiceServer::new(Containers(Arc::clone(&shared))))
        .add_service(ImageServiceServer::new(Images(shared)))
        .serve_with_incoming_shutdown(listener.incoming(), stop.cancelled_owned());
    server.await.map_err(|error| StartError::Serve { server: "gRPC", source: error.into() })
}

async fn serve_metrics(
    listener: Option<Listener>,
    guard: Guard,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let Some(listener) = listener else { return Ok(()) };
    tokio::select! {
        served = monitor::serve(listener, metrics::monitor(&shared, guard.refused())) => {
            served.map_err(|error| StartError::Serve { server: "metrics", source: error.into() })
        }
        () = stop.cancelled() => Ok(()),
    }
}

async fn serve_http(
    listener: Listener,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> Result<(), StartError> {
    let listener = listener.tap_io(|connection| {
        // Only less fair without.
        let _ = socket2::SockRef::from(connection.tcp()).set_tcp_notsent_lowat(UNSENT_BYTES);
    });
    let service = router(shared).into_make_service_with_connect_info::<Peer>();
    // Not graceful: agents resume, and a transfer can take longer than anybody wants to wait.
    tokio::select! {
        served = std::future::IntoFuture::into_future(axum::serve(listener, service)) => {
            served.map_err(|error| StartError::Serve { server: "HTTP", source: error.into() })
        }
        () = stop.cancelled() => Ok(()),
    }
}
