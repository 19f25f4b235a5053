//! Steps that only the BMC does.

use std::error::Error;

use bessemer_domain::node::{PowerState, StepResult};
use bessemer_hardware::{BootDevice, HardwareError};

use super::{Failure, Job, Trouble};
use crate::Context;
use crate::bmc::Bmc;

impl From<HardwareError> for Trouble {
    fn from(error: HardwareError) -> Self {
        let message = chain(&error);
        if error.is_retryable() {
            Self::Passing(message)
        } else {
            Self::Final(Failure::new("HARDWARE", message))
        }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}

pub(super) async fn verify_power(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    let bmc = bmc(context, job)?;
    let on = job.persist(async || bmc.is_on().await).await?;
    Ok(StepResult::Power(if on { PowerState::On } else { PowerState::Off }))
}

pub(super) async fn power_off(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    let bmc = bmc(context, job)?;
    context.sessions.end(job.node);
    job.persist(async || bmc.power_off().await).await?;
    Ok(StepResult::Power(PowerState::Off))
}

/// Boots what was deployed. Not what the boot device was set to last: when an agent was lost between that and here, the
/// machine was booted into another one, from the ramdisk.
pub(super) async fn boot_instance(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    let bmc = bmc(context, job)?;
    job.persist(async || bmc.set_boot_device(BootDevice::Disk).await).await?;
    job.persist(async || bmc.power_on().await).await?;
    Ok(StepResult::Power(PowerState::On))
}

pub(super) async fn boot_from_disk(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    let bmc = bmc(context, job)?;
    job.persist(async || bmc.set_boot_device(BootDevice::Disk).await).await?;
    Ok(StepResult::Done)
}

/// The BMC of the job's node, under the job's claim.
pub(super) fn bmc<'a>(context: &'a Context, job: &Job) -> Result<Bmc<'a>, Failure> {
    context.bmc(job.node, job.epoch).map_err(|error| Failure::new("HARDWARE", chain(&error)))
}
