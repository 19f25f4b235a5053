//! An image at its origin as a file that is read at random, by ranges. What is read was verified before: the image's digest
//! was found right while all of it passed, and each block is compared with what passed then.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bessemer_image::ReadAt;
use bessemer_image::digest::{Digest, Hasher};
use blake3::Hash;
use reqwest::header::HeaderValue;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::raw::{Download, Received};
use super::server::{Body, Trouble};
use super::source::Sources;
use super::unless_stopped;
use crate::task::{Meter, TaskError, blocking};

/// What is compared at once, in bytes. Its hashes are 32 MiB for an image of a tebibyte.
const BLOCK_BYTES: usize = 1 << 20;

/// Blocks that are kept: some of tables, and those that are being read.
const BLOCKS_KEPT: usize = 12;

/// Blocks that are passed over rather than asked for anew: a request costs more than what they take.
const PASSED_OVER: u64 = 4;

/// Blocks between the network and the hashes.
const BLOCKS_TO_HASH: usize = 4;

/// What an image is made of, block by block.
pub(super) struct Blocks {
    hashes: Vec<Hash>,
    image_bytes: u64,
}

impl Blocks {
    fn length(&self, block: u64) -> usize {
        let start = block * BLOCK_BYTES as u64;
        self.image_bytes.saturating_sub(start).min(BLOCK_BYTES as u64) as usize
    }
}

/// Reads all of an image, once. Answers its digest, begun by `hasher`, and those of its blocks.
pub(super) async fn survey(
    download: &mut Download,
    hasher: Hasher,
    meter: &Meter,
    stop: &CancellationToken,
) -> Result<(Digest, Blocks), TaskError> {
    loop {
        let (blocks, to_hash) = mpsc::channel(BLOCKS_TO_HASH);
        let hasher = hasher.clone();
        let hashing = tokio::spawn(blocking(move || Ok(hash(hasher, to_hash))));
        let is_whole = unless_stopped(stop, pass_all(download, &blocks, meter)).await;
        drop(blocks);
        let hashed = hashing.await.unwrap_or_else(|error| {
            Err(TaskError::Internal { message: format!("a thread is gone: {error}") })
        });
        if is_whole? {
            let (digest, hashes) = hashed?;
            return Ok((digest, Blocks { hashes, image_bytes: download.image_bytes() }));
        }
        meter.restart();
    }
}

/// Passes on an image, block by block. Answers whether it was not begun anew.
async fn pass_all(
    download: &mut Download,
    blocks: &mpsc::Sender<Vec<u8>>,
    meter: &Meter,
) -> Result<bool, TaskError> {
    let mut rest_bytes = download.image_bytes();
    while rest_bytes > 0 {
        let length = rest_bytes.min(BLOCK_BYTES as u64) as usize;
        let mut block = Vec::with_capacity(length);
        while block.len() < length {
            match download.next(length - block.len()).await? {
                Received::Bytes(bytes) => block.extend_from_slice(&bytes),
                Received::StartedOver => return Ok(false),
            }
        }
        rest_bytes -= length as u64;
        // Fails when the thread is gone, which says why when it is joined.
        blocks.send(block).await.ok();
        meter.add_done(length as u64);
    }
    Ok(true)
}

fn hash(mut hasher: Hasher, mut blocks: mpsc::Receiver<Vec<u8>>) -> (Digest, Vec<Hash>) {
    let mut hashes = Vec::new();
    while let Some(block) = blocks.blocking_recv() {
        hasher.update(&block);
        hashes.push(blake3::hash(&block));
    }
    (hasher.finish(), hashes)
}

/// The image, to be read from threads that may block.
pub(super) struct RangedImage {
    runtime: Handle,
    blocks: Blocks,
    validator: Option<HeaderValue>,
    stop: CancellationToken,
    reading: Mutex<Reading>,
}

struct Reading {
    sources: Sources,
    /// An answer, and which block comes next in it.
    body: Option<(Body, u64)>,
    /// The newest last.
    kept: VecDeque<(u64, Vec<u8>)>,
    /// Why nothing can be read any more.
    failure: Option<TaskError>,
}

