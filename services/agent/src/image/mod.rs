//! Writing an image to the root device.
//!
//! Whatever its source, the order is the same: nothing is touched before the image is known to fit,
//! then old partition tables go, then the image is written except for what holds its own tables,
//! and these last. A disk that was left half way has no table by which a machine would boot it.

mod crew;
mod decoded;
mod fetch;
mod pack;
mod plan;
mod ranges;
mod raw;
mod server;
mod slots;
mod source;
mod target;

use std::sync::Arc;
use std::time::Instant;

use bessemer_image::pack::ManifestDigest;
use bessemer_proto::v1::write_image_task::Source;
use bessemer_proto::v1::{PackSource, WriteImageTask, WriteReport};
use bessemer_wire::deployment::partitions_from_proto;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::disk::OpenDisk;
use crate::machine::Machine;
use crate::memory;
use crate::root_device;
use crate::task::{Meter, TaskError, blocking, chain};
use pack::PackWriter;
use server::HttpClient;
use source::Sources;
use target::Target;

/// Writes the task's image to the root device. Stopped, it ends between two chunks. `urls` tell where a pack is; they
/// may change meanwhile.
pub(crate) async fn write(
    machine: &Machine,
    task: WriteImageTask,
    resume: bool,
    urls: watch::Receiver<Vec<String>>,
    meter: &Arc<Meter>,
    stop: &CancellationToken,
) -> Result<WriteReport, TaskError> {
    let began = Instant::now();
    let root = root_device::choose(&machine.disks(), &task.root_device)?;
    let target = Arc::new(target_of(&task, OpenDisk::open(&root.path)?, resume)?);
    let client = HttpClient::new(machine.transport(), meter)?;
    let report = match task.source {
        Some(Source::Pack(pack)) => {
            write_pack(&target, &pack, resume, urls, &client, meter, stop).await?
        }
        Some(Source::Raw(source)) => raw::write(&target, &source, client, meter, stop).await?,
        None => return Err(TaskError::invalid("source", "", "is missing")),
    };
    Ok(WriteReport {
        device: target.device(),
        wire_bytes: meter.wire_bytes(),
        duration: began.elapsed().try_into().ok(),
        agent_peak_rss_bytes: memory::peak_resident_bytes(),
        ..report
    })
}

fn target_of(task: &WriteImageTask, disk: OpenDisk, resume: bool) -> Result<Target, TaskError> {
    let Some(layout) = &task.partitions else { return Ok(Target::whole(disk)) };
    let layout = partitions_from_proto(layout)
        .map_err(|invalid| TaskError::invalid("partitions", "", invalid.to_string()))?;
    Target::divided(disk, &layout, resume)
}

async fn write_pack(
    target: &Arc<Target>,
    pack: &PackSource,
    resume: bool,
    urls: watch::Receiver<Vec<String>>,
    client: &HttpClient,
    meter: &Arc<Meter>,
    stop: &CancellationToken,
) -> Result<WriteReport, TaskError> {
    let image_bytes = pack.raw_size_bytes;
    target.check_size(image_bytes)?;
    let digest = <[u8; 32]>::try_from(pack.manifest_digest.as_slice())
        .map(ManifestDigest::from)
        .map_err(|_| {
            let length = pack.manifest_digest.len().to_string();
            TaskError::invalid("manifest_digest length", length, "is not 32")
        })?;
    let mut sources = Sources::new(urls.clone(), client.clone())?;
    let fetch = pack::fetch_manifest(&mut sources, &digest, image_bytes);
    let manifest = unless_stopped(stop, fetch).await?;
    if target.wants_start() {
        let start = pack::fetch_first_chunk(&mut sources, &manifest);
        target.check_start(&unless_stopped(stop, start).await?)?;
    }
    meter.set_total(image_bytes);

    let write = Box::pin(async {
        let place = Arc::clone(target.place());
        let client = client.clone();
        let mut writer = PackWriter::new(place, manifest, client, urls, Arc::clone(meter));
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
    without_tables(target, image_bytes, write).await
}

/// Writes an image to a disk that has no partition table before, and none after if it fails.
async fn without_tables(
    target: &Arc<Target>,
    image_bytes: u64,
    write: impl Future<Output = Result<WriteReport, TaskError>>,
) -> Result<WriteReport, TaskError> {
    let wipe = || {
        let target = Arc::clone(target);
        blocking(move || target.wipe_tables(image_bytes))
    };
    wipe().await?;
    let written = async {
        let report = write.await?;
        let target = Arc::clone(target);
        let root_uuid = blocking(move || target.settle()).await?;
        let root_uuid = root_uuid.map(|uuid| uuid.to_string()).unwrap_or_default();
        Ok(WriteReport { root_uuid, ..report })
    };
    let outcome = written.await;
    if outcome.is_err()
        && let Err(error) = wipe().await
    {
        tracing::error!(disk = target.device(), error = chain(&error), "tables may be left");
    }
    outcome
}

async fn unless_stopped<T>(
    stop: &CancellationToken,
    work: impl Future<Output = Result<T, TaskError>>,
) -> Result<T, TaskError> {
    stop.run_until_cancelled(work).await.unwrap_or(Err(TaskError::Cancelled))
}

#[cfg(test)]
mod tests;
