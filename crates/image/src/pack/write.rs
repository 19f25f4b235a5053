//! Makes a pack from a raw image in one pass, on all cores.
//!
//! Workers read (and so decode), find zeros, hash and compress chunks; the calling thread puts the
//! frames in order and writes them; one more thread computes the raw image's digest, which has to
//! see all bytes in order. A fixed number of slots, each a chunk's raw bytes and its frame, goes
//! round between them: that bounds the memory, and since a worker takes a slot and the next chunk
//! in one step, the chunk that is waited for always has a slot and no order of events can block.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::encode::{ChunkEncoder, EncodeFailed};
use super::manifest::{ChunkIndex, Entry, InvalidManifest, Manifest};
use super::source::{RawBytes, RawSource};
use super::{CHUNK_BYTES, MAX_RAW_BYTES, ZEROS};
use crate::digest::{Algorithm, Digest, Hasher};

/// Slots beyond two for each worker (one being filled, one waiting for its turn to be written):
/// what the digest thread may lag behind.
const SLOTS_TO_HASH: usize = 4;

/// How to make a pack.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// zstd's level; negative ones are the fast ones.
    pub level: i32,
    /// Which digest of the raw image to compute.
    pub raw_algorithm: Algorithm,
    /// Threads that decode and compress.
    pub workers: NonZeroUsize,
}

/// What [`write_pack`] made.
#[derive(Debug)]
pub struct Packed {
    /// The manifest of the pack.
    pub manifest: Manifest,
    /// The digest of the raw image.
    pub raw_digest: Digest,
}

/// Why no pack was made. What was written until then is of no use.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum WritePackError<E: std::error::Error + 'static> {
    #[error("the raw image has {raw_bytes} bytes, the limit is {MAX_RAW_BYTES}")]
    TooLarge { raw_bytes: u64 },
    #[error("read the raw image at byte {offset_bytes}")]
    Read { offset_bytes: u64, source: E },
    #[error("compress chunk {index}")]
    Encode { index: ChunkIndex, source: EncodeFailed },
    #[error("write the pack at byte {offset_bytes}")]
    Write { offset_bytes: u64, source: io::Error },
    #[error("describe the pack")]
    Manifest { source: InvalidManifest },
    #[error("the thread that worked on chunk {index} died")]
    WorkerDied { index: ChunkIndex },
}

/// Reads all of `source`, writes its pack to `pack` and answers its manifest. `progress` hears
/// after each chunk how many raw bytes are done.
///
/// `pack` is written strictly in order. Making it durable is the caller's.
pub fn write_pack<S: RawSource>(
    source: &S,
    pack: &mut impl Write,
    options: &PackOptions,
    progress: impl FnMut(u64),
) -> Result<Packed, WritePackError<S::Error>> {
    let raw_bytes = source.raw_bytes();
    if let Some(raw_bytes) = raw_bytes.filter(|&raw_bytes| raw_bytes > MAX_RAW_BYTES) {
        return Err(WritePackError::TooLarge { raw_bytes });
    }
    let encode_failed = |source| WritePackError::Encode { index: ChunkIndex(0), source };
    let zero = ZeroChunk::encode(options.level).map_err(encode_failed)?;
    let slots = options.workers.get() * 2 + SLOTS_TO_HASH;
    let (free_sender, free) = sync_channel(slots);
    for _ in 0..slots {
        // Has room: the channel holds as many as there are slots.
        let _ = free_sender.send(Slot::new());
    }
    let claims = Claims {
        chunk_count: raw_bytes.map(|raw_bytes| raw_bytes.div_ceil(CHUNK_BYTES as u64)),
        next: Mutex::new((free, 0)),
        stopped: AtomicBool::new(false),
    };
    let (finished_sender, finished) = sync_channel(slots);
    let (hash_sender, to_hash) = sync_channel(slots);
    thread::scope(|scope| {
        let algorithm = options.raw_algorithm;
        let digest = scope.spawn(move || hash_in_order(algorithm, &to_hash, &free_sender));
        for _ in 0..options.workers.get() {
            let finished = finished_sender.clone();
            let claims = &claims;
            scope.spawn(move || work(source, claims, options.level, &finished));
        }
        drop(finished_sender);
        let mut order =
            InOrder { pack, zero: &zero, offset_bytes: 0, raw_bytes: 0, entries: Vec::new() };
        let written = order.write_all(claims.chunk_count, &finished, &hash_sender, progress);
        claims.stopped.store(true, Ordering::Relaxed);
        drop(hash_sender);
        drop(finished);
        let raw_digest = digest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        written?;
        let manifest = order.finish()?;
        Ok(Packed { manifest, raw_digest })
    })
}

