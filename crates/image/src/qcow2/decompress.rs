//! Compressed clusters.

use flate2::{Decompress, FlushDecompress, Status};

/// How an image compresses clusters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Compression {
    /// Raw deflate streams.
    Zlib,
    /// One zstd frame each.
    Zstd,
}

/// Decompresses clusters of one image, one after the other, with one context.
pub(super) enum Decompressor {
    Zlib(Box<Decompress>),
    Zstd(zstd::bulk::Decompressor<'static>),
}

impl Decompressor {
    pub(super) fn new(compression: Compression) -> Result<Self, String> {
        match compression {
            Compression::Zlib => Ok(Self::Zlib(Box::new(Decompress::new(false)))),
            Compression::Zstd => {
                zstd::bulk::Decompressor::new().map(Self::Zstd).map_err(|error| error.to_string())
            }
        }
    }

    /// Fills `cluster` from `stored`, which may be longer than the compressed bytes: the format
    /// counts sectors.
    pub(super) fn decompress(&mut self, stored: &[u8], cluster: &mut [u8]) -> Result<(), String> {
        let filled_bytes = match self {
            Self::Zlib(inflate) => {
                inflate.reset(false);
                let status = inflate
                    .decompress(stored, cluster, FlushDecompress::Finish)
                    .map_err(|error| error.to_string())?;
                match status {
                    Status::StreamEnd | Status::BufError | Status::Ok => inflate.total_out(),
                }
            }
            Self::Zstd(zstd) => {
                let frame_bytes = zstd::zstd_safe::find_frame_compressed_size(stored)
                    .map_err(|code| zstd::zstd_safe::get_error_name(code).to_owned())?;
                let filled = zstd.decompress_to_buffer(&stored[..frame_bytes], cluster);
                filled.map_err(|error| error.to_string())? as u64
            }
        };
        if filled_bytes == cluster.len() as u64 {
            return Ok(());
        }
        Err(format!("{filled_bytes} bytes where a cluster has {}", cluster.len()))
    }
}
