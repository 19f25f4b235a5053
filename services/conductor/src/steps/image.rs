//! Steps around the image: having it prepared, written, and a config drive put beside it.

use bessemer_configdrive::ConfigDrive as Volume;
use bessemer_domain::ids::CommandId;
use bessemer_domain::node::{
    ConfigDrive, Deployment, DeploymentSpec, ImageChecksum, ImageDownloadSource, Node, StepResult,
};
use bessemer_proto::v1::start_task::Task;
use bessemer_proto::v1::task_succeeded::Result as TaskResult;
use bessemer_proto::v1::write_image_task::Source;
use bessemer_proto::v1::{
    Image, PackSource, Progress, RawSource, WriteConfigDriveTask, WriteImageTask,
};
use bessemer_wire::deployment::partitions_to_proto;

use super::{Failure, Job, Trouble, agent_task, node_of};
use crate::Context;
use crate::images::PrepareError;

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
    let image = prepared(context, job, &deployment.spec).await?;
    Ok(StepResult::Image(bessemer_wire::deployment::resolved_image_from_proto(
        image.resolved.unwrap_or_default(),
    )))
}

/// Has the cache prepare the image, or find it prepared.
async fn prepared(context: &Context, job: &Job, spec: &DeploymentSpec) -> Result<Image, Failure> {
    let request = bessemer_wire::deployment::image_spec_to_proto(&spec.image);
    job.persist(async || {
        context
            .images
            .prepare(&request, |progress| {
                let progress = Progress {
                    step: job.step.to_string(),
                    done_bytes: progress.done_bytes,
                    total_bytes: progress.total_bytes,
                    bytes_per_second: progress.bytes_per_second,
                    ..Progress::default()
                };
                context.progress.note(job.node, progress);
            })
            .await
    })
    .await
}

pub(super) async fn write(
    context: &Context,
    job: &Job,
    resume: bool,
) -> Result<StepResult, Failure> {
    let deployment = deployment_of(context, job)?;
    let source = match deployment.spec.image_download_source {
        ImageDownloadSource::Local => pack_source(context, job, &deployment).await?,
        ImageDownloadSource::Http => raw_source(&deployment.spec)?,
    };
    let task = WriteImageTask {
        source: Some(source),
        root_device: deployment.spec.root_device.into_iter().collect(),
        partitions: deployment.spec.partitions.as_ref().map(partitions_to_proto),
    };
    match agent_task::perform(context, job, resume, Task::WriteImage(task)).await? {
        Some(TaskResult::WriteImage(report)) => {
            Ok(StepResult::Written(bessemer_wire::deployment::write_report_from_proto(report)))
        }
        other => Err(agent_task::unexpected(job, other.as_ref())),
    }
}

/// Where the pack is now. Asking again is cheap, and makes it anew if the cache has dropped it since.
async fn pack_source(
    context: &Context,
    job: &Job,
    deployment: &Deployment,
) -> Result<Source, Failure> {
    let Some(expected) = &deployment.image else {
        return Err(Failure::new("IMAGE_NOT_PREPARED", "the plan has no prepared image to write"));
    };
    let image = prepared(context, job, &deployment.spec).await?;
    let found = image.resolved.unwrap_or_default();
    if found.id != expected.id {
        return Err(Failure::new(
            "IMAGE_CHANGED",
            format!(
                "{} was prepared as {} when the deployment began and is {} now; deploy again to take the new one",
                deployment.spec.image.source, expected.id, found.id
            ),
        ));
    }
    let manifest_digest = hex::decode(&found.id).map_err(|_| {
        Failure::new("IMAGE_CACHE_PROTOCOL", format!("image id `{}` is not hexadecimal", found.id))
    })?;
    Ok(Source::Pack(PackSource {
        urls: image.urls,
        manifest_digest,
        raw_size_bytes: found.raw_size_bytes,
    }))
}

fn raw_source(spec: &DeploymentSpec) -> Result<Source, Failure> {
    let Some(ImageChecksum::Digest { algorithm, value }) = &spec.image.checksum else {
        return Err(Failure::new("IMAGE_CHECKSUM_MISSING", "image.checksum is not a digest"));
    };
    Ok(Source::Raw(RawSource {
        url: spec.image.source.clone(),
        hash_algo: algorithm.to_string(),
        hash_value: value.clone(),
    }))
}

pub(super) async fn write_config_drive(
    context: &Context,
    job: &Job,
    resume: bool,
) -> Result<StepResult, Failure> {
    let node = node_of(context, job)?;
    let deployment = deployment_of(context, job)?;
    let Some(drive) = &deployment.spec.config_drive else { return Ok(StepResult::Done) };
    let iso = volume_of(&node, deployment.id, drive)
        .and_then(|volume| volume.build().map_err(|error| error.to_string()))
        .map_err(|message| Failure::new("CONFIG_DRIVE", message))?;
    let task = WriteConfigDriveTask {
        iso,
        root_device: deployment.spec.root_device.into_iter().collect(),
    };
    match agent_task::perform(context, job, resume, Task::WriteConfigDrive(task)).await? {
        Some(TaskResult::ConfigDrive(_)) => Ok(StepResult::Done),
        other => Err(agent_task::unexpected(job, other.as_ref())),
    }
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

fn deployment_of(context: &Context, job: &Job) -> Result<Deployment, Failure> {
    node_of(context, job)?.deployment.ok_or_else(|| {
        Failure::new("DEPLOYMENT_MISSING", format!("node {} holds no deployment", job.node))
    })
}
