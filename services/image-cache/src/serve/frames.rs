//! Reads packs, frame by frame, and lets no damaged one through.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bessemer_image::pack::{Chunk, ChunkDecoder, ChunkIndex, Manifest};
use bytes::Bytes;
use futures::Stream;

/// A pack that is open for reading. Stays readable when the image is dropped meanwhile.
#[derive(Clone)]
pub(super) struct OpenPack {
    pub(super) manifest: Arc<Manifest>,
    pub(super) file: Arc<File>,
}

/// What is read of a pack.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum View {
    /// Its own bytes.
    Pack,
    /// The raw image in it.
    Raw,
}

impl View {
    /// What monitoring calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Raw => "raw",
        }
    }
}

impl OpenPack {
    /// Length of a view in bytes.
    pub(super) fn total_bytes(&self, view: View) -> u64 {
        match view {
            View::Pack => self.manifest.pack_bytes(),
            View::Raw => self.manifest.raw_bytes(),
        }
    }

    /// The bytes of `range`, a verified piece at a time. Ends with an error at a piece that cannot
    /// be read or is damaged, without any of its bytes.
    pub(super) fn stream(
        self,
        view: View,
        range: Range<u64>,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send {
        let state = Some((self, None, range));
        futures::stream::try_unfold(state, move |state| async move {
            let Some((pack, decoder, range)) = state.filter(|(_, _, range)| !range.is_empty())
            else {
                return Ok(None);
            };
            let read = move || {
                let mut decoder = decoder;
                let piece = pack.piece(view, range.clone(), &mut decoder)?;
                let rest = range.start + piece.len() as u64..range.end;
                Ok::<_, io::Error>(Some((piece, Some((pack, decoder, rest)))))
            };
            tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
        })
    }

    /// The first bytes of `range`, at most what one frame gives.
    fn piece(
        &self,
        view: View,
        range: Range<u64>,
        decoder: &mut Option<ChunkDecoder>,
    ) -> io::Result<Bytes> {
        match view {
            View::Pack => self.pack_piece(&range),
            View::Raw => self.raw_piece(&range, decoder),
        }
    }

    fn pack_piece(&self, range: &Range<u64>) -> io::Result<Bytes> {
        let Some(chunk) = self.manifest.chunk_at_pack_offset(range.start) else {
            // Behind the frames is the seek table, which follows from the manifest.
            let table = Bytes::from(self.manifest.seek_table());
            return Ok(cut(table, self.manifest.frames_bytes(), range));
        };
        let frame = self.frame(&chunk)?;
        self.manifest.verify_frame(chunk.index, &frame).map_err(io::Error::other)?;
        Ok(cut(frame.into(), chunk.frame_offset_bytes, range))
    }

    fn raw_piece(
        &self,
        range: &Range<u64>,
        decoder: &mut Option<ChunkDecoder>,
    ) -> io::Result<Bytes> {
        let index = ChunkIndex::at(range.start);
        let chunk = self.manifest.chunk(index).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut raw = vec![0; chunk.raw_bytes];
        if !chunk.is_zero {
            let frame = self.frame(&chunk)?;
            let decoder = match decoder {
                Some(decoder) => decoder,
                none => none.insert(ChunkDecoder::new()?),
            };
            decoder.decode(&self.manifest, index, &frame, &mut raw).map_err(io::Error::other)?;
        }
        Ok(cut(raw.into(), index.raw_offset_bytes(), range))
    }

    fn frame(&self, chunk: &Chunk) -> io::Result<Vec<u8>> {
        // At most 1 MiB and a little: the manifest was checked.
        let mut frame = vec![0; chunk.frame_bytes];
        self.file.read_exact_at(&mut frame, chunk.frame_offset_bytes)?;
        Ok(frame)
    }
}

/// The part of `bytes`, which begin at `offset_bytes`, that lies in `range`.
fn cut(bytes: Bytes, offset_bytes: u64, range: &Range<u64>) -> Bytes {
    let length = bytes.len() as u64;
    let start = range.start.saturating_sub(offset_bytes).min(length);
    let end = range.end.saturating_sub(offset_bytes).min(length);
    bytes.slice(start as usize..end as usize)
}
