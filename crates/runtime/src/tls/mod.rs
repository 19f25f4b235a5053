//! How processes speak with each other: by TLS 1.3, each side with a certificate where it has one, or in the clear on
//! loopback.
//!
//! Certificates are read again when their files change, without a restart; a file that cannot be used is logged and the
//! one before kept. A connection that is open stays as it was begun.

mod config;
mod dial;
mod files;
mod listen;
mod trust;

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;

pub use self::config::{Config, InvalidTls};
pub use self::dial::InvalidUrl;
pub use self::files::Fingerprint;
pub use self::listen::{Listener, Peer, Stream};
use self::trust::Servers;

/// How a process speaks with others. Clones share the certificates.
#[derive(Debug, Clone, Default)]
pub struct Transport(Option<Arc<Secure>>);

#[derive(Debug)]
struct Secure {
    asking_grpc: Arc<rustls::ClientConfig>,
    asking_http: rustls::ClientConfig,
    servers: Servers,
    /// None without a certificate of its own: then it can only ask.
    answering: Option<Answering>,
}

/// The two differ in the protocol that they agree on.
#[derive(Debug)]
struct Answering {
    grpc: Arc<rustls::ServerConfig>,
    http: Arc<rustls::ServerConfig>,
}

impl Transport {
    /// Everything in the clear.
    #[must_use]
    pub fn plain() -> Self {
        Self::default()
    }

    /// Whether it is TLS.
    #[must_use]
    pub const fn is_secure(&self) -> bool {
        self.0.is_some()
    }

    /// What URLs begin with: `https` or `http`.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.is_secure() { "https" } else { "http" }
    }

    /// What HTTP clients are to be built with; none in the clear.
    #[must_use]
    pub fn http_client(&self) -> Option<rustls::ClientConfig> {
        self.0.as_ref().map(|secure| secure.asking_http.clone())
    }

    /// The same for servers that may be others than the cluster's, which `others` believes or not.
    #[must_use]
    pub fn http_client_beside(
        &self,
        others: Option<Arc<dyn ServerCertVerifier>>,
    ) -> Option<rustls::ClientConfig> {
        let mut client = self.http_client()?;
        let servers = self.0.as_ref()?.servers.beside(others);
        client.dangerous().set_certificate_verifier(Arc::new(servers));
        Some(client)
    }
}
