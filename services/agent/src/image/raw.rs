//! Writing an image from its origin. Of a raw one only the whole can be checked, so its first and last
//! chunk, which hold the partition tables, are held back until the digest is known to be right. Images of other formats
//! are decoded.
//!
//! Three stages overlap: receiving, hashing, writing. The hash is the slowest and has a thread of
//! its own.

use std::sync::Arc;

use bessemer_image::digest::{Algorithm, Digest, Hasher};
use bessemer_image::format::{DiskFormat, PROBE_BYTES, UnknownDiskFormat, probe};
use bessemer_image::pack::CHUNK_BYTES;
use bessemer_proto::v1::{RawSource, WriteReport};
use bytes::Bytes;
use reqwest::header::HeaderValue;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::server::HttpClient;
use super::server::{Body, Trouble};
use super::source::Sources;
use super::target::Target;
use super::{decoded, unless_stopped, without_tables};
use crate::disk::{AlignedBuffer, OpenDisk};
use crate::task::{Meter, TaskError, blocking};

/// Buffers of a chunk each that go round between the stages: two for each stage, so that none waits
/// for another's current one, and the two that are held back.
const BUFFERS: usize = 8;

/// Downloads the image, writes it, and completes it if it is the right one.
pub(super) async fn write(
    target: &Arc<Target>,
    source: &RawSource,
    client: HttpClient,
    meter: &Arc<Meter>,
    stop: &CancellationToken,
) -> Result<WriteReport, TaskError> {
    let expected = expected_digest(source)?;
    let (_unchanged, urls) = watch::channel(vec![source.url.clone()]);
    let sources = Sources::new(urls, client)?;
    let (mut download, image_bytes) = unless_stopped(stop, Download::begin(sources)).await?;
    let start = unless_stopped(stop, download.peek(PROBE_BYTES)).await?;
    let format = probe(&start)
        .check(declared(source)?)
        .map_err(|refused| TaskError::Format { url: source.url.clone(), refused })?;
    if format != DiskFormat::Raw {
        let image = decoded::Origin { url: &source.url, download, format, expected };
        return Box::pin(decoded::write(target, image, meter, stop)).await;
    }
    target.check_size(image_bytes)?;
    target.check_start(&start)?;
    meter.set_total(image_bytes);

    without_tables(target, image_bytes, async {
        let (found, held) =
            transfer(target, &mut download, expected.algorithm(), meter, stop).await?;
        if found != expected {
            return Err(TaskError::checksum_mismatch(&source.url, found, expected));
        }
        let (disk, counted) = (Arc::clone(target.place()), Arc::clone(meter));
        blocking(move || complete(&disk, &held, &counted)).await?;
        Ok(WriteReport { image_bytes, ..WriteReport::default() })
    })
    .await
}

/// The format that the image is said to have.
fn declared(source: &RawSource) -> Result<Option<DiskFormat>, TaskError> {
    let name = &source.disk_format;
    let unknown = |error: UnknownDiskFormat| {
        TaskError::invalid("disk_format", name, format!("is unknown: {error}"))
    };
    (!name.is_empty()).then(|| name.parse().map_err(unknown)).transpose()
}

fn expected_digest(source: &RawSource) -> Result<Digest, TaskError> {
    let algorithm: Algorithm = source.hash_algo.parse().map_err(|error| {
        TaskError::invalid("hash_algo", &source.hash_algo, format!("is unknown: {error}"))
    })?;
    Digest::parse_as(algorithm, &source.hash_value).map_err(|error| {
        TaskError::invalid("hash_value", &source.hash_value, format!("is no digest: {error}"))
    })
}

/// Moves the image to the disk except for what is held back. Done, stopped or failed: when it
/// returns, nothing is being written any more.
async fn transfer(
    target: &Arc<Target>,
    download: &mut Download,
    algorithm: Algorithm,
    meter: &Arc<Meter>,
    stop: &CancellationToken,
) -> Result<(Digest, Vec<Part>), TaskError> {
    loop {
        let mut stages = Stages::start(target, algorithm, download.image_bytes, meter);
        let fed = unless_stopped(stop, stages.feed(download)).await;
        let ended = stages.finish().await;
        match fed? {
            Fed::Whole => return ended,
            Fed::StartedOver => meter.restart(),
        }
    }
}

