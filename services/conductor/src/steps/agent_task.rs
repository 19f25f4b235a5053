//! Steps that the agent does: dispatch, attach, follow, and outlive lost sessions.

use bessemer_domain::node::{ErasedDevice, StepResult};
use bessemer_proto::v1::start_task::Task;
use bessemer_proto::v1::task_succeeded::Result as TaskResult;
use bessemer_proto::v1::task_update::Update;
use bessemer_proto::v1::{
    EraseDevicesMetadataTask, EraseDevicesTask, StartTask, SyncTask, TaskFailed, TaskUpdate,
};
use tokio::sync::watch;

use super::{Failure, Job, boot_agent};
use crate::Context;

/// Has the agent do a task to its end, whatever becomes of sessions meanwhile. An agent that is gone for good is
/// replaced by booting the machine anew; the new one resumes what is on the disk.
pub(super) async fn perform(
    context: &Context,
    job: &Job,
    resume: bool,
    task: Task,
) -> Result<Option<TaskResult>, Failure> {
    let (_unchanged, task) = watch::channel(task);
    perform_newest(context, job, resume, task).await
}

/// [`perform`] for a task that may change in where things are, not in what is to be done: the agent is told at once.
pub(super) async fn perform_newest(
    context: &Context,
    job: &Job,
    mut resume: bool,
    mut task: watch::Receiver<Task>,
) -> Result<Option<TaskResult>, Failure> {
    loop {
        let session = boot_agent::connected(context, job, context.limits.silence()).await?;
        loop {
            let start = StartTask {
                task_id: job.task_id(),
                epoch: job.epoch,
                resume,
                task: Some(task.borrow_and_update().clone()),
            };
            // Whoever answers next may find work half done.
            resume = true;
            context.entitled(job.node, job.epoch).await;
            let Some(updates) = session.start(start).await else { break };
            tokio::select! {
                end = follow(context, job, updates) => match end {
                    Some(end) => return end,
                    None => break,
                },
                Ok(()) = task.changed() => {}
            }
        }
        job.note_trouble("the agent's session ended; waiting for it to come back".to_owned());
    }
}

/// Follows a task to its end; none when the session ends first.
pub(super) async fn follow(
    context: &Context,
    job: &Job,
    mut updates: watch::Receiver<Option<TaskUpdate>>,
) -> Option<Result<Option<TaskResult>, Failure>> {
    let task_id = job.task_id();
    loop {
        let update = updates.borrow_and_update().clone();
        match update.filter(|update| update.task_id == task_id).and_then(|update| update.update) {
            Some(Update::Progress(progress)) => context.progress.note(job.node, progress),
            Some(Update::Succeeded(success)) => return Some(Ok(success.result)),
            Some(Update::Failed(TaskFailed { reason, message })) => {
                return Some(Err(Failure { reason, message }));
            }
            None => {}
        }
        updates.changed().await.ok()?;
    }
}

pub(super) async fn erase_metadata(
    context: &Context,
    job: &Job,
    resume: bool,
) -> Result<StepResult, Failure> {
    let task = Task::EraseDevicesMetadata(EraseDevicesMetadataTask {});
    match perform(context, job, resume, task).await? {
        Some(TaskResult::Erase(report)) => Ok(StepResult::Erased(report.devices)),
        other => Err(unexpected(job, other.as_ref())),
    }
}

pub(super) async fn erase(
    context: &Context,
    job: &Job,
    resume: bool,
) -> Result<StepResult, Failure> {
    let task = Task::EraseDevices(EraseDevicesTask {});
    match perform(context, job, resume, task).await? {
        Some(TaskResult::Erase(report)) => {
            let erased = report.erased.into_iter().map(|it| ErasedDevice {
                device: it.device,
                serial: it.serial,
                method: it.method,
                erased_bytes: it.erased_bytes,
                verified_bytes: it.verified_bytes,
            });
            Ok(StepResult::ErasedDevices(erased.collect()))
        }
        other => Err(unexpected(job, other.as_ref())),
    }
}

/// Has the disks flushed before the power goes. Once the machine is off there is nothing left to flush: a predecessor
/// got that far.
pub(super) async fn sync(context: &Context, job: &Job, resume: bool) -> Result<(), Failure> {
    let bmc = super::hardware::bmc(context, job)?;
    if resume && !job.persist(async || bmc.is_on().await).await? {
        return Ok(());
    }
    perform(context, job, resume, Task::Sync(SyncTask {})).await.map(drop)
}

/// An agent that answers with something else than what was asked.
pub(super) fn unexpected(job: &Job, result: Option<&TaskResult>) -> Failure {
    Failure::new("AGENT_PROTOCOL", format!("the agent answered {} with {result:?}", job.step))
}
