//! One HTTP download, resumed where it was cut.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use url::Url;

use super::Origins;
use crate::error::PrepareError;

/// Attempts in a row that bring no byte before the source counts as gone: with the pauses below
/// about eight seconds, which spans a server's restart.
const MAX_ATTEMPTS: u32 = 6;
/// Pause before the second attempt; doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A source that is downloaded from some position to its end.
pub(crate) struct Download {
    origins: Arc<Origins>,
    url: Url,
    accept: Option<&'static str>,
    limit_bytes: u64,
    etag: Option<String>,
    total_bytes: Option<u64>,
    position_bytes: u64,
    /// What a server that ignores ranges sends again before `position_bytes`.
    skip_bytes: u64,
    body: Option<BoxStream<'static, reqwest::Result<Bytes>>>,
}

/// Why one attempt failed.
enum Attempt {
    /// Another one may help.
    Again(PrepareError),
    Final(PrepareError),
}

impl Download {
    /// Starts a download of at most `limit_bytes`. `resume` is what is there already and the ETag
    /// it had; look at [`Self::position_bytes`] for whether the server agrees.
    pub(crate) async fn start(
        origins: &Arc<Origins>,
        url: &Url,
        limit_bytes: u64,
        resume: Option<(u64, String)>,
    ) -> Result<Self, PrepareError> {
        let mut download = Self::new(origins, url, limit_bytes);
        if let Some((position_bytes, etag)) = resume {
            (download.position_bytes, download.etag) = (position_bytes, Some(etag));
            match download.request().await {
                Ok(()) if download.skip_bytes == 0 => return Ok(download),
                // Another content, or a server without ranges: from the beginning.
                Ok(()) | Err(_) => {
                    (download.position_bytes, download.skip_bytes) = (0, 0);
                    (download.etag, download.total_bytes, download.body) = (None, None, None);
                }
            }
        }
        download.reconnect().await?;
        Ok(download)
    }

    fn new(origins: &Arc<Origins>, url: &Url, limit_bytes: u64) -> Self {
        Self {
            origins: Arc::clone(origins),
            url: url.clone(),
            accept: None,
            limit_bytes,
            etag: None,
            total_bytes: None,
            position_bytes: 0,
            skip_bytes: 0,
            body: None,
        }
    }

    /// Bytes before the next piece.
    pub(crate) fn position_bytes(&self) -> u64 {
        self.position_bytes
    }

