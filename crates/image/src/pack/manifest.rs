//! The manifest: what every chunk of a pack must be. Parses untrusted bytes.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::decode::{ChunkRefused, Refusal};
use super::{CHUNK_BYTES, MAX_FRAME_BYTES, MAX_RAW_BYTES, ZEROS, seek_table};

const MAGIC: [u8; 8] = *b"BSMRPACK";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
const ENTRY_BYTES: usize = 48;
const FLAG_ZERO: u32 = 1;
/// One frame offset is kept per so many chunks; the others are summed from the nearest one. 64
/// additions a look-up, 1/8 of a byte of memory a chunk.
const CHUNKS_PER_MARK: usize = 64;

/// Bytes of the manifest of an image of `raw_bytes`: what a reader that knows the image's size has
/// to download.
pub const fn manifest_bytes(raw_bytes: u64) -> u64 {
    HEADER_BYTES as u64 + raw_bytes.div_ceil(CHUNK_BYTES as u64) * ENTRY_BYTES as u64
}

/// Position of a chunk in its image, from 0.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChunkIndex(pub u64);

impl ChunkIndex {
    /// The chunk that holds the raw byte at `offset_bytes`.
    pub fn at(offset_bytes: u64) -> Self {
        Self(offset_bytes / CHUNK_BYTES as u64)
    }

    /// Where the chunk begins in the raw image, in bytes.
    pub fn raw_offset_bytes(self) -> u64 {
        self.0 * CHUNK_BYTES as u64
    }

    /// The chunk after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ChunkIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// BLAKE3 of a manifest: the id of a prepared image. Prints as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ManifestDigest([u8; 32]);

impl ManifestDigest {
    /// The digest of an encoded manifest.
    pub fn of(manifest: &[u8]) -> Self {
        Self(*blake3::hash(manifest).as_bytes())
    }

    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for ManifestDigest {
    fn from(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Display for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ManifestDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no image id.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("image id `{text}` is not 64 hexadecimal digits")]
pub struct InvalidManifestDigest {
    /// What was given.
    pub text: String,
}

impl FromStr for ManifestDigest {
    type Err = InvalidManifestDigest;

    fn from_str(text: &str) -> Result<Self, InvalidManifestDigest> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| InvalidManifestDigest { text: text.to_owned() })?;
        Ok(Self(bytes))
    }
}

/// Why bytes are no manifest.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum InvalidManifest {
    #[error("manifest has digest {found}, {expected} was asked for")]
    WrongDigest { found: ManifestDigest, expected: ManifestDigest },
    #[error("manifest is {found_bytes} bytes long, its header alone takes {HEADER_BYTES}")]
    NoHeader { found_bytes: usize },
    #[error("manifest begins with {found:02x?}, not with {MAGIC:02x?}")]
    WrongMagic { found: [u8; 8] },
    #[error("manifest has format version {found}, this reader knows {VERSION}")]
    UnknownVersion { found: u32 },
    #[error("manifest has chunks of {found_bytes} bytes, version {VERSION} has {CHUNK_BYTES}")]
    WrongChunkSize { found_bytes: u32 },
    #[error("manifest describes {raw_bytes} raw bytes, the limit is {MAX_RAW_BYTES}")]
    TooLarge { raw_bytes: u64 },
    #[error("manifest says {found} chunks where {raw_bytes} raw bytes make {expected}")]
    WrongChunkCount { found: u64, expected: u64, raw_bytes: u64 },
    #[error(
        "manifest is {found_bytes} bytes long where its {chunk_count} chunks need {expected_bytes}"
    )]
    WrongLength { found_bytes: usize, expected_bytes: u64, chunk_count: u64 },
    #[error("chunk {index}: a frame of {frame_bytes} bytes is not within 1..={MAX_FRAME_BYTES}")]
    FrameLength { index: ChunkIndex, frame_bytes: u32 },
    #[error("chunk {index}: unknown flags {flags:#x}")]
    UnknownFlags { index: ChunkIndex, flags: u32 },
    #[error("chunk {index}: flag `zero` and the chunk's digest contradict each other")]
    ZeroFlag { index: ChunkIndex },
}

/// What a manifest says about one chunk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Chunk {
    /// Which chunk.
    pub index: ChunkIndex,
    /// Its raw bytes: [`CHUNK_BYTES`], fewer only in the last chunk.
    pub raw_bytes: usize,
    /// Where its frame begins in the pack.
    pub frame_offset_bytes: u64,
    /// How long its frame is.
    pub frame_bytes: usize,
    /// Whether all its raw bytes are zero.
    pub is_zero: bool,
    /// The first 8 bytes of the frame's BLAKE3.
    pub frame_check: [u8; 8],
    /// BLAKE3 of the raw bytes.
    pub raw_digest: [u8; 32],
}