/// Writes what was held back: the last chunk, and once that is durable the first.
fn complete(disk: &OpenDisk, held: &[Part], meter: &Meter) -> Result<(), TaskError> {
    disk.flush()?;
    for part in held.iter().rev() {
        disk.write_at(part.bytes(), part.offset_bytes)?;
        disk.flush()?;
        meter.add_done(part.bytes().len() as u64);
    }
    Ok(())
}

/// The origin's bytes in order, across lost connections.
pub(super) struct Download {
    sources: Sources,
    image_bytes: u64,
    validator: Option<HeaderValue>,
    body: Option<Body>,
    received_bytes: u64,
    /// What was looked at beforehand and is still to be passed on.
    peeked: Bytes,
}

pub(super) enum Received {
    Bytes(Bytes),
    /// The origin cannot go on where it was cut off, or has another image now.
    StartedOver,
}

impl Download {
    /// Opens the download; also answers the image's length.
    async fn begin(mut sources: Sources) -> Result<(Self, u64), TaskError> {
        loop {
            let trouble = match sources.get("", None, None).await {
                Ok(body) => match body.total_bytes {
                    Some(image_bytes) => {
                        let validator = body.validator();
                        let body = Some(body);
                        let (received_bytes, peeked) = (0, Bytes::new());
                        let download =
                            Self { sources, image_bytes, validator, body, received_bytes, peeked };
                        return Ok((download, image_bytes));
                    }
                    None => Trouble::Refused {
                        message: "it does not say how long the image is".to_owned(),
                    },
                },
                Err(trouble) => trouble,
            };
            sources.failed(trouble).await?;
        }
    }

    /// The image's first `wanted` bytes, or all of a shorter one; they are passed on again.
    async fn peek(&mut self, wanted: usize) -> Result<Bytes, TaskError> {
        let wanted = self.image_bytes.min(wanted as u64) as usize;
        let mut start = Vec::with_capacity(wanted);
        while start.len() < wanted {
            match self.next(wanted - start.len()).await? {
                Received::Bytes(bytes) => start.extend_from_slice(&bytes),
                Received::StartedOver => start.clear(),
            }
        }
        self.peeked = start.into();
        Ok(self.peeked.clone())
    }

    /// How long the image is.
    pub(super) fn image_bytes(&self) -> u64 {
        self.image_bytes
    }

    /// Whom to ask for more of this image, and how they know which one is meant.
    pub(super) fn into_parts(self) -> (Sources, Option<HeaderValue>) {
        (self.sources, self.validator)
    }

    /// The next bytes, at most `limit_bytes`.
    pub(super) async fn next(&mut self, limit_bytes: usize) -> Result<Received, TaskError> {
        if !self.peeked.is_empty() {
            let length = limit_bytes.min(self.peeked.len());
            return Ok(Received::Bytes(self.peeked.split_to(length)));
        }
        loop {
            let trouble = match &mut self.body {
                Some(body) => match body.next_part(limit_bytes).await {
                    Ok(bytes) => {
                        self.received_bytes += bytes.len() as u64;
                        self.sources.progressed();
                        return Ok(Received::Bytes(bytes));
                    }
                    Err(cut) => {
                        self.body = None;
                        cut
                    }
                },
                None => match self.reconnect().await {
                    Ok(true) => continue,
                    Ok(false) => return Ok(Received::StartedOver),
                    Err(trouble) => trouble,
                },
            };
            self.sources.failed(trouble).await?;
        }
    }

    /// Connects again; whether it goes on where it was.
    async fn reconnect(&mut self) -> Result<bool, Trouble> {
        let rest = (self.received_bytes > 0).then_some(self.received_bytes..u64::MAX);
        let validator = self.validator.as_ref().filter(|_| rest.is_some());
        let body = self.sources.get("", rest, validator).await?;
        if body.total_bytes != Some(self.image_bytes) {
            let message = format!(
                "the image had {} bytes and has {:?} now",
                self.image_bytes, body.total_bytes
            );
            return Err(Trouble::Corrupt { message });
        }
        let goes_on = body.starts_at == self.received_bytes;
        if !goes_on {
            self.received_bytes = 0;
            self.validator = body.validator();
        }
        self.body = Some(body);
        Ok(goes_on)
    }
}