    /// Length of the source, if the server tells.
    pub(crate) fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }

    /// The strong ETag, if the server has one: what a later resumption needs.
    pub(crate) fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    /// The next piece; nothing at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, PrepareError> {
        loop {
            let Some(body) = &mut self.body else {
                self.reconnect().await?;
                continue;
            };
            match body.next().await {
                Some(Ok(piece)) => {
                    let piece = self.without_skipped(piece);
                    if piece.is_empty() {
                        continue;
                    }
                    self.position_bytes += piece.len() as u64;
                    self.check_limit(self.position_bytes)?;
                    return Ok(Some(piece));
                }
                None if self.total_bytes.is_none_or(|total| total == self.position_bytes) => {
                    return Ok(None);
                }
                None | Some(Err(_)) => {
                    let position_bytes = self.position_bytes;
                    tracing::info!(url = %self.url, position_bytes, "download was cut, resuming");
                    self.body = None;
                }
            }
        }
    }

    fn without_skipped(&mut self, mut piece: Bytes) -> Bytes {
        let skipped = self.skip_bytes.min(piece.len() as u64);
        self.skip_bytes -= skipped;
        piece.split_off(skipped as usize)
    }

    /// Asks for the rest, and sees that at least one byte of it comes.
    async fn reconnect(&mut self) -> Result<(), PrepareError> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let outcome = match self.request().await {
                Ok(()) => self.first_piece().await,
                Err(failed) => Err(failed),
            };
            match outcome {
                Ok(()) => return Ok(()),
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(error)) if attempt == MAX_ATTEMPTS => return Err(error),
                Err(Attempt::Again(error)) => {
                    tracing::info!(url = %self.url, %error, attempt, "download attempt failed");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                    attempt += 1;
                }
            }
        }
    }

    /// Puts the first piece back in front of the body, so that an attempt without any counts as
    /// failed.
    async fn first_piece(&mut self) -> Result<(), Attempt> {
        let Some(mut body) = self.body.take() else { return Ok(()) };
        match body.next().await {
            Some(Ok(piece)) => {
                let first = futures::stream::once(std::future::ready(Ok(piece)));
                self.body = Some(first.chain(body).boxed());
                Ok(())
            }
            None if self.total_bytes.is_none_or(|total| total == self.position_bytes) => {
                self.body = Some(body);
                Ok(())
            }
            None | Some(Err(_)) => Err(Attempt::Again(self.cut())),
        }
    }

    fn cut(&self) -> PrepareError {
        let length = match self.total_bytes {
            Some(total) => format!("of {total} bytes"),
            None => "of unknown length".to_owned(),
        };
        PrepareError::Truncated {
            source_url: self.url.to_string(),
            message: format!("the transfer {length} ends at byte {}", self.position_bytes),
        }
    }

    async fn request(&mut self) -> Result<(), Attempt> {
        let response =
            self.origins.get(&self.url, self.headers()).await.map_err(|error| {
                Attempt::Again(unreachable(&self.url, chain(&error.without_url())))
            })?;
        self.check_status(response.status())?;
        self.check_same(&response)?;
        self.skip_bytes = if response.status() == StatusCode::OK { self.position_bytes } else { 0 };
        self.body = Some(response.bytes_stream().boxed());
        Ok(())
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(accept) = self.accept {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        if self.position_bytes > 0
            && let Ok(range) = format!("bytes={}-", self.position_bytes).try_into()
        {
            headers.insert(header::RANGE, range);
            if let Some(etag) = self.etag.as_ref().and_then(|etag| etag.parse().ok()) {
                headers.insert(header::IF_RANGE, etag);
            }
        }
        headers
    }

    fn check_status(&self, status: StatusCode) -> Result<(), Attempt> {
        match status {
            StatusCode::OK => Ok(()),
            StatusCode::PARTIAL_CONTENT if self.position_bytes > 0 => Ok(()),
            StatusCode::RANGE_NOT_SATISFIABLE => Err(Attempt::Final(self.cut())),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Attempt::Again(unreachable(&self.url, format!("the server says {status}"))))
            }
            status if status.is_server_error() => {
                Err(Attempt::Again(unreachable(&self.url, format!("the server says {status}"))))
            }
            StatusCode::UNAUTHORIZED => Err(Attempt::Final(PrepareError::SourceRefused {
                source_url: self.url.to_string(),
                message: format!(
                    "the server says {status}; [[http.credentials]] of the cache's configuration \
                     tell it who the cache is"
                ),
            })),
            status => Err(Attempt::Final(PrepareError::SourceRefused {
                source_url: self.url.to_string(),
                message: format!("the server says {status}"),
            })),
        }
    }

    /// Takes down what the first response says of the source and holds later ones to it.
    fn check_same(&mut self, response: &reqwest::Response) -> Result<(), Attempt> {
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        // Weak ETags do not promise the same bytes.
        let etag = header(header::ETAG).filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
        let total_bytes = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let (start, total) = header(header::CONTENT_RANGE).and_then(content_range).unzip();
                if start != Some(self.position_bytes) {
                    return Err(Attempt::Again(self.cut()));
                }
                total.flatten()
            }
            _ => response.content_length(),
        };
        let changed = |known: bool, same: bool| known && !same;
        if changed(self.etag.is_some() && etag.is_some(), self.etag == etag)
            || changed(
                self.total_bytes.is_some() && total_bytes.is_some(),
                self.total_bytes == total_bytes,
            )
        {
            let source_url = self.url.to_string();
            return Err(Attempt::Final(PrepareError::SourceChanged { source_url }));
        }
        self.etag = self.etag.take().or(etag);
        self.total_bytes = self.total_bytes.or(total_bytes);
        self.check_limit(self.total_bytes.unwrap_or_default()).map_err(Attempt::Final)
    }

    fn check_limit(&self, bytes: u64) -> Result<(), PrepareError> {
        if bytes <= self.limit_bytes {
            return Ok(());
        }
        Err(PrepareError::TooLarge {
            source_url: self.url.to_string(),
            image_bytes: bytes,
            limit_bytes: self.limit_bytes,
        })
    }
}

/// Fetches a small file whole, at most `limit_bytes` of it; `accept` says of which types it may be.
pub(crate) async fn fetch_small(
    origins: &Arc<Origins>,
    url: &Url,
    limit_bytes: u64,
    accept: Option<&'static str>,
) -> Result<Vec<u8>, PrepareError> {
    let mut download = Download { accept, ..Download::new(origins, url, limit_bytes) };
    download.reconnect().await?;
    let mut content = Vec::new();
    while let Some(piece) = download.next().await? {
        content.extend_from_slice(&piece);
    }
    Ok(content)
}

/// First byte and length of the whole in a `Content-Range: bytes 5-9/10`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn unreachable(url: &Url, message: String) -> PrepareError {
    PrepareError::SourceUnreachable { source_url: url.to_string(), message }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
