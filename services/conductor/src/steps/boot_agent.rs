//! Getting an agent to run on the machine and call back.

use std::time::Duration;

use bessemer_domain::command::CommandBody;
use bessemer_domain::node::{BootInterface, StepResult};
use bessemer_hardware::{BootDevice, NetworkProtocol};
use tokio::time::timeout;

use super::hardware::bmc;
use super::{Failure, Job, node_of, plugin};
use crate::Context;
use crate::sessions::Session;

/// How long an agent that a predecessor may have booted has to come back: it looks up again within seconds.
const RETURN_LIMIT: Duration = Duration::from_secs(15);

/// Boots the agent, unless one is there or, after a take-over, returns by itself. One that lacks a step of the plan ends
/// it here, before anything is written.
pub(super) async fn run(context: &Context, job: &Job, resume: bool) -> Result<StepResult, Failure> {
    let patience = if resume { RETURN_LIMIT } else { Duration::ZERO };
    let session = connected(context, job, patience).await?;
    plugin::check_offered_by(context, &session, &node_of(context, job)?)?;
    Ok(StepResult::Agent(session.inventory))
}

/// The node's session. A machine whose agent does not show up within `patience` is booted into a new one, again and
/// again until the step's deadline.
pub(super) async fn connected(
    context: &Context,
    job: &Job,
    patience: Duration,
) -> Result<Session, Failure> {
    if let Ok(session) = timeout(patience, context.sessions.connected(job.node)).await {
        return Ok(session);
    }
    loop {
        boot(context, job).await?;
        let limit = context.limits.boot();
        if let Ok(session) = timeout(limit, context.sessions.connected(job.node)).await {
            return Ok(session);
        }
        job.note_trouble(format!(
            "no agent called back within {} s of power on; power-cycling the machine",
            limit.as_secs()
        ));
    }
}

/// Starts the machine afresh from the ramdisk. Whatever ran on it is no longer trusted.
async fn boot(context: &Context, job: &Job) -> Result<(), Failure> {
    let bmc = bmc(context, job)?;
    context.sessions.end(job.node);
    let reset = CommandBody::ResetAgent { node: job.node, epoch: job.epoch };
    context
        .propose(reset)
        .await
        .map_err(|rejection| Failure::new("CLAIM_LOST", rejection.to_string()))?;
    let device = match node_of(context, job)?.spec.boot_interface() {
        BootInterface::Fake | BootInterface::RedfishVirtualMedia => BootDevice::Ramdisk,
        BootInterface::Ipxe => {
            BootDevice::Network { protocol: NetworkProtocol::Pxe, lasting: false }
        }
        BootInterface::Http => {
            BootDevice::Network { protocol: NetworkProtocol::UefiHttp, lasting: false }
        }
    };
    job.persist(async || bmc.power_off().await).await?;
    job.persist(async || bmc.set_boot_device(device).await).await?;
    job.persist(async || bmc.power_on().await).await
}
