//! Where the raw bytes of a pack come from.

use std::error::Error;
use std::io::{self, Read};
use std::sync::{Condvar, Mutex, PoisonError};

/// What a read from a [`RawSource`] found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RawBytes {
    /// All zero. The buffer was not touched.
    Zero,
    /// The buffer holds them. They may be zero all the same.
    Data,
}

/// A raw image that several threads read at once.
///
/// [`super::write_pack`] reads every chunk exactly once and hands chunks out in order, so an
/// implementation may wait until all bytes before `offset_bytes` were asked for, but no longer.
pub trait RawSource: Sync {
    /// Why a read fails.
    type Error: Error + Send + Sync + 'static;

    /// Bytes of the raw image.
    fn raw_bytes(&self) -> u64;

    /// Reads exactly `into.len()` bytes at `offset_bytes`; both lie within the image.
    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<RawBytes, Self::Error>;
}

/// A raw image that comes as a stream of known length: readers take turns.
#[derive(Debug)]
pub struct SequentialSource<R> {
    raw_bytes: u64,
    stream: Mutex<Stream<R>>,
    advanced: Condvar,
}

#[derive(Debug)]
struct Stream<R> {
    reader: R,
    position_bytes: u64,
    failed: bool,
}

impl<R: Read + Send> SequentialSource<R> {
    /// The stream `reader`, which must yield `raw_bytes`.
    pub fn new(reader: R, raw_bytes: u64) -> Self {
        let stream = Stream { reader, position_bytes: 0, failed: false };
        Self { raw_bytes, stream: Mutex::new(stream), advanced: Condvar::new() }
    }

    /// The stream behind the image's last byte.
    pub fn into_reader(self) -> R {
        self.stream.into_inner().unwrap_or_else(PoisonError::into_inner).reader
    }
}

impl<R: Read + Send> RawSource for SequentialSource<R> {
    type Error = io::Error;

    fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<RawBytes, io::Error> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stream = self
            .advanced
            .wait_while(stream, |stream| !stream.failed && stream.position_bytes < offset_bytes)
            .unwrap_or_else(PoisonError::into_inner);
        if stream.failed || stream.position_bytes != offset_bytes {
            return Err(io::Error::other("an earlier part of the stream could not be read"));
        }
        let outcome = stream.reader.read_exact(into);
        stream.position_bytes += into.len() as u64;
        stream.failed = outcome.is_err();
        self.advanced.notify_all();
        outcome.map(|()| RawBytes::Data)
    }
}