/// What the writer found out about one chunk: the chunk without what follows from its place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) frame_bytes: u32,
    pub(super) is_zero: bool,
    pub(super) frame_check: [u8; 8],
    pub(super) raw_digest: [u8; 32],
}

/// Consecutive chunks that are all not zero: one range of the pack to ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extent {
    /// The first chunk.
    pub first: ChunkIndex,
    /// How many chunks.
    pub chunk_count: u64,
    /// Where the first one's frame begins in the pack.
    pub pack_offset_bytes: u64,
    /// The frames' length together.
    pub pack_bytes: u64,
}

/// A well-formed manifest, held in its encoded form: 48 bytes a chunk.
#[derive(Clone, Eq, PartialEq)]
pub struct Manifest {
    encoded: Vec<u8>,
    digest: ManifestDigest,
    raw_bytes: u64,
    /// Frame offset of every [`CHUNKS_PER_MARK`]th chunk.
    marks: Vec<u64>,
    frames_bytes: u64,
    zero_chunk_count: u64,
}

impl Manifest {
    /// Reads a manifest and, when `expected` is given, refuses any other than that one.
    ///
    /// `encoded` may hold anything: memory used is bounded by its length. Bound a download by
    /// [`super::MAX_MANIFEST_BYTES`].
    pub fn parse(
        encoded: Vec<u8>,
        expected: Option<&ManifestDigest>,
    ) -> Result<Self, InvalidManifest> {
        let digest = ManifestDigest::of(&encoded);
        if let Some(&expected) = expected.filter(|&expected| *expected != digest) {
            return Err(InvalidManifest::WrongDigest { found: digest, expected });
        }
        let raw_bytes = check_header(&encoded)?;
        let mut manifest = Self {
            encoded,
            digest,
            raw_bytes,
            marks: Vec::new(),
            frames_bytes: 0,
            zero_chunk_count: 0,
        };
        manifest.check_entries()?;
        Ok(manifest)
    }

    /// The manifest of a pack just written. `entries` are one for each chunk of `raw_bytes`.
    pub(super) fn build(raw_bytes: u64, entries: &[Entry]) -> Result<Self, InvalidManifest> {
        let mut encoded = Vec::with_capacity(HEADER_BYTES + entries.len() * ENTRY_BYTES);
        encoded.extend_from_slice(&MAGIC);
        encoded.extend_from_slice(&VERSION.to_le_bytes());
        encoded.extend_from_slice(&(CHUNK_BYTES as u32).to_le_bytes());
        encoded.extend_from_slice(&raw_bytes.to_le_bytes());
        encoded.extend_from_slice(&(entries.len() as u64).to_le_bytes());
        for entry in entries {
            encoded.extend_from_slice(&entry.frame_bytes.to_le_bytes());
            encoded.extend_from_slice(&u32::from(entry.is_zero).to_le_bytes());
            encoded.extend_from_slice(&entry.frame_check);
            encoded.extend_from_slice(&entry.raw_digest);
        }
        Self::parse(encoded, None)
    }

    fn check_entries(&mut self) -> Result<(), InvalidManifest> {
        let zero_digest = *blake3::hash(&ZEROS).as_bytes();
        for number in 0..self.chunk_count() {
            let index = ChunkIndex(number);
            let (entry, flags) = self.entry(index);
            if entry.frame_bytes == 0 || entry.frame_bytes as usize > MAX_FRAME_BYTES {
                let frame_bytes = entry.frame_bytes;
                return Err(InvalidManifest::FrameLength { index, frame_bytes });
            }
            if flags & !FLAG_ZERO != 0 {
                return Err(InvalidManifest::UnknownFlags { index, flags });
            }
            let has_zero_digest = match self.raw_bytes_of(index) {
                CHUNK_BYTES => entry.raw_digest == zero_digest,
                short => entry.raw_digest == *blake3::hash(&ZEROS[..short]).as_bytes(),
            };
            if has_zero_digest != entry.is_zero {
                return Err(InvalidManifest::ZeroFlag { index });
            }
            if (number as usize).is_multiple_of(CHUNKS_PER_MARK) {
                self.marks.push(self.frames_bytes);
            }
            self.frames_bytes += u64::from(entry.frame_bytes);
            self.zero_chunk_count += u64::from(entry.is_zero);
        }
        Ok(())
    }

