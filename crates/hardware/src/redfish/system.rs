//! Finding the machine among what a BMC serves.

use super::Machine;
use super::resource::Resource;
use super::session::SERVICE_ROOT;
use crate::HardwareError;

/// Where the systems are when the service root does not say.
const SYSTEMS_USUAL: &str = "/redfish/v1/Systems";

impl Machine {
    /// The machine's `ComputerSystem`: the one that `redfish_system_id` names, or the only one that there is.
    pub(super) async fn system(&self) -> Result<Resource, HardwareError> {
        if let Some(path) = &self.system_path
            && let Some(system) = self.service.find(path).await?
        {
            return Ok(system);
        }
        let root = self.service.get(SERVICE_ROOT).await?;
        let path = root.link("/Systems")?.unwrap_or(SYSTEMS_USUAL);
        let systems = self.service.get(path).await?;
        let paths = systems.links("/Members")?;
        match (&self.system_path, paths.as_slice()) {
            // A BMC that has just started has not found its machine yet.
            (_, []) => Err(systems.request.failed("there is no system", true)),
            (None, [only]) => self.service.get(only).await,
            (None, several) => Err(systems.request.failed(
                format!(
                    "there are several systems, and driver_info.redfish_system_id names none: {}",
                    several.join(", ")
                ),
                false,
            )),
            (Some(named), others) => Err(systems.request.failed(
                format!(
                    "there is no system {named} as in driver_info.redfish_system_id, only: {}",
                    others.join(", ")
                ),
                false,
            )),
        }
    }
}
