//! What has to be done to a disk for it to hold an image: which chunks are fetched, in which
//! requests, and which are zeroed.

use std::iter;
use std::ops::Range;

use bessemer_image::pack::{Chunk, ChunkIndex, Manifest};

/// A gap in the pack that is shorter than this, in bytes, is read over: on a network of 1 Gbit/s and
/// 0.2 ms, more bytes than this pass while another request finds its way.
const REQUEST_COST_BYTES: u64 = 16 << 10;

/// How many zero chunks are zeroed in one operation. The disk may have to write them, and the task
/// can be stopped between operations only.
const ZERO_RUN_CHUNKS: u64 = 64;

/// A set of chunks: one bit each.
#[derive(Debug)]
pub(super) struct ChunkSet {
    words: Vec<u64>,
}

impl ChunkSet {
    /// An empty set that can hold the chunks below `chunk_count`.
    pub(super) fn new(chunk_count: u64) -> Self {
        let words = usize::try_from(chunk_count.div_ceil(64)).unwrap_or(usize::MAX);
        Self { words: vec![0; words] }
    }

    pub(super) fn insert(&mut self, ChunkIndex(index): ChunkIndex) {
        if let Some(word) = self.words.get_mut((index / 64) as usize) {
            *word |= 1 << (index % 64);
        }
    }

    pub(super) fn contains(&self, ChunkIndex(index): ChunkIndex) -> bool {
        self.words.get((index / 64) as usize).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }
}

/// Whether a chunk holds, or may hold, a partition table: those at both ends. They are written when
/// everything else is on the disk.
pub(super) fn holds_table(manifest: &Manifest, ChunkIndex(index): ChunkIndex) -> bool {
    index == 0 || index + 1 == manifest.chunk_count()
}

/// The chunks that are worth looking for on the disk. Those with partition tables are not: what is
/// there now must go.
pub(super) fn readable(manifest: &Manifest) -> impl Iterator<Item = Chunk> + '_ {
    manifest.chunks().filter(|chunk| !chunk.is_zero && !holds_table(manifest, chunk.index))
}

/// Whether a chunk has to come over the network.
pub(super) fn is_wanted(chunk: &Chunk, present: &ChunkSet) -> bool {
    !chunk.is_zero && !present.contains(chunk.index)
}

/// The chunks whose indices are in `range`.
pub(super) fn chunks(manifest: &Manifest, range: Range<u64>) -> impl Iterator<Item = Chunk> + '_ {
    manifest.chunks_from(ChunkIndex(range.start)).take_while(move |chunk| chunk.index.0 < range.end)
}

/// The requests that fetch what is wanted, each a range of chunks. It begins and ends
/// with chunks that are wanted; those between them may not be.
pub(super) fn requests<'a>(
    manifest: &'a Manifest,
    present: &'a ChunkSet,
) -> impl Iterator<Item = Range<u64>> + 'a {
    let mut wanted = manifest.chunks().filter(|chunk| is_wanted(chunk, present)).peekable();
    iter::from_fn(move || {
        let mut last = wanted.next()?;
        let first = last.index.0;
        let end = |chunk: &Chunk| chunk.frame_offset_bytes + chunk.frame_bytes as u64;
        while let Some(next) =
            wanted.next_if(|next| next.frame_offset_bytes - end(&last) <= REQUEST_COST_BYTES)
        {
            last = next;
        }
        Some(first..last.index.0 + 1)
    })
}

/// The runs of zero chunks.
pub(super) fn zero_runs(manifest: &Manifest) -> impl Iterator<Item = Range<u64>> + '_ {
    let mut zeros = manifest.chunks().filter(|chunk| chunk.is_zero).peekable();
    iter::from_fn(move || {
        let first = zeros.next()?.index.0;
        let mut run = first..first + 1;
        while run.end - run.start < ZERO_RUN_CHUNKS
            && zeros.next_if(|zero| zero.index.0 == run.end).is_some()
        {
            run.end += 1;
        }
        Some(run)
    })
}
