//! Steps around the image: having it prepared, written, and a config drive put beside it.

use std::convert::Infallible;
use std::time::Duration;

use bessemer_configdrive::ConfigDrive as Volume;
use bessemer_domain::ids::CommandId;
use bessemer_domain::node::{
    ConfigDrive, Deployment, DeploymentSpec, ImageChecksum, ImageDownloadSource, ImageSpec, Node,
    StepResult,
};
use bessemer_proto::v1::start_task::Task;
use bessemer_proto::v1::task_succeeded::Result as TaskResult;
use bessemer_proto::v1::write_image_task::Source;
use bessemer_proto::v1::{
    PackSource, PrepareProgress, Progress, RawSource, WriteConfigDriveTask, WriteImageTask,
};
use bessemer_wire::deployment::{
    image_spec_to_proto, partitions_to_proto, resolved_image_from_proto, write_report_from_proto,
};

use tokio::sync::watch;

use super::{Failure, Job, Trouble, agent_task, node_of};
use crate::Context;
use crate::images::PrepareError;

/// How long an agent may write nothing and receive nothing before the caches are asked again where the image is. A slow
/// disk may take seconds for a flush.
const STALL: Duration = Duration::from_secs(5);

impl From<PrepareError> for Trouble {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::Refused { reason, message } => Self::Final(Failure { reason, message }),
            PrepareError::Unreachable { .. } => Self::Passing(error.to_string()),
        }
    }
}

pub(super) async fn prepare(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    let deployment = deployment_of(context, job)?;
    let request = image_spec_to_proto(image_of(&deployment.spec)?);
    let note = |progress: PrepareProgress| {
        let progress = Progress {
            step: job.step.to_string(),
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
            bytes_per_second: progress.bytes_per_second,
            ..Progress::default()
        };
        context.progress.note(job.node, progress);
    };
    let image = job.persist(async || context.images.prepare(&request, note).await).await?;
    Ok(StepResult::Image(resolved_image_from_proto(image.resolved.unwrap_or_default())))
}

pub(super) async fn write(
    context: &Context,
    job: &Job,
    resume: bool,
) -> Result<StepResult, Failure> {
    let deployment = deployment_of(context, job)?;
    let source = match deployment.spec.image_download_source {
        ImageDownloadSource::Local => {
            Source::Pack(job.persist(async || pack_source(context, job, &deployment).await).await?)
        }
        ImageDownloadSource::Http => Source::Raw(raw_source(&deployment.spec)?),
    };
    let task = WriteImageTask {
        source: Some(source),
        root_device: deployment.spec.root_device.clone().into_iter().collect(),
        partitions: deployment.spec.partitions.as_ref().map(partitions_to_proto),
    };
    let (newest, task) = watch::channel(Task::WriteImage(task));
    let written = tokio::select! {
        written = agent_task::perform_newest(context, job, resume, task) => written?,
        never = keep_supplied(context, job, &deployment, &newest) => match never {},
    };
    match written {
        Some(TaskResult::WriteImage(report)) => {
            Ok(StepResult::Written(write_report_from_proto(report)))
        }
        other => Err(agent_task::unexpected(job, other.as_ref())),
    }
}

/// Tells an agent that gets nowhere where the image is now: the cache that it was sent to may be gone for good.
async fn keep_supplied(
    context: &Context,
    job: &Job,
    deployment: &Deployment,
    task: &watch::Sender<Task>,
) -> Infallible {
    if deployment.spec.image_download_source == ImageDownloadSource::Http {
        return std::future::pending().await;
    }
    let mut before = None;
    loop {
        tokio::time::sleep(STALL).await;
        let now = context.progress.bytes(job.node);
        if now.is_none() || std::mem::replace(&mut before, now) != now {
            continue;
        }
        match pack_source(context, job, deployment).await {
            Ok(found) => {
                task.send_if_modified(|task| has_moved(task, found));
            }
            // The agent says when it gives up.
            Err(Trouble::Passing(message) | Trouble::Final(Failure { message, .. })) => {
                job.note_trouble(message);
            }
        }
    }
}

/// Notes in a task where its pack is; whether that is somewhere else than before.
fn has_moved(task: &mut Task, found: PackSource) -> bool {
    match task {
        Task::WriteImage(WriteImageTask { source: Some(Source::Pack(known)), .. })
            if *known != found =>
        {
            *known = found;
            true
        }
        _ => false,
    }
}

