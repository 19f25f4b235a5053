//! Compression around a whole image, as publishers do it (`.img.xz`, `.qcow2.gz`).

use std::fmt;
use std::io::{self, BufReader, Read};

use liblzma::stream::CONCATENATED;

/// How a source is compressed as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// RFC 1952, several members too.
    Gzip,
    /// xz, several streams too.
    Xz,
    /// RFC 8878, several frames too.
    Zstd,
    /// bzip2, several streams too.
    Bzip2,
}

/// What is read of the compressed source at once.
const READ_BYTES: usize = 256 << 10;

/// Memory that a stream may demand of its decompressor. `xz -9` takes 65 MiB, `zstd -19` 8 MiB
/// and `zstd --long` 128 MiB.
const XZ_MEMORY_BYTES: u64 = 128 << 20;
const ZSTD_WINDOW_LOG: u32 = 27;

impl Compression {
    /// The name of the tool that makes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        }
    }

    /// What a source compressed so holds. Its end is checked: a truncated or damaged source is an
    /// error of kind `UnexpectedEof`, `InvalidData` or `InvalidInput`.
    ///
    /// # Errors
    ///
    /// No memory for a decompressor.
    pub fn decompress<'a>(
        self,
        source: impl Read + Send + 'a,
    ) -> io::Result<Box<dyn Read + Send + 'a>> {
        let source = BufReader::with_capacity(READ_BYTES, source);
        Ok(match self {
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
            Self::Xz => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_BYTES, CONCATENATED)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(source)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