    /// The manifest as it is stored and sent.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The image's id.
    pub fn digest(&self) -> ManifestDigest {
        self.digest
    }

    /// Bytes of the raw image.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// How many chunks the image has.
    pub fn chunk_count(&self) -> u64 {
        self.raw_bytes.div_ceil(CHUNK_BYTES as u64)
    }

    /// How many of them are zero.
    pub fn zero_chunk_count(&self) -> u64 {
        self.zero_chunk_count
    }

    /// Bytes of all frames together: where the pack's seek table begins.
    pub fn frames_bytes(&self) -> u64 {
        self.frames_bytes
    }

    /// Bytes of the pack, seek table included.
    pub fn pack_bytes(&self) -> u64 {
        self.frames_bytes + seek_table::encoded_bytes(self.chunk_count())
    }

    /// The pack's last part, behind the frames. It follows from the manifest, so who serves a pack
    /// need not read it from the file.
    pub fn seek_table(&self) -> Vec<u8> {
        seek_table::encode(self)
    }

    /// The chunk at `index`, or nothing if the image is shorter.
    pub fn chunk(&self, index: ChunkIndex) -> Option<Chunk> {
        if index.0 >= self.chunk_count() {
            return None;
        }
        let number = index.0 as usize;
        let marked = number - number % CHUNKS_PER_MARK;
        let since_mark: u64 =
            (marked..number).map(|before| u64::from(self.frame_bytes_at(before))).sum();
        Some(self.chunk_from(index, self.marks[number / CHUNKS_PER_MARK] + since_mark))
    }

    /// The chunk whose frame holds the pack's byte at `offset_bytes`; nothing behind the frames.
    pub fn chunk_at_pack_offset(&self, offset_bytes: u64) -> Option<Chunk> {
        let mark = self.marks.partition_point(|&mark| mark <= offset_bytes).checked_sub(1)?;
        self.chunks_from(ChunkIndex((mark * CHUNKS_PER_MARK) as u64))
            .find(|chunk| offset_bytes < chunk.frame_offset_bytes + chunk.frame_bytes as u64)
    }

