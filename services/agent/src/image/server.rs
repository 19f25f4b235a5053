//! One HTTP server that has an image: a request to it, and its answer as it arrives.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bessemer_runtime::tls::Transport;
use bytes::{Buf, Bytes};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderValue, IF_RANGE, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use rustls::client::danger::ServerCertVerifier;
use serde::Deserialize;

use crate::task::{Meter, TaskError, chain};

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long a server may be silent, before its answer and within it. It may have to heal a chunk.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// Largest error body that is looked at, in bytes.
const ERROR_BODY_LIMIT_BYTES: usize = 4096;

/// Why a request, or the answer to it, came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    /// May be over soon: the server is down, healing, or the connection was cut.
    Passing { message: String, retry_after: Duration },
    /// The server says that it does not have this, or that we may not have it.
    Refused { message: String },
    /// The server has a damaged image that it cannot mend.
    Corrupt { message: String },
    /// Not the source's fault; ends the task.
    Task(TaskError),
}

impl From<TaskError> for Trouble {
    fn from(error: TaskError) -> Self {
        Self::Task(error)
    }
}

impl Trouble {
    pub(super) fn passing(message: impl Into<String>) -> Self {
        Self::Passing { message: message.into(), retry_after: Duration::ZERO }
    }
}

/// The JSON that a cache sends when it cannot serve an image for good.
#[derive(Debug, Deserialize)]
struct Verdict {
    reason: String,
    message: String,
}

/// Asks servers. What they send is counted. Clones share the connections.
#[derive(Debug, Clone)]
pub(super) struct HttpClient {
    http: reqwest::Client,
    meter: Arc<Meter>,
}

impl HttpClient {
    /// What servers send is counted by `meter`. The cluster's own are believed as `transport` says, others by the system's
    /// authorities.
    pub(super) fn new(transport: &Transport, meter: &Arc<Meter>) -> Result<Self, TaskError> {
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_LIMIT).tcp_nodelay(true);
        if let Some(tls) = transport.http_client_beside(public_authorities()) {
            http = http.tls_backend_preconfigured(tls);
        }
        let http = http.build().map_err(|error| TaskError::Internal { message: chain(&error) })?;
        Ok(Self { http, meter: Arc::clone(meter) })
    }

    /// Asks for `url`: all of it, or from `range.start` on. With a `validator`, a server whose content has changed since
    /// answers from the beginning.
    pub(super) async fn get(
        &self,
        url: &str,
        range: Option<Range<u64>>,
        validator: Option<&HeaderValue>,
    ) -> Result<Body, Trouble> {
        // A body that is encoded on the way has other lengths and offsets.
        let mut request = self.http.get(url).header(ACCEPT_ENCODING, "identity");
        if let Some(Range { start, end }) = range {
            let last = if end == u64::MAX { String::new() } else { (end - 1).to_string() };
            request = request.header(RANGE, format!("bytes={start}-{last}"));
        }
        if let Some(validator) = validator {
            request = request.header(IF_RANGE, validator);
        }
        let response = tokio::time::timeout(IDLE_LIMIT, request.send())
            .await
            .map_err(|_| Trouble::passing(format!("{url} does not answer")))?
            .map_err(|error| Trouble::passing(chain(&error)))?;
        let (starts_at, total_bytes) = match response.status() {
            StatusCode::OK => (0, response.content_length()),
            StatusCode::PARTIAL_CONTENT => content_range(&response).ok_or_else(|| {
                Trouble::Refused { message: format!("{url} sent a part without saying which") }
            })?,
            _ => return Err(trouble_of(url, response).await),
        };
        let meter = Arc::clone(&self.meter);
        Ok(Body { response, starts_at, total_bytes, rest: Bytes::new(), meter })
    }
}

/// Those that the system believes; none where it has none, as a ramdisk without any.
fn public_authorities() -> Option<Arc<dyn ServerCertVerifier>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls_platform_verifier::Verifier::new(provider);
    verifier.ok().map(|verifier| Arc::new(verifier) as _)
}

/// An answer, as it arrives.
#[derive(Debug)]
pub(super) struct Body {
    response: Response,
    /// Which byte of the whole it begins with.
    pub(super) starts_at: u64,
    /// Length of the whole, if the server said.
    pub(super) total_bytes: Option<u64>,
    rest: Bytes,
    meter: Arc<Meter>,
}

impl Body {
    /// The next bytes, at most `limit_bytes` and at least one.
    pub(super) async fn next_part(&mut self, limit_bytes: usize) -> Result<Bytes, Trouble> {
        while self.rest.is_empty() {
            let part = tokio::time::timeout(IDLE_LIMIT, self.response.chunk())
                .await
                .map_err(|_| Trouble::passing("the server stopped sending"))?
                .map_err(|error| Trouble::passing(chain(&error)))?
                .ok_or_else(|| Trouble::passing("the body ended early"))?;
            self.meter.add_wire(part.len() as u64);
            self.rest = part;
        }
        Ok(self.rest.split_to(limit_bytes.min(self.rest.len())))
    }

    /// Replaces `into` by the next `length_bytes`.
    pub(super) async fn read(
        &mut self,
        length_bytes: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), Trouble> {
        into.clear();
        while into.len() < length_bytes {
            let part = self.next_part(length_bytes - into.len()).await?;
            into.extend_from_slice(&part);
        }
        Ok(())
    }

    /// Passes over the next `length_bytes`.
    pub(super) async fn skip(&mut self, mut length_bytes: usize) -> Result<(), Trouble> {
        while length_bytes > 0 {
            length_bytes -= self.next_part(length_bytes).await?.remaining();
        }
        Ok(())
    }

    /// What tells this content from another at the same URL: its entity tag or date.
    pub(super) fn validator(&self) -> Option<HeaderValue> {
        use reqwest::header::{ETAG, LAST_MODIFIED};
        let headers = self.response.headers();
        // A weak tag may not be used to put parts together.
        let strong = |tag: &&HeaderValue| !tag.as_bytes().starts_with(b"W/");
        headers.get(ETAG).filter(strong).or_else(|| headers.get(LAST_MODIFIED)).cloned()
    }
}

/// First byte and total of `bytes 0-99/1000`.
fn content_range(response: &Response) -> Option<(u64, Option<u64>)> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()))
}

/// What an answer that is no success means.
async fn trouble_of(url: &str, mut response: Response) -> Trouble {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds: u64 = after.and_then(|value| value.parse().ok()).unwrap_or_default();
    let retry_after = Duration::from_secs(seconds);
    let mut body = Vec::new();
    while body.len() < ERROR_BODY_LIMIT_BYTES
        && let Ok(Ok(Some(part))) = tokio::time::timeout(IDLE_LIMIT, response.chunk()).await
    {
        body.extend_from_slice(&part);
    }
    let verdict = serde_json::from_slice::<Verdict>(&body).ok();
    let message = match &verdict {
        Some(Verdict { reason, message }) => {
            format!("{url} answered {status}: {reason}: {message}")
        }
        None => format!("{url} answered {status}"),
    };
    match verdict {
        Some(_) if matches!(status, StatusCode::GONE | StatusCode::BAD_GATEWAY) => {
            Trouble::Corrupt { message }
        }
        _ if status.is_client_error()
            && !matches!(
                status,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::TOO_EARLY
            ) =>
        {
            Trouble::Refused { message }
        }
        _ => Trouble::Passing { message, retry_after },
    }
}
