//! Connections to others.

use std::io;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use super::Transport;

/// A URL that cannot be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` {reason}")]
pub struct InvalidUrl {
    /// As it was given.
    pub url: String,
    /// What is wrong with it and the way out; reads on from the URL.
    pub reason: &'static str,
}

impl Transport {
    /// Where gRPC is spoken. Nothing is ever spoken in the clear by who has certificates, nor the other way round.
    ///
    /// # Errors
    /// [`InvalidUrl`] when the scheme is not that of this transport, or it is no URL.
    pub fn endpoint(&self, url: &str) -> Result<Endpoint, InvalidUrl> {
        let refuse = |reason| InvalidUrl { url: url.to_owned(), reason };
        match (self.is_secure(), url.split_once("://").map(|(scheme, _)| scheme)) {
            (true, Some("https")) | (false, Some("http")) => {}
            (true, Some("http")) => {
                return Err(refuse("is in the clear, yet TLS is configured: write https://"));
            }
            (false, Some("https")) => {
                return Err(refuse("needs TLS: name the authority to believe, its ca_file"));
            }
            (true, _) => return Err(refuse("does not begin with https://")),
            (false, _) => return Err(refuse("does not begin with http://")),
        }
        Endpoint::from_shared(url.to_owned())
            .map_err(|_| refuse("is not a URL such as http://127.0.0.1:6385"))
    }

    /// A channel that connects when it is first used, and again whenever the connection was lost.
    #[must_use]
    pub fn channel(&self, endpoint: &Endpoint) -> Channel {
        match &self.0 {
            None => endpoint.connect_lazy(),
            Some(secure) => {
                let config = Arc::clone(&secure.asking_grpc);
                endpoint.connect_with_connector_lazy(service_fn(move |uri: Uri| {
                    let config = Arc::clone(&config);
                    async move { Ok::<_, io::Error>(TokioIo::new(dial(config, &uri).await?)) }
                }))
            }
        }
    }

    /// A channel that is connected.
    ///
    /// # Errors
    /// When it cannot be, or the other side is not believed.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        match &self.0 {
            None => endpoint.connect().await,
            Some(secure) => {
                let config = Arc::clone(&secure.asking_grpc);
                let connector = service_fn(move |uri: Uri| {
                    let config = Arc::clone(&config);
                    async move { Ok::<_, io::Error>(TokioIo::new(dial(config, &uri).await?)) }
                });
                endpoint.connect_with_connector(connector).await
            }
        }
    }
}

async fn dial(config: Arc<ClientConfig>, uri: &Uri) -> io::Result<TlsStream<TcpStream>> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(443);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let connection = TcpStream::connect((host, port)).await?;
    connection.set_nodelay(true)?;
    let connector = TlsConnector::from(config);
    connector.connect(name, connection).await.map_err(|error| {
        io::Error::new(error.kind(), format!("no TLS with {host}:{port}: {error}"))
    })
}
