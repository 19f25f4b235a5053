//! Ironic's universal steps: power, holds and waits in the middle of a plan.

use std::time::{Duration, SystemTime};

use bessemer_domain::Timestamp;
use bessemer_domain::node::{Node, PowerState, RequestedStep, StepResult, StepStatus};

use super::hardware::bmc;
use super::{Failure, Job, boot_agent, hardware, node_of};
use crate::Context;

/// Switches the machine on: into the agent while one is to run, else into what its boot device says.
pub(super) async fn power_on(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    if node_of(context, job)?.expects_agent() {
        boot_agent::connected(context, job, context.limits.silence()).await?;
        return Ok(StepResult::Power(PowerState::On));
    }
    let bmc = bmc(context, job)?;
    job.persist(async || bmc.power_on().await).await?;
    Ok(StepResult::Power(PowerState::On))
}

/// Switches the machine off and on.
pub(super) async fn reboot(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    hardware::power_off(context, job).await?;
    if node_of(context, job)?.expects_agent() {
        // Off as it is, its agent cannot return by itself.
        boot_agent::connected(context, job, Duration::ZERO).await?;
        return Ok(StepResult::Power(PowerState::On));
    }
    power_on(context, job).await
}

/// Waits for `unhold`, which ends the step for every conductor; the step's deadline ends it too.
pub(super) async fn hold() -> Result<StepResult, Failure> {
    std::future::pending().await
}

/// Lets the time pass that was asked for, counted from when the step was first begun; or waits for the agent.
pub(super) async fn wait(
    context: &Context,
    job: &Job,
    step: &RequestedStep,
) -> Result<StepResult, Failure> {
    match step.wait_seconds() {
        Some(seconds) => {
            let until = began_at(&node_of(context, job)?) + Duration::from_secs(seconds);
            tokio::time::sleep(until.since(Timestamp::from(SystemTime::now()))).await;
        }
        None => drop(boot_agent::connected(context, job, context.limits.silence()).await?),
    }
    Ok(StepResult::Done)
}

fn began_at(node: &Node) -> Timestamp {
    match node.current_step().map(|(.., planned)| &planned.status) {
        Some(StepStatus::Running { started_at, .. }) => *started_at,
        _ => Timestamp::from(SystemTime::now()),
    }
}
