//! Deploy interface `bootc`: which container is meant is looked up once, and the agent runs that one.

use bessemer_domain::node::{Deployment, Node, StepResult};
use bessemer_proto::v1::start_task::Task;
use bessemer_proto::v1::task_succeeded::Result as TaskResult;
use bessemer_proto::v1::{BootcInstallTask, PinContainerRequest};
use bessemer_secrets::{NotOpened, opened, opened_instance_info};
use bessemer_wire::container::{
    options_to_proto, pinned_from_proto, pinned_to_proto, report_from_proto,
};

use super::image::{deployment_of, image_of};
use super::{Failure, Job, agent_task, node_of};
use crate::Context;

/// The key of `instance_info` or `driver_info` with who the machine is to the registry, as in Ironic.
const PULL_SECRET: &str = "image_pull_secret";

/// Looks up which container the deployment's tag means. A conductor that takes over before that was recorded looks anew.
pub(super) async fn pin(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    let deployment = deployment_of(context, job)?;
    let request = PinContainerRequest {
        source: image_of(&deployment.spec)?.source.clone(),
        pull_secret: pull_secret(context, &node_of(context, job)?)?,
    };
    let container = job.persist(async || context.images.pin_container(&request).await).await?;
    Ok(StepResult::Pinned(pinned_from_proto(container)))
}

/// Has the agent run it.
pub(super) async fn install(
    context: &Context,
    job: &Job,
    resume: bool,
) -> Result<StepResult, Failure> {
    let deployment = deployment_of(context, job)?;
    let Deployment { spec, container, .. } = deployment;
    let container = container.ok_or_else(|| {
        Failure::new("CONTAINER_NOT_PINNED", "the plan has not looked up which container is meant")
    })?;
    let task = BootcInstallTask {
        container: Some(pinned_to_proto(&container)),
        pull_secret: pull_secret(context, &node_of(context, job)?)?,
        options: spec.bootc.as_ref().map(options_to_proto),
        root_device: spec.root_device.into_iter().collect(),
    };
    match agent_task::perform(context, job, resume, Task::BootcInstall(task)).await? {
        Some(TaskResult::BootcInstall(report)) => {
            Ok(StepResult::Installed(report_from_proto(report)))
        }
        other => Err(agent_task::unexpected(job, other.as_ref())),
    }
}

/// That of the instance, else that of the machine; empty when there is none.
fn pull_secret(context: &Context, node: &Node) -> Result<String, Failure> {
    let not_opened = |error: NotOpened| Failure::new("SECRET_NOT_OPENED", error.to_string());
    let keys = context.keys.as_ref();
    let of_instance =
        opened_instance_info(keys, node.id, &node.spec.instance_info).map_err(not_opened)?;
    let of_machine = opened(keys, node.id, &node.spec.driver_info).map_err(not_opened)?;
    let found = [of_instance, of_machine]
        .iter()
        .find_map(|it| it.get(PULL_SECRET)?.as_str().map(str::to_owned));
    Ok(found.unwrap_or_default())
}