/// A chunk's raw bytes and its frame.
struct Slot {
    raw: Box<[u8]>,
    frame: Vec<u8>,
}

impl Slot {
    fn new() -> Self {
        Self { raw: vec![0; CHUNK_BYTES].into_boxed_slice(), frame: Vec::new() }
    }
}

/// The full chunk of zeros, encoded once: most of a sparse image is made of it.
struct ZeroChunk {
    entry: Entry,
    frame: Vec<u8>,
}

impl ZeroChunk {
    fn encode(level: i32) -> Result<Self, EncodeFailed> {
        let mut frame = Vec::new();
        let entry = ChunkEncoder::new(level)?.encode(&ZEROS, &mut frame)?;
        Ok(Self { entry, frame })
    }
}

/// Gives each chunk to one worker, in order, with a slot for it.
struct Claims {
    /// Nothing while the image's length is unknown: then chunks are handed out until the writer
    /// has met the end.
    chunk_count: Option<u64>,
    next: Mutex<(Receiver<Slot>, u64)>,
    stopped: AtomicBool,
}

impl Claims {
    fn next(&self) -> Option<(ChunkIndex, Slot)> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stopped.load(Ordering::Relaxed) || Some(next.1) == self.chunk_count {
            return None;
        }
        let slot = next.0.recv().ok()?;
        let index = ChunkIndex(next.1);
        next.1 += 1;
        Some((index, slot))
    }
}

/// What became of a chunk.
enum Encoded {
    /// A full chunk of zeros.
    Zero,
    /// The slot holds the raw bytes and the frame.
    Data { entry: Entry, raw_bytes: usize },
    /// The image ended before this chunk.
    Nothing,
}

enum Failure<E> {
    Read(E),
    Encode(EncodeFailed),
}

struct Finished<E> {
    index: ChunkIndex,
    slot: Slot,
    /// Nothing when the worker panicked.
    outcome: Option<Result<Encoded, Failure<E>>>,
}

/// A chunk in a worker's hands. Reports when it is let go, in a panic too: the writer waits for
/// this chunk and would wait for ever.
struct Claim<'a, E> {
    finished: &'a SyncSender<Finished<E>>,
    index: ChunkIndex,
    slot: Slot,
    outcome: Option<Result<Encoded, Failure<E>>>,
}

impl<E> Drop for Claim<'_, E> {
    fn drop(&mut self) {
        let slot =
            std::mem::replace(&mut self.slot, Slot { raw: Box::default(), frame: Vec::new() });
        let outcome = self.outcome.take();
        // Fails only when the writer has given up.
        let _ = self.finished.send(Finished { index: self.index, slot, outcome });
    }
}

fn work<S: RawSource>(
    source: &S,
    claims: &Claims,
    level: i32,
    finished: &SyncSender<Finished<S::Error>>,
) {
    let mut encoder = None;
    while let Some((index, slot)) = claims.next() {
        let mut claim = Claim { finished, index, slot, outcome: None };
        let outcome = encode_chunk(source, &mut encoder, level, index, &mut claim.slot);
        claim.outcome = Some(outcome);
    }
}

fn encode_chunk<S: RawSource>(
    source: &S,
    encoder: &mut Option<ChunkEncoder>,
    level: i32,
    index: ChunkIndex,
    slot: &mut Slot,
) -> Result<Encoded, Failure<S::Error>> {
    let offset_bytes = index.raw_offset_bytes();
    let rest_bytes = source.raw_bytes().map_or(u64::MAX, |raw_bytes| raw_bytes - offset_bytes);
    let wanted_bytes = rest_bytes.min(CHUNK_BYTES as u64) as usize;
    let read = source.read(offset_bytes, &mut slot.raw[..wanted_bytes]).map_err(Failure::Read)?;
    let raw_bytes = match read {
        RawBytes::Zero | RawBytes::Data => wanted_bytes,
        RawBytes::End { bytes: 0 } => return Ok(Encoded::Nothing),
        RawBytes::End { bytes } => bytes,
    };
    let raw = &mut slot.raw[..raw_bytes];
    if raw_bytes == CHUNK_BYTES && (read == RawBytes::Zero || raw == ZEROS) {
        return Ok(Encoded::Zero);
    }
    if read == RawBytes::Zero {
        raw.fill(0);
    }
    let encoder = match encoder {
        Some(encoder) => encoder,
        None => encoder.insert(ChunkEncoder::new(level).map_err(Failure::Encode)?),
    };
    let entry = encoder.encode(raw, &mut slot.frame).map_err(Failure::Encode)?;
    Ok(Encoded::Data { entry, raw_bytes })
}

