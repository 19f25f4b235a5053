//! Fetches chunks of a pack from all servers that have it, at once. Each takes the next piece of the work when it is done with
//! its last one, so a server that is slow, or gone, delays nothing but the piece that it had begun.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bessemer_image::pack::{ChunkIndex, Manifest};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use super::plan::{self, ChunkSet};
use super::server::{HttpClient, Trouble};
use super::slots::{SLOTS, Slot, Slots};
use super::source::{PAUSE_FIRST, PAUSE_LONGEST, REFUSAL_PATIENCE, told};
use crate::backoff::Backoff;
use crate::task::TaskError;

/// Chunks that one server is asked for at once. At 10 Gbit/s they pass in tens of milliseconds, beside which the time
/// that a request takes to find its way vanishes; and no server has long to go when there is nothing left for the others.
const PIECE_CHUNKS: u64 = 64;

/// What is fetched, by whom.
pub(super) struct Fetch {
    shared: Shared,
    urls: watch::Receiver<Vec<String>>,
    /// All servers that were told of, by their numbers.
    servers: Vec<String>,
    /// One for each server that may still be of use; ends with why it is not.
    fetching: JoinSet<TaskError>,
    arrived: mpsc::Receiver<Arrived>,
}

/// A frame.
pub(super) struct Arrived {
    pub(super) slot: Slot,
    pub(super) index: ChunkIndex,
    /// Number of the server that sent it.
    pub(super) server: usize,
}

/// What all servers' tasks work with.
#[derive(Clone)]
struct Shared {
    client: HttpClient,
    manifest: Arc<Manifest>,
    present: Arc<ChunkSet>,
    slots: Slots,
    work: Arc<Work>,
    arrived: mpsc::Sender<Arrived>,
}

/// What nobody fetches yet.
#[derive(Default)]
struct Work {
    pieces: Mutex<VecDeque<Piece>>,
    added: Notify,
}

/// Chunks that follow one another in the pack. Those that are wanted among them are fetched.
#[derive(Clone)]
struct Piece {
    chunks: Range<u64>,
    /// Sent it damaged; is asked again only if nobody else is.
    last_asked: Option<usize>,
}

impl Fetch {
    /// Begins to fetch all chunks of an image that are neither zero nor present.
    pub(super) fn start(
        client: HttpClient,
        urls: watch::Receiver<Vec<String>>,
        manifest: &Arc<Manifest>,
        present: ChunkSet,
        slots: &Slots,
    ) -> Self {
        let pieces = plan::requests(manifest, &present).flat_map(|request| {
            let (first, end) = (request.start, request.end);
            (first..end).step_by(PIECE_CHUNKS as usize).map(move |start| Piece {
                chunks: start..end.min(start + PIECE_CHUNKS),
                last_asked: None,
            })
        });
        let work = Work { pieces: Mutex::new(pieces.collect()), added: Notify::new() };
        let (arrived_in, arrived) = mpsc::channel(SLOTS);
        let shared = Shared {
            client,
            manifest: Arc::clone(manifest),
            present: Arc::new(present),
            slots: slots.clone(),
            work: Arc::new(work),
            arrived: arrived_in,
        };
        let (servers, fetching) = (Vec::new(), JoinSet::new());
        let mut fetch = Self { shared, urls, servers, fetching, arrived };
        fetch.add_servers();
        fetch
    }

    /// How many servers there are, or were.
    pub(super) fn server_count(&self) -> usize {
        self.servers.len()
    }

    /// The URL of a server.
    pub(super) fn url(&self, server: usize) -> &str {
        self.servers.get(server).map_or("", String::as_str)
    }

