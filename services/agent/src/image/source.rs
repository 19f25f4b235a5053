//! Where an image comes from: one or more HTTP servers with the same bytes. They are asked in turn,
//! for ever, as long as one of them may have it some day.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderValue, IF_RANGE, RANGE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;

use crate::backoff::Backoff;
use crate::task::{Meter, TaskError, chain};

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How long a server may be silent, before its answer and within it. It may have to heal a chunk.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// First and longest pause after all servers failed in a row. A restarted cache is back within
/// seconds; the longest pause is short beside the minutes that a step may take.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// For how long servers may say that they do not have the image (404 and the like) before they are
/// believed: a cache that has just started, or a proxy, may say so by mistake.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(60);

/// Largest error body that is looked at, in bytes.
const ERROR_BODY_LIMIT_BYTES: usize = 4096;

/// The servers.
#[derive(Debug)]
pub(super) struct Sources {
    http: reqwest::Client,
    servers: Vec<Server>,
    current: usize,
    /// In a row, without a byte of use between them.
    failures: usize,
    refused_since: Option<Instant>,
    backoff: Backoff,
    meter: Arc<Meter>,
}

#[derive(Debug)]
struct Server {
    url: String,
    /// Why it can never serve the image, in its own words.
    corrupt: Option<String>,
}

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

impl Sources {
    /// Servers at `urls`, all of which have the same image. What they send is counted by `meter`.
    pub(super) fn new(urls: &[String], meter: &Arc<Meter>) -> Result<Self, TaskError> {
        if urls.is_empty() {
            return Err(TaskError::invalid("urls", "", "is empty"));
        }
        for url in urls {
            if let Err(error) = reqwest::Url::parse(url) {
                return Err(TaskError::invalid("urls", url, format!("is no URL: {error}")));
            }
        }
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| TaskError::Internal { message: chain(&error) })?;
        let servers = urls.iter().map(|url| Server { url: url.clone(), corrupt: None }).collect();
        Ok(Self {
            http,
            servers,
            current: 0,
            failures: 0,
            refused_since: None,
            backoff: Backoff::new(PAUSE_FIRST, PAUSE_LONGEST),
            meter: Arc::clone(meter),
        })
    }

    /// How many servers there are.
    pub(super) fn count(&self) -> usize {
        self.servers.len()
    }

    /// The server that is asked now.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// The URL of a server.
    pub(super) fn url(&self, server: usize) -> &str {
        self.servers.get(server).map_or("", |server| &server.url)
    }

    /// Asks the current server for `path` below its URL: all of it, or from `range.start` on. With
    /// a `validator`, a server whose content has changed since answers from the beginning.
    pub(super) async fn get(
        &self,
        path: &str,
        range: Option<Range<u64>>,
        validator: Option<&HeaderValue>,
    ) -> Result<Body, Trouble> {
        let url = format!("{}{path}", self.url(self.current));
        // A body that is encoded on the way has other lengths and offsets.
        let mut request = self.http.get(&url).header(ACCEPT_ENCODING, "identity");
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
            _ => return Err(trouble_of(&url, response).await),
        };
        let meter = Arc::clone(&self.meter);
        Ok(Body { response, starts_at, total_bytes, rest: Bytes::new(), meter })
    }

    /// Something of use arrived.
    pub(super) fn progressed(&mut self) {
        self.failures = 0;
        self.refused_since = None;
        self.backoff.reset();
    }

    /// The current server failed: the next one is asked from now on, after a pause when all of them
    /// have failed. An error when trying again is of no use.
    pub(super) async fn failed(&mut self, trouble: Trouble) -> Result<(), TaskError> {
        let url = self.url(self.current).to_owned();
        let mut retry_after = Duration::ZERO;
        match trouble {
            Trouble::Task(error) => return Err(error),
            Trouble::Passing { message, retry_after: asked } => {
                tracing::info!(url, message, "source failed; trying again");
                self.refused_since = None;
                retry_after = asked;
            }
            Trouble::Refused { message } => {
                tracing::info!(url, message, "source refused; trying again");
                let since = *self.refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() > REFUSAL_PATIENCE {
                    return Err(TaskError::SourceUnavailable { url, message });
                }
            }
            Trouble::Corrupt { message } => {
                tracing::warn!(url, message, "source cannot serve this image");
                self.servers[self.current].corrupt = Some(message);
            }
        }

        let Some(next) = self.next_usable() else {
            let message = self.servers[self.current].corrupt.clone().unwrap_or_default();
            return Err(TaskError::SourceCorrupt { url, message });
        };
        self.current = next;
        self.failures += 1;
        if self.failures.is_multiple_of(self.usable_count()) {
            let pause = self.backoff.next().max(retry_after.min(PAUSE_LONGEST));
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    fn usable_count(&self) -> usize {
        self.servers.iter().filter(|server| server.corrupt.is_none()).count().max(1)
    }

    fn next_usable(&self) -> Option<usize> {
        let count = self.servers.len();
        (1..=count)
            .map(|step| (self.current + step) % count)
            .find(|server| self.servers[*server].corrupt.is_none())
    }
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
    let message = format!("{url} answered {status}");
    match serde_json::from_slice::<Verdict>(&body) {
        Ok(verdict) if matches!(status, StatusCode::GONE | StatusCode::BAD_GATEWAY) => {
            Trouble::Corrupt {
                message: format!("{message}: {}: {}", verdict.reason, verdict.message),
            }
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
