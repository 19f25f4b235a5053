//! Where the conductor is reached: by agents, by BMCs, by monitoring.

use std::net::SocketAddr;
use std::sync::Arc;

use bessemer_access::{Guard, GuardLayer};
use bessemer_proto::v1::agent_session_service_server::AgentSessionServiceServer;
use bessemer_runtime::monitor::{self, Monitor};
use bessemer_runtime::tls::{Listener, Transport};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpListener;

use crate::config::{Config, HttpConfig};
use crate::network_boot::{self, DeployRamdisk};
use crate::replica::Replica;
use crate::sessions::Sessions;
use crate::{Context, StartError, config_drives, metrics, steps};

/// Largest message of an agent: its inventory.
const AGENT_MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// All that it listens at.
pub(crate) struct Faces {
    /// How it speaks, with those who call it and with those that it calls.
    pub(crate) transport: Transport,
    /// Where agents open their sessions.
    pub(crate) address: SocketAddr,
    agents: TcpListener,
    /// What BMCs and firmware fetch.
    files: Option<Files>,
    monitoring: Option<(TcpListener, SocketAddr)>,
}

impl Faces {
    /// Takes all addresses of the configuration.
    ///
    /// # Errors
    /// [`StartError`] when one is taken, or others could reach one without TLS.
    pub(crate) async fn bind(config: &Config) -> Result<Self, StartError> {
        let transport = transport(config)?;
        let fault = |source| StartError::Listen { address: config.listen, source };
        let agents = TcpListener::bind(config.listen).await.map_err(fault)?;
        let address = agents.local_addr().map_err(fault)?;
        let files = listen_for_bmcs(config.http.as_ref(), &transport).await?;
        let monitoring = monitor::listen(config.metrics_listen).await?;
        Ok(Self { transport, address, agents, files, monitoring })
    }

    /// Where metrics and health are served, if they are.
    pub(crate) fn metrics_address(&self) -> Option<SocketAddr> {
        self.monitoring.as_ref().map(|(_, address)| *address)
    }

    /// Where BMCs fetch what is served to them, if anything is.
    pub(crate) fn http_url(&self) -> Option<String> {
        self.files.as_ref().map(|files| files.url.clone())
    }

    /// Where agents are told to go: as configured, else where it listens.
    ///
    /// # Errors
    /// [`StartError::Address`] when that is no URL, or one of another scheme: agents would not go there.
    pub(crate) fn advertised(&self, configured: Option<&str>) -> Result<String, StartError> {
        let Some(url) = configured else {
            return Ok(format!("{}://{}", self.transport.scheme(), self.address));
        };
        let field = "advertised_address";
        let checked = self.transport.endpoint(url);
        checked.map_err(|source| StartError::Address { field, source })?;
        Ok(url.to_owned())
    }

    /// Serves all of them, for ever.
    pub(crate) fn serve(self, context: &Arc<Context>) -> Vec<BoxFuture<'static, ()>> {
        let guard = if self.transport.is_secure() { Guard::holding(None) } else { Guard::open() };
        let monitor = metrics::monitor(context, guard.refused());
        let agents = self.transport.grpc(self.agents);
        let mut servers = vec![serve_agents(agents, guard, context.sessions.clone()).boxed()];
        if let Some(files) = self.files {
            servers.push(serve_files(files, context.replica.clone()).boxed());
        }
        if let Some((listener, _)) = self.monitoring {
            servers.push(serve_monitor(self.transport.http(listener), monitor).boxed());
        }
        servers
    }
}

/// What BMCs and firmware fetch.
struct Files {
    listener: Listener,
    /// As they reach it.
    url: String,
    ramdisk: Option<DeployRamdisk>,
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

/// Where BMCs fetch what they show to machines, and firmware what it boots.
async fn listen_for_bmcs(
    http: Option<&HttpConfig>,
    transport: &Transport,
) -> Result<Option<Files>, StartError> {
    let Some(http) = http else { return Ok(None) };
    let ramdisk = match http.ramdisk_dir.clone() {
        Some(directory) => Some(DeployRamdisk::open(directory).await.map_err(StartError::Ramdisk)?),
        None => None,
    };
    let fault = |source| StartError::Listen { address: http.listen, source };
    let listener = TcpListener::bind(http.listen).await.map_err(fault)?;
    let bound = listener.local_addr().map_err(fault)?;
    let transport = if http.insecure { Transport::plain() } else { transport.clone() };
    let url = match &http.advertised_url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => format!("{}://{bound}", transport.scheme()),
    };
    Ok(Some(Files { listener: transport.http(listener), url, ramdisk }))
}

async fn serve_files(files: Files, replica: Replica) {
    let router =
        config_drives::router(replica.clone()).merge(network_boot::router(replica, files.ramdisk));
    if let Err(error) = axum::serve(files.listener, router).await {
        tracing::error!(
            error = steps::chain(&error),
            "config drives and boot scripts can no longer be served"
        );
    }
}

async fn serve_monitor(listener: Listener, monitor: Monitor) {
    if let Err(error) = monitor::serve(listener, monitor).await {
        tracing::error!(%error, "metrics can no longer be served");
    }
}

async fn serve_agents(listener: Listener, guard: Guard, sessions: Sessions) {
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
