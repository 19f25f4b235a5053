//! Source images as files that are read at random.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::pack::{RawBytes, RawSource};

/// A source image of known length that several threads read at any place.
pub trait ReadAt: Sync {
    /// Bytes of the source.
    fn source_bytes(&self) -> u64;

    /// Fills `into` from `offset_bytes` on. Bytes behind the end are an `UnexpectedEof`. May block
    /// while the bytes are still on their way.
    fn read_exact_at(&self, offset_bytes: u64, into: &mut [u8]) -> io::Result<()>;
}

/// A file, as long as it was when it was opened.
#[derive(Debug)]
pub struct SourceFile {
    file: File,
    source_bytes: u64,
}

impl SourceFile {
    /// The source in `file`.
    pub fn new(file: File) -> io::Result<Self> {
        let source_bytes = file.metadata()?.len();
        Ok(Self { file, source_bytes })
    }
}

impl ReadAt for SourceFile {
    fn source_bytes(&self) -> u64 {
        self.source_bytes
    }

    fn read_exact_at(&self, offset_bytes: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset_bytes)
    }
}

impl ReadAt for [u8] {
    fn source_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read_exact_at(&self, offset_bytes: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset_bytes).ok();
        let found = start
            .and_then(|start| self.get(start..)?.get(..into.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(found);
        Ok(())
    }
}

impl<S: ReadAt + ?Sized> ReadAt for &S {
    fn source_bytes(&self) -> u64 {
        (**self).source_bytes()
    }

    fn read_exact_at(&self, offset_bytes: u64, into: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset_bytes, into)
    }
}

/// A source whose bytes are the raw image.
#[derive(Debug)]
pub struct RawImage<S> {
    source: S,
    raw_bytes: u64,
}

impl<S: ReadAt> RawImage<S> {
    /// The raw image that `source` is, unless it is larger than `max_raw_bytes`.
    pub fn open(source: S, max_raw_bytes: u64) -> Result<Self, RawTooLarge> {
        let raw_bytes = source.source_bytes();
        if raw_bytes > max_raw_bytes {
            return Err(RawTooLarge { raw_bytes, limit_bytes: max_raw_bytes });
        }
        Ok(Self { source, raw_bytes })
    }
}

/// A raw image larger than the reader allows.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("the raw image has {raw_bytes} bytes, the limit is {limit_bytes}")]
pub struct RawTooLarge {
    /// Its length.
    pub raw_bytes: u64,
    /// What is allowed.
    pub limit_bytes: u64,
}

impl<S: ReadAt> RawSource for RawImage<S> {
    type Error = io::Error;

    fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> io::Result<RawBytes> {
        self.source.read_exact_at(offset_bytes, into).map(|()| RawBytes::Data)
    }
}
