//! Typed gRPC client of the API: any member will do, and the one that stops answering is left for another.
//!
//! Every call is repeated, the same request with the same command id, until a member answers it or the client's
//! deadline passes; so a change of leader or the loss of a member is a delay and not an error. Streams resume.

mod endpoints;
mod error;
mod members;
mod retry;
mod rpc;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use bessemer_runtime::tls::Transport;
use tonic::metadata::{Ascii, MetadataValue};

pub use endpoints::InvalidEndpoint;
pub use error::{Error, Refusal};

use crate::endpoints::Endpoints;

/// How long a call is repeated before the caller is told that the cluster cannot be reached: several elections, and
/// time for a member to be restarted.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);

/// Name of the metadata that says who asks.
const ACTOR_METADATA: &str = "x-bessemer-actor";

/// A client of the API. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Client {
    endpoints: Arc<Endpoints>,
    actor: Option<MetadataValue<Ascii>>,
    authorization: Option<MetadataValue<Ascii>>,
    deadline: Duration,
}

impl Client {
    /// A client of the members at `endpoints`, such as `http://10.0.0.1:6385`. Connects when it is first used, so it
    /// must be made within a Tokio runtime.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] when there is none, or one is not an `http` URL.
    pub fn new<T: AsRef<str>>(endpoints: &[T]) -> Result<Self, InvalidEndpoint> {
        Self::over(&Transport::plain(), endpoints)
    }

    /// The same by TLS, if that is what the transport is; the URLs say so too.
    ///
    /// # Errors
    /// [`InvalidEndpoint`] when there is none, or one has another scheme than the transport.
    pub fn over<T: AsRef<str>>(
        transport: &Transport,
        endpoints: &[T],
    ) -> Result<Self, InvalidEndpoint> {
        Ok(Self {
            endpoints: Arc::new(Endpoints::new(endpoints, transport)?),
            actor: None,
            authorization: None,
            deadline: DEADLINE_DEFAULT,
        })
    }

    /// The same connections, on behalf of `actor`. Characters that a header cannot hold become `?`.
    #[must_use]
    pub fn with_actor(mut self, actor: &str) -> Self {
        let plain: String =
            actor.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
        self.actor = MetadataValue::try_from(plain).ok();
        self
    }

    /// The same connections; every call shows the token. None when it holds what a header cannot.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Option<Self> {
        let mut value = MetadataValue::try_from(format!("Bearer {token}")).ok()?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Some(self)
    }

    /// The same connections; calls are repeated for `deadline` before they fail. 30 seconds unless set.
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(actor) = &self.actor {
            request.metadata_mut().insert(ACTOR_METADATA, actor.clone());
        }
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }
}