    /// The next frame, whatever it takes. An error when no server can be of use any more. May be dropped half way.
    pub(super) async fn next(&mut self) -> Result<Arrived, TaskError> {
        loop {
            tokio::select! {
                Some(arrived) = self.arrived.recv() => return Ok(arrived),
                () = told(&mut self.urls) => self.add_servers(),
                Some(ended) = self.fetching.join_next() => {
                    let error = ended.unwrap_or_else(|abnormal| TaskError::Internal {
                        message: format!("fetching ended: {abnormal}"),
                    });
                    tracing::warn!(%error, left = self.fetching.len(), "server given up");
                    let is_its_own = matches!(
                        error,
                        TaskError::SourceCorrupt { .. } | TaskError::SourceUnavailable { .. }
                    );
                    if self.fetching.is_empty() || !is_its_own {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Has a chunk fetched once more, which arrived damaged, if possible from another server.
    pub(super) fn again(&self, ChunkIndex(index): ChunkIndex, server: usize) {
        let piece = Piece { chunks: index..index + 1, last_asked: Some(server) };
        self.shared.work.add(piece);
    }

    /// Asks those servers too that were told of since.
    fn add_servers(&mut self) {
        let urls = self.urls.borrow_and_update().clone();
        for url in urls {
            if !self.servers.contains(&url) {
                let server = Server {
                    number: self.servers.len(),
                    url: url.clone(),
                    shared: self.shared.clone(),
                    backoff: Backoff::new(PAUSE_FIRST, PAUSE_LONGEST),
                    refused_since: None,
                };
                self.servers.push(url);
                self.fetching.spawn(server.fetch());
            }
        }
    }
}

impl Work {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Piece>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, piece: Piece) {
        self.lock().push_front(piece);
        self.added.notify_waiters();
    }

    /// The next piece for a server, as soon as there is one. What it sent damaged it gets again only when it has waited
    /// for somebody else to take it.
    async fn take(&self, server: usize, patience: Duration) -> Piece {
        loop {
            // Before looking, so that nothing that is added meanwhile is missed.
            let added = self.added.notified();
            tokio::pin!(added);
            added.as_mut().enable();
            let is_own = {
                let mut pieces = self.lock();
                let own = |piece: &Piece| piece.last_asked == Some(server);
                if let Some(place) = pieces.iter().position(|piece| !own(piece)) {
                    return pieces.remove(place).expect("it was just found");
                }
                !pieces.is_empty()
            };
            if !is_own {
                added.await;
                continue;
            }
            if tokio::time::timeout(patience, added).await.is_err()
                && let Some(piece) = self.lock().pop_front()
            {
                return piece;
            }
        }
    }
}

/// One server, and what it is asked for.
struct Server {
    number: usize,
    url: String,
    shared: Shared,
    backoff: Backoff,
    refused_since: Option<Instant>,
}

impl Server {
    /// Fetches piece after piece. Ends when the server can be of no use any more, and says why.
    async fn fetch(mut self) -> TaskError {
        let work = Arc::clone(&self.shared.work);
        loop {
            let mut piece = work.take(self.number, PAUSE_FIRST).await;
            if let Err(trouble) = self.stream(&mut piece.chunks).await {
                work.add(piece);
                if let Err(error) = self.recover(trouble).await {
                    return error;
                }
            }
        }
    }

    /// Fetches a piece, and takes from `missing` what it handed on.
    async fn stream(&mut self, missing: &mut Range<u64>) -> Result<(), Trouble> {
        let manifest = Arc::clone(&self.shared.manifest);
        let pack_offset = |index| {
            let chunk = manifest.chunk(ChunkIndex(index));
            chunk.map_or_else(|| manifest.frames_bytes(), |chunk| chunk.frame_offset_bytes)
        };
        let (start, end) = (pack_offset(missing.start), pack_offset(missing.end));
        let url = format!("{}/pack", self.url);
        let mut body = self.shared.client.get(&url, Some(start..end), None).await?;
        if body.starts_at != start {
            let message = format!("it sent byte {} where {start} was asked for", body.starts_at);
            return Err(Trouble::Refused { message });
        }
        for chunk in plan::chunks(&manifest, missing.clone()) {
            if plan::is_wanted(&chunk, &self.shared.present) {
                let mut slot = self.shared.slots.take().await;
                body.read(chunk.frame_bytes, &mut slot.frame).await?;
                let arrived = Arrived { slot, index: chunk.index, server: self.number };
                // Fails when nobody wants it any more; this task is about to be stopped.
                self.shared.arrived.send(arrived).await.ok();
                self.backoff.reset();
                self.refused_since = None;
            } else {
                body.skip(chunk.frame_bytes).await?;
            }
            missing.start = chunk.index.0 + 1;
        }
        Ok(())
    }

    /// Waits until it is worth asking the server again. An error when it never is.
    async fn recover(&mut self, trouble: Trouble) -> Result<(), TaskError> {
        let url = self.url.clone();
        let mut pause = self.backoff.next();
        match trouble {
            Trouble::Task(error) => return Err(error),
            Trouble::Corrupt { message } => return Err(TaskError::SourceCorrupt { url, message }),
            Trouble::Passing { message, retry_after } => {
                tracing::info!(url, message, "source failed; trying again");
                self.refused_since = None;
                pause = pause.max(retry_after.min(PAUSE_LONGEST));
            }
            Trouble::Refused { message } => {
                tracing::info!(url, message, "source refused; trying again");
                let since = *self.refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() > REFUSAL_PATIENCE {
                    return Err(TaskError::SourceUnavailable { url, message });
                }
            }
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