impl RangedImage {
    /// The image that `download` has passed. Must be called within the runtime.
    pub(super) fn new(download: Download, blocks: Blocks, stop: &CancellationToken) -> Self {
        let (sources, validator) = download.into_parts();
        let reading = Reading { sources, body: None, kept: VecDeque::new(), failure: None };
        Self {
            runtime: Handle::current(),
            blocks,
            validator,
            stop: stop.clone(),
            reading: Mutex::new(reading),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why reading failed, if the network or the origin is to blame.
    pub(super) fn failure(&self) -> Option<TaskError> {
        self.lock().failure.take()
    }

    /// Fetches a block, whatever it takes.
    async fn fetch(&self, reading: &mut Reading, block: u64) -> Result<Vec<u8>, TaskError> {
        loop {
            let trouble = match self.try_fetch(reading, block).await {
                Ok(bytes) => {
                    reading.sources.progressed();
                    return Ok(bytes);
                }
                Err(trouble) => trouble,
            };
            reading.body = None;
            reading.sources.failed(trouble).await?;
        }
    }

    async fn try_fetch(&self, reading: &mut Reading, block: u64) -> Result<Vec<u8>, Trouble> {
        let behind = |next: u64| block.checked_sub(next).filter(|blocks| *blocks <= PASSED_OVER);
        let (mut body, mut next) = match reading.body.take() {
            Some((body, next)) if behind(next).is_some() => (body, next),
            _ => (self.open(&reading.sources, block).await?, block),
        };
        while next < block {
            body.skip(self.blocks.length(next)).await?;
            next += 1;
        }
        let mut bytes = Vec::new();
        body.read(self.blocks.length(block), &mut bytes).await?;
        reading.body = Some((body, block + 1));
        let expected = self.blocks.hashes.get(block as usize);
        if expected != Some(&blake3::hash(&bytes)) {
            let offset_bytes = block * BLOCK_BYTES as u64;
            let message =
                format!("what it sends at byte {offset_bytes} is not what it sent before");
            return Err(Trouble::Refused { message });
        }
        Ok(bytes)
    }

    /// Asks for everything from a block on: what follows is most often wanted next.
    async fn open(&self, sources: &Sources, block: u64) -> Result<Body, Trouble> {
        let start = block * BLOCK_BYTES as u64;
        let body = sources.get("", Some(start..u64::MAX), self.validator.as_ref()).await?;
        if body.starts_at == start {
            return Ok(body);
        }
        let message =
            "it does not serve ranges, or has another image now; use image_download_source `local`";
        Err(Trouble::Refused { message: message.to_owned() })
    }
}

impl ReadAt for RangedImage {
    fn source_bytes(&self) -> u64 {
        self.blocks.image_bytes
    }

    fn read_exact_at(&self, offset_bytes: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset_bytes.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > self.blocks.image_bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut reading = self.lock();
        let mut filled = 0;
        while filled < into.len() {
            let at = offset_bytes + filled as u64;
            let (block, start) = (at / BLOCK_BYTES as u64, (at % BLOCK_BYTES as u64) as usize);
            let found = reading.kept.iter().position(|(kept, _)| *kept == block);
            let bytes = match found.and_then(|place| reading.kept.remove(place)) {
                Some((_, bytes)) => bytes,
                None => {
                    let fetched = unless_stopped(&self.stop, self.fetch(&mut reading, block));
                    match self.runtime.block_on(fetched) {
                        Ok(bytes) => bytes,
                        Err(error) => {
                            reading.failure = Some(error);
                            return Err(io::Error::other("the origin cannot be read any more"));
                        }
                    }
                }
            };
            let length = (into.len() - filled).min(bytes.len() - start);
            into[filled..filled + length].copy_from_slice(&bytes[start..start + length]);
            filled += length;
            reading.kept.push_back((block, bytes));
            if reading.kept.len() > BLOCKS_KEPT {
                reading.kept.pop_front();
            }
        }
        Ok(())
    }
}
