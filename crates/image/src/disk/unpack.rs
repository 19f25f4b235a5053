//! Compressed blocks.

use flate2::{Decompress, FlushDecompress, Status};

/// How a block is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Codec {
    /// A raw deflate stream (RFC 1951).
    Deflate,
    /// Deflate with zlib's frame (RFC 1950).
    Zlib,
    /// One zstd frame.
    Zstd,
}

/// A part of a compressed block of the guest's disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Packed {
    pub(super) codec: Codec,
    /// Length of the block when it is unpacked.
    pub(super) block_bytes: usize,
    /// Where the compressed block lies in the file.
    pub(super) offset_bytes: u64,
    /// How long it is at most.
    pub(super) stored_bytes: u64,
    /// Where the part begins in the unpacked block.
    pub(super) start: usize,
}

/// Unpacks blocks, one after the other, with one context.
pub(super) enum Unpacker {
    Inflate { inflate: Box<Decompress>, has_frame: bool },
    Zstd(zstd::bulk::Decompressor<'static>),
}

impl Unpacker {
    pub(super) fn new(codec: Codec) -> Result<Self, String> {
        let inflate =
            |has_frame| Self::Inflate { inflate: Box::new(Decompress::new(has_frame)), has_frame };
        match codec {
            Codec::Deflate => Ok(inflate(false)),
            Codec::Zlib => Ok(inflate(true)),
            Codec::Zstd => {
                zstd::bulk::Decompressor::new().map(Self::Zstd).map_err(|error| error.to_string())
            }
        }
    }

    /// Unpacks `stored`, which may be longer than the compressed bytes, into `block`. Answers how
    /// many bytes came.
    pub(super) fn unpack(&mut self, stored: &[u8], block: &mut [u8]) -> Result<usize, String> {
        match self {
            Self::Inflate { inflate, has_frame } => {
                inflate.reset(*has_frame);
                let status = inflate
                    .decompress(stored, block, FlushDecompress::Finish)
                    .map_err(|error| error.to_string())?;
                match status {
                    Status::StreamEnd | Status::BufError | Status::Ok => {
                        // At most the block's length.
                        Ok(inflate.total_out() as usize)
                    }
                }
            }
            Self::Zstd(zstd) => {
                let frame_bytes = zstd::zstd_safe::find_frame_compressed_size(stored)
                    .map_err(|code| zstd::zstd_safe::get_error_name(code).to_owned())?;
                let unpacked = zstd.decompress_to_buffer(&stored[..frame_bytes], block);
                unpacked.map_err(|error| error.to_string())
            }
        }
    }
}
