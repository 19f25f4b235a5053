//! Rescue: the agent lets a person log in to the ramdisk.

use bessemer_domain::node::StepResult;
use bessemer_proto::v1::RescueTask;
use bessemer_proto::v1::start_task::Task;
use bessemer_proto::v1::task_succeeded::Result as TaskResult;

use super::{Failure, Job, agent_task, node_of};
use crate::Context;

/// Has the agent take the password's hash. Asked again it does the same once more.
pub(super) async fn run(context: &Context, job: &Job, resume: bool) -> Result<StepResult, Failure> {
    let password_hash = node_of(context, job)?.rescue_password_hash.ok_or_else(|| {
        Failure::new("RESCUE_PASSWORD_MISSING", format!("node {} has no rescue password", job.node))
    })?;
    let task = Task::Rescue(RescueTask { password_hash });
    match agent_task::perform(context, job, resume, task).await? {
        Some(TaskResult::Rescue(_)) => Ok(StepResult::Done),
        other => Err(agent_task::unexpected(job, other.as_ref())),
    }
}
