//! A download as the threads that decode see it: bytes in order.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

use super::Download;
use crate::error::PrepareError;

/// Pieces between the network and the decoder. A piece is at most a few hundred KiB (hyper's read
/// buffer), so a handful covers the decoder's pauses and little memory is held.
const PIECES_IN_FLIGHT: usize = 16;

/// The receiving end of a download. It ends where the download ends, for whatever reason: the
/// future that [`Body::of`] gives tells the reason.
pub(crate) struct Body {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Body {
    /// A body that begins with `start`, and the work that feeds it with the rest of `download`.
    /// The work ends early and well when nobody reads the body any more.
    pub(crate) fn of(
        start: Bytes,
        mut download: Download,
    ) -> (Self, impl Future<Output = Result<(), PrepareError>>) {
        let (sender, pieces) = mpsc::channel(PIECES_IN_FLIGHT);
        let feed = async move {
            while let Some(piece) = download.next().await? {
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        (Self { pieces, current: start }, feed)
    }

    /// The next piece; nothing at the end. Blocks.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        if self.current.is_empty() {
            return self.pieces.blocking_recv();
        }
        Some(std::mem::take(&mut self.current))
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.current.len());
        self.current.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}
