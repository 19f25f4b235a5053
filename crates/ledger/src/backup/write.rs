//! Makes a backup as a stream of bytes, without a copy on this member's disk.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use bessemer_domain::{Revision, State};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{FORMAT, Header, Trailer, VERSION};
use crate::StoreError;
use crate::store::Store;
use crate::{MemberAddress, MemberId};

/// Bytes that are sent at a time.
const SLICE_BYTES: usize = 256 << 10;

/// Slices under way: enough to keep the network busy, few enough to bound memory.
const SLICES_WAITING_MAX: usize = 8;

/// Events read at a time.
const EVENTS_AT_ONCE_MAX: usize = 1024;

/// The backup of a state and of every event up to it; none while the cluster has no identity.
pub(crate) fn write(
    store: Arc<Store>,
    state: State,
    member_id: MemberId,
    members: Vec<(MemberId, MemberAddress)>,
) -> Option<BoxStream<'static, Result<Bytes, StoreError>>> {
    let header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        cluster_id: state.cluster_id()?,
        restoration: state.restored().map(|restored| restored.id),
        revision: state.tip().revision,
        hash: state.tip().hash,
        at: state.now(),
        member_id,
        members,
        software: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let (slices, written) = mpsc::channel(SLICES_WAITING_MAX);
    let writing = tokio::task::spawn_blocking(move || {
        let sink = Sink { slices, sha256: Sha256::new() };
        write_all(&store, &state, &header, BufWriter::with_capacity(SLICE_BYTES, sink))
    });
    // What went wrong comes last, so that nobody takes a part for the whole.
    let end = writing.map(|ended| match ended {
        Ok(Ok(())) => None,
        Ok(Err(Failed::Store(error))) => Some(Err(error)),
        // Nobody is left to be told.
        Ok(Err(Failed::ReaderGone)) => None,
        Err(panicked) => Some(Err(StoreError::Io {
            action: "cannot write a backup",
            path: std::path::PathBuf::new(),
            reason: panicked.to_string(),
        })),
    });
    let end = futures::stream::once(end).filter_map(std::future::ready);
    Some(ReceiverStream::new(written).map(Ok).chain(end).boxed())
}

enum Failed {
    Store(StoreError),
    ReaderGone,
}

impl From<io::Error> for Failed {
    /// Writing fails only when nobody reads.
    fn from(_: io::Error) -> Self {
        Self::ReaderGone
    }
}

fn write_all(
    store: &Store,
    state: &State,
    header: &Header,
    mut out: BufWriter<Sink>,
) -> Result<(), Failed> {
    serde_json::to_writer(&mut out, header).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    let mut after = Revision::default();
    while after < header.revision {
        let events = store.events(after, header.revision, EVENTS_AT_ONCE_MAX);
        let events = events.map_err(Failed::Store)?;
        let Some(last) = events.last() else {
            return Err(Failed::Store(StoreError::Corrupt {
                path: store.dir().to_owned(),
                record: format!("the event after {after}"),
                reason: "it is missing".to_owned(),
            }));
        };
        after = last.revision;
        for event in &events {
            write!(out, "{} ", event.hash)?;
            out.write_all(&event.record)?;
            out.write_all(b"\n")?;
        }
    }
    serde_json::to_writer(&mut out, state).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    let mut sink = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    let sha256 = hex::encode(sink.sha256.finalize_reset());
    let mut trailer = serde_json::to_vec(&Trailer { sha256 }).map_err(io::Error::from)?;
    trailer.push(b'\n');
    sink.send(trailer.into())?;
    Ok(())
}

/// Digests and sends what is written.
struct Sink {
    slices: mpsc::Sender<Bytes>,
    sha256: Sha256,
}

impl Sink {
    fn send(&self, slice: Bytes) -> io::Result<()> {
        let sent = self.slices.blocking_send(slice);
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the reader has left"))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sha256.update(bytes);
        self.send(Bytes::copy_from_slice(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
