//! Sources that are compressed as a whole: unpacked while they are read.
//!
//! A raw image inside is converted as it comes out. An image of another format is read at random,
//! so what comes out is kept in a file without a name for as long as the conversion takes.

use std::io::{self, Cursor, Read};
use std::thread;

use bessemer_image::SequentialReader;
use bessemer_image::compression::Compression;
use bessemer_image::digest::Algorithm;
use bessemer_image::format::{DiskFormat, PROBE_BYTES};
use bessemer_image::pack::{Packed, SequentialSource};

use super::child::Decoding;
use super::growing::GrowingFile;
use crate::error::PrepareError;
use crate::prepare::Output;

/// What is unpacked at once.
const PIECE_BYTES: usize = 1 << 20;

/// Unpacked bytes, up to a limit: a small source can hold an image without end.
struct Bounded<R> {
    reader: R,
    rest_bytes: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(into)?;
        self.rest_bytes =
            self.rest_bytes.checked_sub(bytes as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes)
    }
}

impl Decoding<'_> {
    /// Unpacks the source and converts what is inside. Answers its format too.
    pub(super) fn convert_compressed(
        &self,
        output: &Output,
        given: Option<Algorithm>,
        compression: Compression,
    ) -> Result<(Packed, DiskFormat), PrepareError> {
        let failed = |error| self.not_unpacked(compression, &error);
        let mut inside = self.unpack(compression).map_err(failed)?;
        let mut start = Vec::new();
        inside.by_ref().take(PROBE_BYTES as u64).read_to_end(&mut start).map_err(failed)?;
        let format = self.format(&start)?;
        let inside = Cursor::new(start).chain(inside);
        let raw_algorithm = Algorithm::for_raw(given, false);
        let packed = if format == DiskFormat::Raw {
            let raw = SequentialSource::new(inside, None);
            self.pack(output, raw_algorithm, &raw, failed)?
        } else {
            let expanded = self.expanded()?;
            let (unpacked, packed) = thread::scope(|scope| {
                let unpacking = scope.spawn(|| self.expand(inside, compression, &expanded));
                let packed = self.convert_disk(output, raw_algorithm, format, &expanded);
                expanded.abandon();
                (unpacking.join().map_err(|_| PrepareError::Lost), packed)
            });
            // A source that does not unpack explains an image that cannot be read.
            unpacked??;
            packed?
        };
        Ok((packed, format))
    }

    /// The image inside a compressed source.
    pub(super) fn expand_whole(
        &self,
        compression: Compression,
    ) -> Result<GrowingFile, PrepareError> {
        let inside =
            self.unpack(compression).map_err(|error| self.not_unpacked(compression, &error))?;
        let expanded = self.expanded()?;
        self.expand(inside, compression, &expanded)?;
        Ok(expanded)
    }

    fn unpack(&self, compression: Compression) -> io::Result<impl Read + Send + '_> {
        let reader = compression.decompress(SequentialReader::new(&*self.source))?;
        Ok(Bounded { reader, rest_bytes: self.job.max_image_bytes })
    }

    fn expanded(&self) -> Result<GrowingFile, PrepareError> {
        let file = self.expanded.try_clone();
        let file =
            file.map_err(|error| PrepareError::storage("write", &self.job.expanded, error))?;
        Ok(GrowingFile::new(file, None))
    }

    /// Writes what comes out to a file, until nobody reads it.
    fn expand(
        &self,
        mut inside: impl Read,
        compression: Compression,
        expanded: &GrowingFile,
    ) -> Result<(), PrepareError> {
        let mut piece = vec![0; PIECE_BYTES];
        let outcome = loop {
            match inside.read(&mut piece) {
                Ok(0) => break Ok(()),
                Ok(bytes) => match expanded.append(&piece[..bytes]) {
                    Ok(true) => {}
                    Ok(false) => break Ok(()),
                    Err(source) => {
                        break Err(PrepareError::storage("write", &self.job.expanded, source));
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(self.not_unpacked(compression, &error)),
            }
        };
        expanded.end();
        outcome
    }

    fn not_unpacked(&self, compression: Compression, error: &io::Error) -> PrepareError {
        let source_url = self.job.source_url.clone();
        let limit_bytes = self.job.max_image_bytes;
        match error.kind() {
            io::ErrorKind::FileTooLarge => {
                PrepareError::TooLarge { source_url, image_bytes: limit_bytes + 1, limit_bytes }
            }
            io::ErrorKind::UnexpectedEof => PrepareError::Truncated {
                source_url,
                message: format!("the {compression} stream ends before its end"),
            },
            _ => PrepareError::NotUnpacked { source_url, compression, message: error.to_string() },
        }
    }
}
