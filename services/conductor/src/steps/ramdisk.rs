//! Deploy interface `ramdisk`: the machine runs from an ISO, and its disks are left alone.

use bessemer_domain::node::{Node, PowerState, StepResult};

use super::hardware::{bmc, power_off};
use super::{Failure, Job, node_of};
use crate::{Context, config_drives};

/// Boots the ISO that the deployment names. Done again by a conductor that takes over, the machine is booted again: from
/// outside it cannot be told what it runs.
pub(super) async fn boot(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    let node = node_of(context, job)?;
    let iso = iso_of(&node)
        .ok_or_else(|| Failure::new("BOOT_ISO_MISSING", "the deployment names no boot_iso"))?;
    let config_drive = config_drive_url(context, &node)?;
    power_off(context, job).await?;
    let bmc = bmc(context, job)?;
    job.persist(async || bmc.set_boot_iso(iso, config_drive.as_deref()).await).await?;
    job.persist(async || bmc.power_on().await).await?;
    Ok(StepResult::Power(PowerState::On))
}

/// Switches off what was deployed, and takes out the ISO if it ran from one.
pub(super) async fn tear_down(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    let result = power_off(context, job).await?;
    if iso_of(&node_of(context, job)?).is_some() {
        super::hardware::boot_from_disk(context, job).await?;
    }
    Ok(result)
}

/// Where the BMC finds the deployment's config drive, if it has one.
fn config_drive_url(context: &Context, node: &Node) -> Result<Option<String>, Failure> {
    let deployment = node.deployment.as_ref().filter(|it| it.spec.config_drive.is_some());
    let Some(deployment) = deployment else { return Ok(None) };
    let Some(base) = &context.http_url else {
        let message = format!(
            "conductor {} serves no config drives to BMCs: its configuration has no [http]",
            context.own.id
        );
        return Err(Failure::new("CONFIG_DRIVE_NOT_SERVED", message));
    };
    Ok(Some(format!("{base}{}", config_drives::path(deployment.id))))
}

fn iso_of(node: &Node) -> Option<&str> {
    node.deployment.as_ref()?.spec.boot_iso.as_deref()
}
