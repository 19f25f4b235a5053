//! Tasks: what a conductor has the agent do to the machine. A running task is on its own; nothing
//! but its stop token and the end of the agent ends it early.

mod error;
mod meter;

use std::sync::Arc;
use std::time::Instant;

use bessemer_domain::task::{Ending, Start};
use bessemer_proto::v1::start_task::Task;
use bessemer_proto::v1::task_succeeded::Result as TaskResult;
use bessemer_proto::v1::task_update::Update;
use bessemer_proto::v1::write_image_task::Source;
use bessemer_proto::v1::{
    Progress, RescueReport, SyncReport, TaskFailed, TaskSucceeded, WriteImageTask,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::disk::OpenDisk;
use crate::machine::Machine;
use crate::{bootc, config_drive, erase, image, overwrite, plugin, rescue};
pub(crate) use error::{TaskError, chain};
pub(crate) use meter::Meter;
use meter::Reporter;

/// A task that was begun. Dropped, it stops.
#[derive(Debug)]
pub(crate) struct RunningTask {
    task_id: String,
    step: String,
    meter: Arc<Meter>,
    reporter: Reporter,
    stop: CancellationToken,
    /// Where the image is, as far as is known now.
    urls: watch::Sender<Vec<String>>,
    work: JoinHandle<Result<TaskResult, TaskError>>,
    _stop_on_drop: DropGuard,
}

/// Begins a task.
pub(crate) fn begin(machine: Arc<Machine>, start: Start<Option<Task>>) -> RunningTask {
    let meter = Arc::new(Meter::default());
    let stop = CancellationToken::new();
    let urls = watch::Sender::new(pack_urls(start.task.as_ref()).to_vec());
    tracing::info!(
        task.id = start.task_id,
        step = step_of(start.task.as_ref()),
        start.epoch,
        start.resume,
        "task began"
    );
    RunningTask {
        step: step_of(start.task.as_ref()),
        meter: Arc::clone(&meter),
        reporter: Reporter::default(),
        stop: stop.clone(),
        _stop_on_drop: stop.clone().drop_guard(),
        task_id: start.task_id.clone(),
        work: tokio::spawn(perform(machine, start, urls.subscribe(), meter, stop)),
        urls,
    }
}

impl RunningTask {
    pub(crate) fn task_id(&self) -> &str {
        &self.task_id
    }

    /// How far it is now.
    pub(crate) fn progress(&mut self) -> Progress {
        self.reporter.report(&self.meter, &self.step, Instant::now())
    }

    /// Takes from the task, put once more, where its image is now.
    pub(crate) fn tell(&self, task: Option<&Task>) {
        let urls = pack_urls(task);
        self.urls.send_if_modified(|known| {
            let is_new = !urls.is_empty() && *known != urls;
            if is_new {
                tracing::info!(task.id = self.task_id, ?urls, "told where the image is");
                *known = urls.to_vec();
            }
            is_new
        });
    }

    /// Has it stop as soon as it can; it ends as cancelled, unless it is done before.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for its end. May be called again after being dropped half way.
    pub(crate) async fn ended(&mut self) -> Ending<Update> {
        let outcome = (&mut self.work)
            .await
            .unwrap_or_else(|abnormal| Err(TaskError::Internal { message: abnormal.to_string() }));
        match outcome {
            Ok(result) => {
                tracing::info!(task.id = self.task_id, "task succeeded");
                Ending::Final(Update::Succeeded(TaskSucceeded { result: Some(result) }))
            }
            Err(error) => {
                let (reason, message) = (error.reason().to_owned(), chain(&error));
                tracing::warn!(task.id = self.task_id, reason, message, "task failed");
                let update = Update::Failed(TaskFailed { reason, message });
                match error {
                    TaskError::Cancelled => Ending::Cancelled(update),
                    _ => Ending::Final(update),
                }
            }
        }
    }
}

/// The step that a task belongs to, as people know it.
fn step_of(task: Option<&Task>) -> String {
    let name = match task {
        Some(Task::WriteImage(_)) => "deploy.write_image",
        Some(Task::EraseDevicesMetadata(_)) => "deploy.erase_devices_metadata",
        Some(Task::EraseDevices(_)) => "deploy.erase_devices",
        Some(Task::WriteConfigDrive(_)) => "deploy.write_configdrive",
        Some(Task::Sync(_)) => "deploy.tear_down_agent",
        Some(Task::Rescue(_)) => "rescue.rescue",
        Some(Task::BootcInstall(_)) => "deploy.execute_bootc_install",
        Some(Task::Plugin(task)) => return format!("deploy.{}", task.step),
        None => "unknown",
    };
    name.to_owned()
}

/// Where a task's pack is; nowhere when it has none.
fn pack_urls(task: Option<&Task>) -> &[String] {
    match task {
        Some(Task::WriteImage(WriteImageTask { source: Some(Source::Pack(pack)), .. })) => {
            &pack.urls
        }
        _ => &[],
    }
}

async fn perform(
    machine: Arc<Machine>,
    start: Start<Option<Task>>,
    urls: watch::Receiver<Vec<String>>,
    meter: Arc<Meter>,
    stop: CancellationToken,
) -> Result<TaskResult, TaskError> {
    let Start { task_id, resume, task, .. } = start;
    match task {
        Some(Task::WriteImage(task)) => {
            let write = image::write(&machine, task, resume, urls, &meter, &stop);
            Box::pin(write).await.map(TaskResult::WriteImage)
        }
        Some(Task::EraseDevicesMetadata(_)) => {
            blocking(move || erase::erase_devices_metadata(&machine, &meter, &stop))
                .await
                .map(TaskResult::Erase)
        }
        Some(Task::EraseDevices(_)) => {
            blocking(move || overwrite::erase_devices(&machine, &meter, &stop))
                .await
                .map(TaskResult::Erase)
        }
        Some(Task::WriteConfigDrive(task)) => {
            blocking(move || config_drive::write(&machine, &task))
                .await
                .map(TaskResult::ConfigDrive)
        }
        Some(Task::Sync(_)) => {
            blocking(move || flush_disks(&machine)).await.map(|()| TaskResult::Sync(SyncReport {}))
        }
        Some(Task::Rescue(task)) => rescue::admit(&machine, &task, &stop)
            .await
            .map(|()| TaskResult::Rescue(RescueReport {})),
        Some(Task::BootcInstall(task)) => bootc::install(&machine, &task_id, &task, &meter, &stop)
            .await
            .map(TaskResult::BootcInstall),
        Some(Task::Plugin(task)) => plugin::run(&machine, &task_id, &task, resume, &meter, &stop)
            .await
            .map(TaskResult::Plugin),
        None => Err(TaskError::invalid("task", "", "is of a kind that this agent does not know")),
    }
}

/// Does what waits for disks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TaskError> + Send + 'static,
) -> Result<T, TaskError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|abnormal| Err(TaskError::Internal { message: abnormal.to_string() }))
}

fn flush_disks(machine: &Machine) -> Result<(), TaskError> {
    for disk in machine.disks() {
        OpenDisk::open(&disk.path)?.flush()?;
    }
    Ok(())
}
