//! Source images as files that are read at random.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

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

impl<S: ReadAt + Send + ?Sized> ReadAt for Arc<S> {
    fn source_bytes(&self) -> u64 {
        (**self).source_bytes()
    }

    fn read_exact_at(&self, offset_bytes: u64, into: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset_bytes, into)
    }
}

/// A source read from its beginning to its end.
#[derive(Debug)]
pub struct SequentialReader<S> {
    source: S,
    position_bytes: u64,
}

impl<S: ReadAt> SequentialReader<S> {
    /// A reader that stands at the source's beginning.
    pub fn new(source: S) -> Self {
        Self { source, position_bytes: 0 }
    }
}

impl<S: ReadAt> Read for SequentialReader<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest_bytes = self.source.source_bytes().saturating_sub(self.position_bytes);
        let bytes = rest_bytes.min(into.len() as u64) as usize;
        self.source.read_exact_at(self.position_bytes, &mut into[..bytes])?;
        self.position_bytes += bytes as u64;
        Ok(bytes)
    }
}
