//! Where an image comes from: one or more HTTP servers with the same bytes. They are asked in turn,
//! for ever, as long as one of them may have it some day.

use std::ops::Range;
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use tokio::sync::watch;

use super::server::{Body, HttpClient, Trouble};
use crate::backoff::Backoff;
use crate::task::TaskError;

/// First and longest pause after all servers failed in a row. A restarted cache is back within
/// seconds; the longest pause is short beside the minutes that a step may take.
pub(super) const PAUSE_FIRST: Duration = Duration::from_millis(100);
pub(super) const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// For how long servers may say that they do not have the image (404 and the like) before they are
/// believed: a cache that has just started, or a proxy, may say so by mistake.
pub(super) const REFUSAL_PATIENCE: Duration = Duration::from_secs(60);

/// The servers.
#[derive(Debug)]
pub(super) struct Sources {
    client: HttpClient,
    /// Where the image is, in the order of preference. May change while it is written.
    urls: watch::Receiver<Vec<String>>,
    servers: Vec<Server>,
    current: usize,
    /// In a row, without a byte of use between them.
    failures: usize,
    refused_since: Option<Instant>,
    backoff: Backoff,
}

#[derive(Debug)]
struct Server {
    url: String,
    /// Why it can never serve the image, in its own words.
    corrupt: Option<String>,
}

impl Sources {
    /// Servers at `urls`, all of which have the same image.
    pub(super) fn new(
        urls: watch::Receiver<Vec<String>>,
        client: HttpClient,
    ) -> Result<Self, TaskError> {
        let mut sources = Self {
            client,
            urls,
            servers: Vec::new(),
            current: 0,
            failures: 0,
            refused_since: None,
            backoff: Backoff::new(PAUSE_FIRST, PAUSE_LONGEST),
        };
        sources.take_urls()?;
        Ok(sources)
    }

    /// Goes on with the first server of those that are told now. A server that is no longer told is kept: it may be back.
    fn take_urls(&mut self) -> Result<(), TaskError> {
        let urls = self.urls.borrow_and_update().clone();
        if urls.is_empty() {
            return Err(TaskError::invalid("urls", "", "is empty"));
        }
        for url in urls.iter().rev() {
            if let Err(error) = reqwest::Url::parse(url) {
                return Err(TaskError::invalid("urls", url, format!("is no URL: {error}")));
            }
            self.current = match self.servers.iter().position(|server| server.url == *url) {
                Some(known) => known,
                None => {
                    self.servers.push(Server { url: url.clone(), corrupt: None });
                    self.servers.len() - 1
                }
            };
        }
        Ok(())
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
        self.client.get(&url, range, validator).await
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

        if self.urls.has_changed().unwrap_or(false) {
            self.refused_since = None;
            return self.take_urls();
        }
        let Some(next) = self.next_usable() else {
            let message = self.servers[self.current].corrupt.clone().unwrap_or_default();
            return Err(TaskError::SourceCorrupt { url, message });
        };
        self.current = next;
        self.failures += 1;
        if self.failures.is_multiple_of(self.usable_count()) {
            let pause = self.backoff.next().max(retry_after.min(PAUSE_LONGEST));
            // Whoever tells of another server ends the pause.
            if tokio::time::timeout(pause, told(&mut self.urls)).await.is_ok() {
                return self.take_urls();
            }
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

/// Waits until other URLs are told; for ever when nobody is left to tell any.
pub(super) async fn told(urls: &mut watch::Receiver<Vec<String>>) {
    if urls.changed().await.is_err() {
        std::future::pending().await
    }
}
