//! Writing an image of another format than raw from its origin, when no image cache prepares it. Nothing of it is kept but
//! some MiB: it is read twice, first from beginning to end, to see that its digest is right, and then where decoding
//! asks for it.

use std::ops::Range;
use std::sync::Arc;

use bessemer_image::digest::{Digest, Hasher};
use bessemer_image::disk::{Disk, DiskError};
use bessemer_image::format::DiskFormat;
use bessemer_image::pack::{CHUNK_BYTES, RawBytes, RawSource as _};
use bessemer_proto::v1::WriteReport;
use tokio_util::sync::CancellationToken;

use super::ranges::{RangedImage, survey};
use super::raw::Download;
use super::target::Target;
use super::without_tables;
use crate::disk::AlignedBuffer;
use crate::task::{Meter, TaskError, blocking};

/// Chunks without data that are zeroed in one operation, at the most.
const ZERO_RUN_CHUNKS: u64 = 64;

/// Where an image is, and what it is.
pub(super) struct Origin<'a> {
    pub(super) url: &'a str,
    pub(super) download: Download,
    pub(super) format: DiskFormat,
    pub(super) expected: Digest,
}

/// Verifies the image, decodes it, and writes it.
pub(super) async fn write(
    target: &Arc<Target>,
    origin: Origin<'_>,
    meter: &Arc<Meter>,
    stop: &CancellationToken,
) -> Result<WriteReport, TaskError> {
    let Origin { url, mut download, format, expected } = origin;
    meter.set_total(download.image_bytes());
    let hasher = Hasher::new(expected.algorithm());
    let (found, blocks) = survey(&mut download, hasher, meter, stop).await?;
    if found != expected {
        return Err(TaskError::checksum_mismatch(url, found, expected));
    }
    let ranges = RangedImage::new(download, blocks, stop);
    let (image, first) = {
        let (target, url) = (Arc::clone(target), url.to_owned());
        blocking(move || {
            let image = Image::open(url, format, ranges)?;
            target.check_size(image.bytes())?;
            let mut first = AlignedBuffer::new(CHUNK_BYTES);
            let length = image.bytes().min(CHUNK_BYTES as u64) as usize;
            image.read(0, &mut first[..length])?;
            target.check_start(&first[..length])?;
            Ok((image, first))
        })
        .await?
    };
    let image_bytes = image.bytes();
    meter.restart();
    meter.set_total(image_bytes);
    without_tables(target, image_bytes, async {
        let (target, meter, stop) = (Arc::clone(target), Arc::clone(meter), stop.clone());
        let writing = Writing { target, image, meter, stop };
        blocking(move || writing.all(&first)).await?;
        Ok(WriteReport { image_bytes, ..WriteReport::default() })
    })
    .await
}

/// An image that is decoded from its origin.
struct Image {
    url: String,
    ranges: Arc<RangedImage>,
    disk: Disk<Arc<RangedImage>>,
}

impl Image {
    fn open(url: String, format: DiskFormat, ranges: RangedImage) -> Result<Self, TaskError> {
        let ranges = Arc::new(ranges);
        // What is larger than its place is refused later, in words of its own.
        match Disk::open(format, Arc::clone(&ranges), u64::MAX) {
            Ok(disk) => Ok(Self { url, ranges, disk }),
            Err(error) => Err(unreadable(&url, &ranges, error)),
        }
    }

    fn bytes(&self) -> u64 {
        self.disk.virtual_bytes()
    }

    /// Reads what a guest would; answers whether there is anything but zeros.
    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<bool, TaskError> {
        let read = self.disk.read(offset_bytes, into);
        match read.map_err(|error| unreadable(&self.url, &self.ranges, error))? {
            RawBytes::Zero => {
                into.fill(0);
                Ok(false)
            }
            RawBytes::Data | RawBytes::End { .. } => Ok(true),
        }
    }
}

/// Why an image cannot be read: its origin is to blame, or itself.
fn unreadable(url: &str, ranges: &RangedImage, error: DiskError) -> TaskError {
    let itself = || TaskError::ImageUnreadable { url: url.to_owned(), error };
    ranges.failure().unwrap_or_else(itself)
}

struct Writing {
    target: Arc<Target>,
    image: Image,
    meter: Arc<Meter>,
    stop: CancellationToken,
}

impl Writing {
    /// Writes everything, the first and the last chunk, which hold partition tables, at the end.
    fn all(&self, first: &AlignedBuffer) -> Result<(), TaskError> {
        let disk = self.target.place();
        let chunk = CHUNK_BYTES as u64;
        let image_bytes = self.image.bytes();
        let last_start = (image_bytes - 1) / chunk * chunk;
        let mut buffer = AlignedBuffer::new(CHUNK_BYTES);
        // Not zeroed yet; ends where the next chunk begins.
        let mut zeros_from = chunk;
        for offset_bytes in (chunk..last_start).step_by(CHUNK_BYTES) {
            self.unless_stopped()?;
            if self.image.read(offset_bytes, &mut buffer)? {
                self.zero(zeros_from..offset_bytes)?;
                disk.write_at(&buffer, offset_bytes)?;
                self.meter.add_done(chunk);
                zeros_from = offset_bytes + chunk;
            } else if offset_bytes + chunk - zeros_from >= ZERO_RUN_CHUNKS * chunk {
                self.zero(zeros_from..offset_bytes + chunk)?;
                zeros_from = offset_bytes + chunk;
            }
        }
        self.zero(zeros_from..last_start)?;
        disk.flush()?;
        self.unless_stopped()?;
        if last_start > 0 {
            let length = (image_bytes - last_start) as usize;
            self.image.read(last_start, &mut buffer[..length])?;
            self.write_last(&buffer[..length], last_start)?;
        }
        self.write_last(&first[..image_bytes.min(chunk) as usize], 0)
    }

    /// Writes what may hold a partition table.
    fn write_last(&self, bytes: &[u8], offset_bytes: u64) -> Result<(), TaskError> {
        let disk = self.target.place();
        disk.write_at(bytes, offset_bytes)?;
        disk.flush()?;
        self.meter.add_done(bytes.len() as u64);
        Ok(())
    }

    fn zero(&self, run: Range<u64>) -> Result<(), TaskError> {
        if !run.is_empty() {
            self.target.place().zero(run.start, run.end - run.start)?;
            self.meter.add_done(run.end - run.start);
        }
        Ok(())
    }

    fn unless_stopped(&self) -> Result<(), TaskError> {
        if self.stop.is_cancelled() { Err(TaskError::Cancelled) } else { Ok(()) }
    }
}