/// Where the pack is now. Asking again is cheap, and makes it anew if no cache has it any more.
async fn pack_source(
    context: &Context,
    job: &Job,
    deployment: &Deployment,
) -> Result<PackSource, Trouble> {
    let Some(expected) = &deployment.image else {
        let message = "the plan has no prepared image to write";
        return Err(Trouble::Final(Failure::new("IMAGE_NOT_PREPARED", message)));
    };
    let request = image_spec_to_proto(image_of(&deployment.spec)?);
    let image = context.images.prepare(&request, |_| {}).await?;
    let mut urls = context.images.urls_for(deployment.id, &image);
    let found = image.resolved.unwrap_or_default();
    if found.id != expected.id {
        return Err(Trouble::Final(Failure::new(
            "IMAGE_CHANGED",
            format!(
                "{} was prepared as {} when the deployment began and is {} now; deploy again to take the new one",
                image_of(&deployment.spec)?.source,
                expected.id,
                found.id
            ),
        )));
    }
    let manifest_digest = hex::decode(&found.id).map_err(|_| {
        let message = format!("image id `{}` is not hexadecimal", found.id);
        Trouble::Final(Failure::new("IMAGE_CACHE_PROTOCOL", message))
    })?;
    // Each cache is the first for its share of the nodes.
    let share = job.node.as_uuid().as_u128() % urls.len().max(1) as u128;
    urls.rotate_left(share as usize);
    Ok(PackSource { urls, manifest_digest, raw_size_bytes: found.raw_size_bytes })
}

fn raw_source(spec: &DeploymentSpec) -> Result<RawSource, Failure> {
    let image = image_of(spec)?;
    let Some(ImageChecksum::Digest { algorithm, value }) = &image.checksum else {
        return Err(Failure::new("IMAGE_CHECKSUM_MISSING", "image.checksum is not a digest"));
    };
    Ok(RawSource {
        url: image.source.clone(),
        hash_algo: algorithm.to_string(),
        hash_value: value.clone(),
        disk_format: image.disk_format.map_or_else(String::new, |it| it.as_str().to_owned()),
    })
}

pub(super) fn image_of(spec: &DeploymentSpec) -> Result<&ImageSpec, Failure> {
    let missing = || Failure::new("IMAGE_MISSING", "the deployment names no image");
    spec.image.as_ref().ok_or_else(missing)
}

pub(super) async fn write_config_drive(
    context: &Context,
    job: &Job,
    resume: bool,
) -> Result<StepResult, Failure> {
    let node = node_of(context, job)?;
    let deployment = deployment_of(context, job)?;
    let Some(iso) = config_drive_iso(&node) else { return Ok(StepResult::Done) };
    let iso = iso.map_err(|message| Failure::new("CONFIG_DRIVE", message))?;
    let task = WriteConfigDriveTask {
        iso,
        root_device: deployment.spec.root_device.into_iter().collect(),
    };
    match agent_task::perform(context, job, resume, Task::WriteConfigDrive(task)).await? {
        Some(TaskResult::ConfigDrive(_)) => Ok(StepResult::Done),
        other => Err(agent_task::unexpected(job, other.as_ref())),
    }
}

/// The config drive of the node's deployment, if it has one: the same bytes each time.
pub(crate) fn config_drive_iso(node: &Node) -> Option<Result<Vec<u8>, String>> {
    let deployment = node.deployment.as_ref()?;
    let volume = volume_of(node, deployment.id, deployment.spec.config_drive.as_ref()?);
    Some(volume.and_then(|volume| volume.build().map_err(|error| error.to_string())))
}

/// What goes on the drive: the request's own words, and the identity that cloud-init needs where it gave none.
fn volume_of(node: &Node, deployment: CommandId, drive: &ConfigDrive) -> Result<Volume, String> {
    use base64::Engine;
    let mut meta_data = drive.meta_data.clone();
    let defaults =
        [("uuid", deployment.to_string()), ("name", node.label()), ("hostname", node.label())];
    for (key, value) in defaults {
        meta_data.entry(key).or_insert_with(|| value.into());
    }
    let user_data = drive
        .user_data
        .as_deref()
        .map(|text| base64::engine::general_purpose::STANDARD.decode(text))
        .transpose()
        .map_err(|error| format!("config_drive.user_data is not base64: {error}"))?;
    Ok(Volume {
        meta_data,
        network_data: drive.network_data.clone(),
        user_data: user_data.unwrap_or_default(),
        vendor_data: drive.vendor_data.clone(),
    })
}

pub(super) fn deployment_of(context: &Context, job: &Job) -> Result<Deployment, Failure> {
    node_of(context, job)?.deployment.ok_or_else(|| {
        Failure::new("DEPLOYMENT_MISSING", format!("node {} holds no deployment", job.node))
    })
}
