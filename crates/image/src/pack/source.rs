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
    /// The image ended. The buffer holds its last bytes, fewer than were asked for; none when it
    /// had ended before. Only an image of unknown length does this.
    End {
        /// How many there were.
        bytes: usize,
    },
}

/// A raw image that several threads read at once.
///
/// [`super::write_pack`] reads every chunk exactly once and hands chunks out in order, so an
/// implementation may wait until all bytes before `offset_bytes` were asked for, but no longer.
pub trait RawSource: Sync {
    /// Why a read fails.
    type Error: Error + Send + Sync + 'static;

    /// Bytes of the raw image, if that is known before it was read.
    fn raw_bytes(&self) -> Option<u64>;

    /// Reads exactly `into.len()` bytes at `offset_bytes`; both lie within an image of known
    /// length.
    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<RawBytes, Self::Error>;
}

/// A raw image that comes as a stream: readers take turns.
#[derive(Debug)]
pub struct SequentialSource<R> {
    raw_bytes: Option<u64>,
    stream: Mutex<Stream<R>>,
    advanced: Condvar,
}

#[derive(Debug)]
struct Stream<R> {
    reader: R,
    position_bytes: u64,
    state: StreamState,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum StreamState {
    Open,
    Ended,
    Failed,
}

impl<R: Read + Send> SequentialSource<R> {
    /// The stream `reader`. It must yield `raw_bytes`, or is the image as far as it goes when
    /// nobody knows how far that is.
    pub fn new(reader: R, raw_bytes: Option<u64>) -> Self {
        let stream = Stream { reader, position_bytes: 0, state: StreamState::Open };
        Self { raw_bytes, stream: Mutex::new(stream), advanced: Condvar::new() }
    }

    /// The stream behind the image's last byte.
    pub fn into_reader(self) -> R {
        self.stream.into_inner().unwrap_or_else(PoisonError::into_inner).reader
    }
}

impl<R: Read + Send> RawSource for SequentialSource<R> {
    type Error = io::Error;

    fn raw_bytes(&self) -> Option<u64> {
        self.raw_bytes
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<RawBytes, io::Error> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let is_before = |stream: &mut Stream<R>| {
            stream.state == StreamState::Open && stream.position_bytes < offset_bytes
        };
        let mut stream =
            self.advanced.wait_while(stream, is_before).unwrap_or_else(PoisonError::into_inner);
        if stream.state == StreamState::Ended && stream.position_bytes <= offset_bytes {
            return Ok(RawBytes::End { bytes: 0 });
        }
        if stream.state == StreamState::Failed || stream.position_bytes != offset_bytes {
            return Err(io::Error::other("an earlier part of the stream could not be read"));
        }
        let outcome = match self.raw_bytes {
            Some(_) => stream.reader.read_exact(into).map(|()| into.len()),
            None => read_to_end_of(&mut stream.reader, into),
        };
        stream.position_bytes += *outcome.as_ref().unwrap_or(&0) as u64;
        stream.state = match outcome {
            Ok(bytes) if bytes == into.len() => StreamState::Open,
            Ok(_) => StreamState::Ended,
            Err(_) => StreamState::Failed,
        };
        self.advanced.notify_all();
        let bytes = outcome?;
        Ok(if bytes == into.len() { RawBytes::Data } else { RawBytes::End { bytes } })
    }
}

/// Fills `into` as far as the stream goes.
fn read_to_end_of(reader: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match reader.read(&mut into[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
