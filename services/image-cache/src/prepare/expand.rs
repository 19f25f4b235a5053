//! Sources that are compressed as a whole: unpacked while they are read.
//!
//! A raw image inside is converted as it comes out. An image of another format is read at random,
//! so what comes out is kept in a file without a name for as long as the conversion takes.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::thread;

use bessemer_image::compression::Compression;
use bessemer_image::format::{DiskFormat, PROBE_BYTES};
use bessemer_image::pack::SequentialSource;
use bessemer_image::{ReadAt, SequentialReader};

use super::{Preparation, Staged};
use crate::durable;
use crate::error::PrepareError;
use crate::fetch::GrowingFile;

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

impl Preparation {
    /// Unpacks a source and converts what is inside. Answers its format too.
    pub(super) fn convert_compressed(
        &self,
        source: &(impl ReadAt + Send),
        compression: Compression,
    ) -> Result<(Staged, DiskFormat), PrepareError> {
        let failed = |error| self.not_unpacked(compression, &error);
        let mut inside = self.unpack(source, compression).map_err(failed)?;
        let mut start = Vec::new();
        inside.by_ref().take(PROBE_BYTES as u64).read_to_end(&mut start).map_err(failed)?;
        let format = self.image_format(&start)?;
        let inside = Cursor::new(start).chain(inside);
        let conversion = self.conversion(format, false);
        let staged = if format == DiskFormat::Raw {
            let raw = SequentialSource::new(inside, None);
            conversion.pack(&raw, failed)?
        } else {
            let expanded = self.expanded_file()?;
            let (unpacked, staged) = thread::scope(|scope| {
                let unpacking = scope.spawn(|| self.expand(inside, compression, &expanded));
                let staged = conversion.run(&expanded);
                expanded.abandon();
                (unpacking.join().map_err(|_| PrepareError::Lost), staged)
            });
            // A source that does not unpack explains an image that cannot be read.
            unpacked??;
            staged?
        };
        Ok((staged, format))
    }

    /// The image inside a compressed source, in a file that goes when it is closed.
    pub(crate) fn expand_whole(
        &self,
        source: &(impl ReadAt + Send),
        compression: Compression,
    ) -> Result<GrowingFile, PrepareError> {
        let inside = self
            .unpack(source, compression)
            .map_err(|error| self.not_unpacked(compression, &error))?;
        let expanded = self.expanded_file()?;
        self.expand(inside, compression, &expanded)?;
        Ok(expanded)
    }

    fn unpack<'a>(
        &self,
        source: &'a (impl ReadAt + Send),
        compression: Compression,
    ) -> io::Result<impl Read + Send + 'a> {
        let reader = compression.decompress(SequentialReader::new(source))?;
        Ok(Bounded { reader, rest_bytes: self.shared.config.max_image_bytes })
    }

    fn expanded_file(&self) -> Result<GrowingFile, PrepareError> {
        let path = self.shared.layout.staged(&self.key, "expanded");
        let open = || {
            let file =
                File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
            // The name is needed no longer; the space is free as soon as the file is closed.
            durable::remove(&path)?;
            Ok(file)
        };
        let file = open().map_err(|source| PrepareError::storage("write", &path, source))?;
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
                        let path = self.shared.layout.staged(&self.key, "expanded");
                        break Err(PrepareError::storage("write", path, source));
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
        let source_url = self.source_url().to_owned();
        let limit_bytes = self.shared.config.max_image_bytes;
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