    /// All chunks from `first` on.
    pub fn chunks_from(&self, first: ChunkIndex) -> impl Iterator<Item = Chunk> + '_ {
        let mut next = self.chunk(first);
        std::iter::from_fn(move || {
            let chunk = next?;
            let following = chunk.index.next();
            next = (following.0 < self.chunk_count()).then(|| {
                self.chunk_from(following, chunk.frame_offset_bytes + chunk.frame_bytes as u64)
            });
            Some(chunk)
        })
    }

    /// All chunks.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + '_ {
        self.chunks_from(ChunkIndex(0))
    }

    /// The runs of chunks that are not zero, from chunk `first` on.
    pub fn extents_from(&self, first: ChunkIndex) -> impl Iterator<Item = Extent> + '_ {
        let mut chunks = self.chunks_from(first).peekable();
        std::iter::from_fn(move || {
            let start = chunks.find(|chunk| !chunk.is_zero)?;
            let mut extent = Extent {
                first: start.index,
                chunk_count: 1,
                pack_offset_bytes: start.frame_offset_bytes,
                pack_bytes: start.frame_bytes as u64,
            };
            while let Some(chunk) = chunks.next_if(|chunk| !chunk.is_zero) {
                extent.chunk_count += 1;
                extent.pack_bytes += chunk.frame_bytes as u64;
            }
            Some(extent)
        })
    }

    /// Whether `raw` is chunk `index`, for bytes read back from a disk.
    pub fn verify_raw(&self, index: ChunkIndex, raw: &[u8]) -> Result<(), ChunkRefused> {
        let chunk = self.chunk_or_refuse(index)?;
        if raw.len() != chunk.raw_bytes {
            let refusal =
                Refusal::RawLength { found_bytes: raw.len(), expected_bytes: chunk.raw_bytes };
            return Err(ChunkRefused { index, refusal });
        }
        if *blake3::hash(raw).as_bytes() != chunk.raw_digest {
            return Err(ChunkRefused { index, refusal: Refusal::RawDigest });
        }
        Ok(())
    }

    /// Whether `frame` is the frame of chunk `index`, without decompressing it. For who serves
    /// packs; who writes disks decodes, which checks the raw bytes' full digest.
    pub fn verify_frame(&self, index: ChunkIndex, frame: &[u8]) -> Result<(), ChunkRefused> {
        let chunk = self.chunk_or_refuse(index)?;
        if frame.len() != chunk.frame_bytes {
            let refusal = Refusal::FrameLength {
                found_bytes: frame.len(),
                expected_bytes: chunk.frame_bytes,
            };
            return Err(ChunkRefused { index, refusal });
        }
        if blake3::hash(frame).as_bytes()[..8] != chunk.frame_check {
            return Err(ChunkRefused { index, refusal: Refusal::FrameCheck });
        }
        Ok(())
    }

    pub(super) fn chunk_or_refuse(&self, index: ChunkIndex) -> Result<Chunk, ChunkRefused> {
        let chunk_count = self.chunk_count();
        self.chunk(index)
            .ok_or(ChunkRefused { index, refusal: Refusal::NoSuchChunk { chunk_count } })
    }

    fn raw_bytes_of(&self, index: ChunkIndex) -> usize {
        (self.raw_bytes - index.raw_offset_bytes()).min(CHUNK_BYTES as u64) as usize
    }

    fn chunk_from(&self, index: ChunkIndex, frame_offset_bytes: u64) -> Chunk {
        let (entry, _) = self.entry(index);
        Chunk {
            index,
            raw_bytes: self.raw_bytes_of(index),
            frame_offset_bytes,
            frame_bytes: entry.frame_bytes as usize,
            is_zero: entry.is_zero,
            frame_check: entry.frame_check,
            raw_digest: entry.raw_digest,
        }
    }

    fn entry_field(&self, number: usize, field: Range<usize>) -> &[u8] {
        let start = HEADER_BYTES + number * ENTRY_BYTES;
        &self.encoded[start + field.start..start + field.end]
    }

    fn frame_bytes_at(&self, number: usize) -> u32 {
        u32::from_le_bytes(array(self.entry_field(number, 0..4)))
    }

    /// The entry of a chunk that exists, and its flags as they stand.
    fn entry(&self, index: ChunkIndex) -> (Entry, u32) {
        let number = index.0 as usize;
        let flags = u32::from_le_bytes(array(self.entry_field(number, 4..8)));
        let entry = Entry {
            frame_bytes: self.frame_bytes_at(number),
            is_zero: flags & FLAG_ZERO != 0,
            frame_check: array(self.entry_field(number, 8..16)),
            raw_digest: array(self.entry_field(number, 16..48)),
        };
        (entry, flags)
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("digest", &self.digest)
            .field("raw_bytes", &self.raw_bytes)
            .field("chunk_count", &self.chunk_count())
            .field("zero_chunk_count", &self.zero_chunk_count)
            .field("pack_bytes", &self.pack_bytes())
            .finish()
    }
}

/// Checks the header and the length against each other; answers the raw image's length.
fn check_header(encoded: &[u8]) -> Result<u64, InvalidManifest> {
    let found_bytes = encoded.len();
    let Some((header, entries)) = encoded.split_first_chunk::<HEADER_BYTES>() else {
        return Err(InvalidManifest::NoHeader { found_bytes });
    };
    let magic: [u8; 8] = array(&header[0..8]);
    if magic != MAGIC {
        return Err(InvalidManifest::WrongMagic { found: magic });
    }
    let version = u32::from_le_bytes(array(&header[8..12]));
    if version != VERSION {
        return Err(InvalidManifest::UnknownVersion { found: version });
    }
    let chunk_bytes = u32::from_le_bytes(array(&header[12..16]));
    if chunk_bytes as usize != CHUNK_BYTES {
        return Err(InvalidManifest::WrongChunkSize { found_bytes: chunk_bytes });
    }
    let raw_bytes = u64::from_le_bytes(array(&header[16..24]));
    if raw_bytes > MAX_RAW_BYTES {
        return Err(InvalidManifest::TooLarge { raw_bytes });
    }
    let chunk_count = u64::from_le_bytes(array(&header[24..32]));
    let expected = raw_bytes.div_ceil(CHUNK_BYTES as u64);
    if chunk_count != expected {
        return Err(InvalidManifest::WrongChunkCount { found: chunk_count, expected, raw_bytes });
    }
    if entries.len() as u64 != chunk_count * ENTRY_BYTES as u64 {
        let expected_bytes = manifest_bytes(raw_bytes);
        return Err(InvalidManifest::WrongLength { found_bytes, expected_bytes, chunk_count });
    }
    Ok(raw_bytes)
}

/// The bytes of a field, as an array of the field's length.
fn array<const N: usize>(field: &[u8]) -> [u8; N] {
    field.try_into().expect("the caller cut the field to its length")
}

#[cfg(test)]
mod tests;
