//! HTTP clients, which hold the open connections to BMCs.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use reqwest::redirect::Policy;

use super::service::ANSWER_LIMIT;
use super::trust::{Trust, tls};
use crate::HardwareError;

/// How long a BMC may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// BMCs close idle connections themselves, some within 15 s; one that is closed while a request is sent costs an attempt.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Redirections in a row that are followed: to a canonical path, no more.
const REDIRECTIONS_MAX: usize = 3;

/// HTTP clients, one for each [`Trust`]: they hold the open connections.
#[derive(Clone, Default)]
pub(super) struct Clients(Arc<Mutex<HashMap<Trust, Client>>>);

impl Clients {
    pub(super) fn get(&self, trust: &Trust) -> Result<Client, HardwareError> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(trust) {
            return Ok(client.clone());
        }
        let client = build(trust)?;
        clients.insert(trust.clone(), client.clone());
        Ok(client)
    }
}

fn build(trust: &Trust) -> Result<Client, HardwareError> {
    let failed = |path: &Path, error: &dyn std::error::Error| HardwareError::Io {
        action: "use the certificates of",
        path: path.to_owned(),
        source: std::io::Error::other(error.to_string()),
    };
    let client = Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .timeout(ANSWER_LIMIT)
        .pool_idle_timeout(IDLE_LIMIT)
        .tcp_nodelay(true)
        // BMCs are in the conductor's own network; the environment's proxies are for others.
        .no_proxy()
        .redirect(Policy::custom(|attempt| {
            // A token must not follow to another server.
            let first = &attempt.previous()[0];
            if attempt.url().origin() != first.origin()
                || attempt.previous().len() > REDIRECTIONS_MAX
            {
                attempt.stop()
            } else {
                attempt.follow()
            }
        }));
    match trust {
        Trust::System => client.build().map_err(|error| failed(Path::new("the system"), &error)),
        Trust::Anybody => client
            .tls_danger_accept_invalid_certs(true)
            .build()
            .map_err(|error| failed(Path::new("nobody"), &error)),
        Trust::These { path, pem } => {
            let tls = tls(pem).map_err(|error| failed(path, &error))?;
            client.tls_backend_preconfigured(tls).build().map_err(|error| failed(path, &error))
        }
    }
}
