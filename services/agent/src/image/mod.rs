//! Writing an image to the root device.
//!
//! Whatever its source, the order is the same: nothing is touched before the image is known to fit,
//! then old partition tables go, then the image is written except for what holds its own tables,
//! and these last. A disk that was left half way has no table by which a machine would boot it.

mod crew;
mod pack;
mod plan;
mod raw;
mod source;
mod tables;

use std::sync::Arc;
use std::time::Instant;

use bessemer_image::format::gpt_sector_bytes;
use bessemer_image::pack::ManifestDigest;
use bessemer_proto::v1::write_image_task::Source;
use bessemer_proto::v1::{PackSource, WriteImageTask, WriteReport};
use tokio_util::sync::CancellationToken;

use crate::disk::OpenDisk;
use crate::machine::Machine;
use crate::memory;
use crate::root_device;
use crate::task::{Meter, TaskError, blocking, chain};
use pack::PackWriter;
use source::Sources;

/// What disks have that are not 4Kn.
const USUAL_SECTOR_BYTES: u64 = 512;

/// Writes the task's image to the root device. Stopped, it ends between two chunks.
pub(crate) async fn write(
    machine: &Machine,
    task: WriteImageTask,
    resume: bool,
    meter: &Arc<Meter>,
    stop: &CancellationToken,
) -> Result<WriteReport, TaskError> {
    let began = Instant::now();
    let root = root_device::choose(&machine.disks(), &task.root_device)?;
    let disk = Arc::new(OpenDisk::open(&root.path)?);
    let report = match task.source {
        Some(Source::Pack(pack)) => write_pack(&disk, &pack, resume, meter, stop).await?,
        Some(Source::Raw(source)) => raw::write(&disk, &source, meter, stop).await?,
        None => return Err(TaskError::invalid("source", "", "is missing")),
    };
    Ok(WriteReport {
        device: disk.name(),
        wire_bytes: meter.wire_bytes(),
        duration: began.elapsed().try_into().ok(),
        agent_peak_rss_bytes: memory::peak_resident_bytes(),
        ..report
    })
}

async fn write_pack(
    disk: &Arc<OpenDisk>,
    pack: &PackSource,
    resume: bool,
    meter: &Arc<Meter>,
    stop: &CancellationToken,
) -> Result<WriteReport, TaskError> {
    let image_bytes = pack.raw_size_bytes;
    check_size(disk, image_bytes)?;
    let digest = <[u8; 32]>::try_from(pack.manifest_digest.as_slice())
        .map(ManifestDigest::from)
        .map_err(|_| {
            let length = pack.manifest_digest.len().to_string();
            TaskError::invalid("manifest_digest length", length, "is not 32")
        })?;
    let mut sources = Sources::new(&pack.urls, meter)?;
    let fetch = pack::fetch_manifest(&mut sources, &digest, image_bytes);
    let manifest = unless_stopped(stop, fetch).await?;
    // What nearly all disks have, nearly all images are made for.
    if disk.sector_bytes() != USUAL_SECTOR_BYTES {
        let start = pack::fetch_first_chunk(&mut sources, &manifest);
        check_sectors(disk, &unless_stopped(stop, start).await?)?;
    }
    meter.set_total(image_bytes);

    let write = Box::pin(async {
        let mut writer = PackWriter::new(Arc::clone(disk), manifest, sources, Arc::clone(meter));
        let outcome = unless_stopped(stop, Box::pin(writer.write(resume))).await;
        let report = WriteReport {
            image_bytes,
            refused_chunks: writer.refused_chunks,
            resumed_bytes: writer.resumed_bytes,
            ..WriteReport::default()
        };
        writer.end().await;
        outcome.map(|()| report)
    });
    without_tables(disk, image_bytes, write).await
}

/// Writes an image to a disk that has no partition table before, and none after if it fails.
async fn without_tables(
    disk: &Arc<OpenDisk>,
    image_bytes: u64,
    write: impl Future<Output = Result<WriteReport, TaskError>>,
) -> Result<WriteReport, TaskError> {
    let wipe = || {
        let disk = Arc::clone(disk);
        blocking(move || tables::wipe(&disk, image_bytes))
    };
    wipe().await?;
    let written = async {
        let report = write.await?;
        let disk = Arc::clone(disk);
        blocking(move || tables::settle(&disk)).await?;
        Ok(report)
    };
    let outcome = written.await;
    if outcome.is_err()
        && let Err(error) = wipe().await
    {
        tracing::error!(disk = disk.name(), error = chain(&error), "tables may be left");
    }
    outcome
}

/// Refuses an image that is empty or larger than the disk.
fn check_size(disk: &OpenDisk, image_bytes: u64) -> Result<(), TaskError> {
    if image_bytes == 0 {
        return Err(TaskError::invalid("image size", "0", "leaves nothing to write"));
    }
    if image_bytes > disk.size_bytes() {
        let (disk, disk_bytes) = (disk.name(), disk.size_bytes());
        return Err(TaskError::ImageLargerThanDisk { image_bytes, disk, disk_bytes });
    }
    Ok(())
}

/// Refuses an image that begins with `start` if its partitions would not be found on the disk.
fn check_sectors(disk: &OpenDisk, start: &[u8]) -> Result<(), TaskError> {
    match gpt_sector_bytes(start) {
        Some(image_sector_bytes) if u64::from(image_sector_bytes) != disk.sector_bytes() => {
            let (disk, disk_sector_bytes) = (disk.name(), disk.sector_bytes());
            Err(TaskError::SectorSize { image_sector_bytes, disk, disk_sector_bytes })
        }
        Some(_) | None => Ok(()),
    }
}

async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, TaskError>>,
) -> Result<T, TaskError> {
    stop.run_until_cancelled(work).await.unwrap_or(Err(TaskError::Cancelled))
}

#[cfg(test)]
mod tests;