/// A chunk of the image on its way.
struct Part {
    offset_bytes: u64,
    length: usize,
    buffer: AlignedBuffer,
}

impl Part {
    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

enum Fed {
    Whole,
    StartedOver,
}

/// The threads that hash and write, and the buffers that go round between them.
struct Stages {
    parts: mpsc::Sender<Part>,
    free: mpsc::Receiver<AlignedBuffer>,
    hashing: JoinHandle<Result<Digest, TaskError>>,
    writing: JoinHandle<Result<Vec<Part>, TaskError>>,
}

impl Stages {
    fn start(
        target: &Arc<Target>,
        algorithm: Algorithm,
        image_bytes: u64,
        meter: &Arc<Meter>,
    ) -> Self {
        let (parts, to_hash) = mpsc::channel(BUFFERS);
        let (hashed, to_write) = mpsc::channel(BUFFERS);
        let (free_in, free) = mpsc::channel(BUFFERS);
        for _ in 0..BUFFERS {
            // The channel is new and has room for all.
            free_in.try_send(AlignedBuffer::new(CHUNK_BYTES)).ok();
        }
        let (target, meter) = (Arc::clone(target), Arc::clone(meter));
        Self {
            parts,
            free,
            hashing: tokio::spawn(blocking(move || Ok(hash(algorithm, to_hash, &hashed)))),
            writing: tokio::spawn(blocking(move || {
                write_parts(&target, image_bytes, to_write, &free_in, &meter)
            })),
        }
    }

    /// Passes on what is downloaded.
    async fn feed(&mut self, download: &mut Download) -> Result<Fed, TaskError> {
        let mut offset_bytes = 0;
        while offset_bytes < download.image_bytes {
            let length = (download.image_bytes - offset_bytes).min(CHUNK_BYTES as u64) as usize;
            // A thread that failed says why when it is joined.
            let Some(mut buffer) = self.free.recv().await else { return Ok(Fed::Whole) };
            let mut filled = 0;
            while filled < length {
                match download.next(length - filled).await? {
                    Received::Bytes(bytes) => {
                        buffer[filled..filled + bytes.len()].copy_from_slice(&bytes);
                        filled += bytes.len();
                    }
                    Received::StartedOver => return Ok(Fed::StartedOver),
                }
            }
            if self.parts.send(Part { offset_bytes, length, buffer }).await.is_err() {
                return Ok(Fed::Whole);
            }
            offset_bytes += length as u64;
        }
        Ok(Fed::Whole)
    }

    /// The digest of what was fed, and the chunks that were held back, in order.
    async fn finish(self) -> Result<(Digest, Vec<Part>), TaskError> {
        drop(self.parts);
        let (digest, held) = tokio::join!(self.hashing, self.writing);
        let abnormal = |error: tokio::task::JoinError| TaskError::Internal {
            message: format!("a thread is gone: {error}"),
        };
        // The writer's failure is the cause when both have one.
        let held = held.map_err(abnormal)??;
        Ok((digest.map_err(abnormal)??, held))
    }
}

fn hash(
    algorithm: Algorithm,
    mut parts: mpsc::Receiver<Part>,
    hashed: &mpsc::Sender<Part>,
) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    while let Some(part) = parts.blocking_recv() {
        hasher.update(part.bytes());
        if hashed.blocking_send(part).is_err() {
            break;
        }
    }
    hasher.finish()
}

fn write_parts(
    target: &Target,
    image_bytes: u64,
    mut parts: mpsc::Receiver<Part>,
    free: &mpsc::Sender<AlignedBuffer>,
    meter: &Meter,
) -> Result<Vec<Part>, TaskError> {
    let mut held = Vec::new();
    while let Some(part) = parts.blocking_recv() {
        let end_bytes = part.offset_bytes + part.length as u64;
        if part.offset_bytes == 0 || end_bytes == image_bytes {
            held.push(part);
            continue;
        }
        target.place().write_at(part.bytes(), part.offset_bytes)?;
        meter.add_done(part.length as u64);
        // Nobody needs it once all is received.
        free.blocking_send(part.buffer).ok();
    }
    Ok(held)
}
