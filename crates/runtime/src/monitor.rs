//! What monitoring asks of a process over HTTP: its metrics, whether it lives, and whether it is of use.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::tls::Listener;

/// The text format that Prometheus asks for: OpenMetrics.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Refresh = Box<dyn Fn() + Send + Sync>;
type Ready = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What a process tells of itself.
pub struct Monitor {
    /// Its metrics.
    pub registry: Registry,
    /// Brings those metrics up to date that are looked up rather than counted.
    pub refresh: Refresh,
    /// Whether it is of use now, or why not.
    pub ready: Ready,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// An address that cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("metrics_listen: cannot listen at {address}")]
pub struct ListenError {
    /// As configured.
    pub address: SocketAddr,
    /// What the system says.
    pub source: std::io::Error,
}

/// The listener for metrics and health, if one is configured, and where it is.
///
/// # Errors
/// When the address is taken.
pub async fn listen(
    address: Option<SocketAddr>,
) -> Result<Option<(TcpListener, SocketAddr)>, ListenError> {
    let Some(address) = address else { return Ok(None) };
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    bound.await.map(Some).map_err(|source| ListenError { address, source })
}

/// Serves `/metrics`, `/healthz` and `/readyz`. Never ends but with the listener.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: Listener, monitor: Monitor) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Arc::new(monitor));
    axum::serve(listener, router).await
}

async fn metrics(State(monitor): State<Arc<Monitor>>) -> Response {
    (monitor.refresh)();
    let mut text = String::new();
    match encode(&mut text, &monitor.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(monitor): State<Arc<Monitor>>) -> Response {
    match (monitor.ready)() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}
