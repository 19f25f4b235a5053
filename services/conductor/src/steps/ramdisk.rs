//! Deploy interface `ramdisk`: the machine runs from an ISO, or from a kernel that it boots over the network, and its disks are
//! left alone.

use bessemer_domain::node::{Node, PowerState, StepResult};
use bessemer_hardware::{BootDevice, NetworkProtocol};

use super::hardware::{bmc, power_off};
use super::{Failure, Job, node_of};
use crate::{Context, config_drives};

/// Boots what the deployment names. Done again by a conductor that takes over, the machine is booted again: from outside it
/// cannot be told what it runs.
pub(super) async fn boot(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    let node = node_of(context, job)?;
    let iso = iso_of(&node);
    if iso.is_none() && context.http_url.is_none() {
        return Err(not_served(context, "boot scripts to firmware"));
    }
    let config_drive = config_drive_url(context, &node)?;
    power_off(context, job).await?;
    let bmc = bmc(context, job)?;
    match iso {
        Some(iso) => {
            job.persist(async || bmc.set_boot_iso(iso, config_drive.as_deref()).await).await?;
        }
        // The boot script names the kernel whenever the machine asks, and it asks whenever it is switched on.
        None => {
            let network = BootDevice::Network { protocol: NetworkProtocol::Pxe, lasting: true };
            job.persist(async || bmc.set_boot_device(network).await).await?;
        }
    }
    job.persist(async || bmc.power_on().await).await?;
    Ok(StepResult::Power(PowerState::On))
}

/// Switches off what was deployed, and has the machine boot from its disk again if it ran from something else.
pub(super) async fn tear_down(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    let result = power_off(context, job).await?;
    let node = node_of(context, job)?;
    let spec = node.deployment.as_ref().map(|deployment| &deployment.spec);
    if spec.is_some_and(|spec| spec.boot_iso.is_some() || spec.network_boot.is_some()) {
        super::hardware::boot_from_disk(context, job).await?;
    }
    Ok(result)
}

/// Where the BMC finds the deployment's config drive, if it has one.
fn config_drive_url(context: &Context, node: &Node) -> Result<Option<String>, Failure> {
    let deployment = node.deployment.as_ref().filter(|it| it.spec.config_drive.is_some());
    let Some(deployment) = deployment else { return Ok(None) };
    let Some(base) = &context.http_url else {
        return Err(not_served(context, "config drives to BMCs"));
    };
    Ok(Some(format!("{base}{}", config_drives::path(deployment.id))))
}

fn not_served(context: &Context, what: &str) -> Failure {
    let id = &context.own.id;
    let message = format!("conductor {id} serves no {what}: its configuration has no [http]");
    Failure::new("NOT_SERVED", message)
}

fn iso_of(node: &Node) -> Option<&str> {
    node.deployment.as_ref()?.spec.boot_iso.as_deref()
}