/// A chunk for the digest thread, and the slot to free behind it.
struct ToHash {
    slot: Slot,
    encoded: Encoded,
}

fn hash_in_order(
    algorithm: Algorithm,
    to_hash: &Receiver<ToHash>,
    free: &SyncSender<Slot>,
) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    while let Ok(ToHash { slot, encoded }) = to_hash.recv() {
        match encoded {
            Encoded::Zero => hasher.update(&ZEROS),
            Encoded::Data { raw_bytes, .. } => hasher.update(&slot.raw[..raw_bytes]),
            Encoded::Nothing => {}
        }
        // Nobody wants it after the last chunk.
        let _ = free.send(slot);
    }
    hasher.finish()
}

/// Writes frames in the chunks' order.
struct InOrder<'a, W> {
    pack: &'a mut W,
    zero: &'a ZeroChunk,
    offset_bytes: u64,
    raw_bytes: u64,
    entries: Vec<Entry>,
}

impl<W: Write> InOrder<'_, W> {
    fn write_all<E: std::error::Error + 'static>(
        &mut self,
        chunk_count: Option<u64>,
        finished: &Receiver<Finished<E>>,
        to_hash: &SyncSender<ToHash>,
        mut progress: impl FnMut(u64),
    ) -> Result<(), WritePackError<E>> {
        // Holds at most one item a slot.
        let mut early = std::collections::BTreeMap::new();
        for next in 0..chunk_count.unwrap_or(u64::MAX) {
            let index = ChunkIndex(next);
            let (slot, outcome) = loop {
                if let Some(arrived) = early.remove(&index) {
                    break arrived;
                }
                let Ok(done) = finished.recv() else {
                    return Err(WritePackError::WorkerDied { index });
                };
                early.insert(done.index, (done.slot, done.outcome));
            };
            let offset_bytes = index.raw_offset_bytes();
            let encoded = match outcome {
                Some(Ok(encoded)) => encoded,
                Some(Err(Failure::Read(source))) => {
                    return Err(WritePackError::Read { offset_bytes, source });
                }
                Some(Err(Failure::Encode(source))) => {
                    return Err(WritePackError::Encode { index, source });
                }
                None => return Err(WritePackError::WorkerDied { index }),
            };
            let (entry, frame, chunk_bytes) = match &encoded {
                Encoded::Zero => (self.zero.entry, &self.zero.frame, CHUNK_BYTES),
                Encoded::Data { entry, raw_bytes } => (*entry, &slot.frame, *raw_bytes),
                Encoded::Nothing => break,
            };
            self.raw_bytes += chunk_bytes as u64;
            if self.raw_bytes > MAX_RAW_BYTES {
                return Err(WritePackError::TooLarge { raw_bytes: self.raw_bytes });
            }
            write_at(self.pack, &mut self.offset_bytes, frame)?;
            self.entries.push(entry);
            // The digest thread lives as long as this sender.
            let _ = to_hash.send(ToHash { slot, encoded });
            progress(self.raw_bytes);
            if chunk_bytes < CHUNK_BYTES {
                break;
            }
        }
        Ok(())
    }

    fn finish<E: std::error::Error + 'static>(mut self) -> Result<Manifest, WritePackError<E>> {
        let manifest = Manifest::build(self.raw_bytes, &self.entries)
            .map_err(|source| WritePackError::Manifest { source })?;
        write_at(self.pack, &mut self.offset_bytes, &manifest.seek_table())?;
        Ok(manifest)
    }
}

fn write_at<E: std::error::Error + 'static>(
    pack: &mut impl Write,
    offset_bytes: &mut u64,
    bytes: &[u8],
) -> Result<(), WritePackError<E>> {
    pack.write_all(bytes)
        .map_err(|source| WritePackError::Write { offset_bytes: *offset_bytes, source })?;
    *offset_bytes += bytes.len() as u64;
    Ok(())
}
