//! Steps that a plug-in of the agent does.

use std::time::SystemTime;

use bessemer_domain::Timestamp;
use bessemer_domain::effects::begun;
use bessemer_domain::node::{
    JsonMap, Node, NotOffered, Plan, RequestedStep, STEP_ARGS_BYTES_MAX, StepResult, StepStatus,
    check_offered,
};
use bessemer_proto::v1::start_task::Task;
use bessemer_proto::v1::task_succeeded::Result as TaskResult;
use bessemer_proto::v1::{PluginTask, StartTask};
use bessemer_secrets::opened_step;
use serde_json::{Value, json};

use super::agent_task::{follow, unexpected};
use super::{Failure, Job, boot_agent, node_of};
use crate::Context;
use crate::sessions::Session;

/// Whether the agent can do the plan's steps as they are asked for.
pub(super) fn check_offered_by(
    context: &Context,
    session: &Session,
    node: &Node,
) -> Result<(), Failure> {
    let requested = node.plan.iter().flat_map(Plan::plugin_steps);
    let opened = requested.map(|step| opened(context, node, step));
    let requested = opened.collect::<Result<Vec<_>, _>>()?;
    check_offered(&requested, &session.steps).map_err(|NotOffered { reason, mut message }| {
        for fault in &*session.plugin_faults {
            message += &format!("; not to be used: {fault}");
        }
        Failure::new(reason, message)
    })
}

/// Has the agent do the step, whatever becomes of sessions meanwhile. It does so once: what came of it is kept on the
/// machine, and a machine that was booted in between is told so.
pub(super) async fn run(
    context: &Context,
    job: &Job,
    step: &RequestedStep,
) -> Result<StepResult, Failure> {
    loop {
        let session = boot_agent::connected(context, job, context.limits.silence()).await?;
        let node = node_of(context, job)?;
        check_offered_by(context, &session, &node)?;
        let start = StartTask {
            task_id: job.task_id(),
            epoch: job.epoch,
            resume: began_before_boot(&node),
            task: Some(Task::Plugin(task(&node, &opened(context, &node, step)?))),
        };
        context.entitled(job.node, job.epoch).await;
        if let Some(updates) = session.start(start).await
            && let Some(end) = follow(context, job, updates).await
        {
            return result(job, end?.as_ref());
        }
        job.note_trouble("the agent's session ended; waiting for it to come back".to_owned());
    }
}

/// The step with its secrets, which travel to the agent and are kept nowhere.
fn opened(context: &Context, node: &Node, step: &RequestedStep) -> Result<RequestedStep, Failure> {
    opened_step(context.keys.as_ref(), node.id, step)
        .map_err(|error| Failure::new("SECRET_NOT_OPENED", error.to_string()))
}

/// Whether the step was begun before the agent's machine was booted. Of a step that was begun since, the agent knows
/// itself what came of it.
fn began_before_boot(node: &Node) -> bool {
    let Some((.., planned)) = node.current_step() else { return true };
    match (&planned.status, &node.agent) {
        (StepStatus::Running { started_at, .. }, Some(agent)) => agent.at > *started_at,
        _ => true,
    }
}

fn task(node: &Node, step: &RequestedStep) -> PluginTask {
    let left = begun(node, Timestamp::from(SystemTime::now())).map(|begun| begun.left);
    let root_device = node.deployment.iter().flat_map(|it| it.spec.root_device.clone());
    PluginTask {
        step: step.step.clone(),
        input: input(node, step).to_string(),
        limit: left.and_then(|left| left.try_into().ok()),
        root_device: root_device.collect(),
    }
}

/// What the plug-in is told, but for what only the machine knows.
fn input(node: &Node, step: &RequestedStep) -> Value {
    let deployment = node.deployment.as_ref().map(|deployment| {
        json!({
            "id": deployment.id,
            "deploy_interface": deployment.spec.deploy_interface,
            "image": deployment.spec.image,
            "root_device_hints": deployment.spec.root_device,
        })
    });
    json!({
        "step": step.step,
        "args": step.args,
        "node": {
            "id": node.id,
            "name": node.name,
            "properties": node.spec.properties,
            "extra": node.spec.extra,
        },
        "deployment": deployment,
    })
}

fn result(job: &Job, result: Option<&TaskResult>) -> Result<StepResult, Failure> {
    let Some(TaskResult::Plugin(report)) = result else { return Err(unexpected(job, result)) };
    let object: Option<JsonMap> = Some(&report.result)
        .filter(|json| json.len() <= STEP_ARGS_BYTES_MAX)
        .and_then(|json| serde_json::from_str(json).ok());
    let wrong = || {
        let message = format!("the agent's result of {} is no JSON object that fits", job.step);
        Failure::new("AGENT_PROTOCOL", message)
    };
    object.map(StepResult::Plugin).ok_or_else(wrong)
}
