//! Hardware type `redfish`: machines whose BMC serves Redfish (DMTF DSP0266, schemas DSP8010). The deploy ramdisk is an
//! ISO in a virtual CD drive that the BMC fetches over HTTP.

mod access;
mod answer;
mod boot;
mod clients;
mod media;
mod power;
mod quirks;
mod resource;
mod service;
mod session;
mod system;
mod trust;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use crate::driver_info::text;
use crate::{Bmc, BootDevice, Entitled, HardwareError};
use access::Access;
use boot::Source;
use clients::Clients;
use media::Medium;
use service::Service;
use session::Sessions;

/// The hardware type, with the connections and sessions that its machines share.
#[derive(Clone, Default)]
pub struct Redfish {
    /// For machines that name none.
    deploy_iso: Option<String>,
    clients: Clients,
    sessions: Sessions,
}

impl std::fmt::Debug for Redfish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redfish").finish_non_exhaustive()
    }
}

/// A machine behind a BMC that serves Redfish.
pub struct Machine {
    service: Service,
    /// `redfish_system_id`.
    system_path: Option<String>,
    /// Its query may be what lets the BMC fetch it.
    deploy_iso: Option<String>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("service", &self.service).finish_non_exhaustive()
    }
}

impl Redfish {
    /// The hardware type. `deploy_iso` is the URL of the ISO with the deploy ramdisk, as BMCs reach it, for machines
    /// whose `driver_info` has no `deploy_iso`.
    #[must_use]
    pub fn new(deploy_iso: Option<String>) -> Self {
        Self { deploy_iso, ..Self::default() }
    }

    /// The machine that a node's `driver_info` names, by Ironic's keys: `redfish_address`, `redfish_system_id`,
    /// `redfish_username`, `redfish_password`, `redfish_verify_ca`, `redfish_auth_type`, `deploy_iso`.
    ///
    /// # Errors
    /// [`HardwareError::DriverInfo`] and [`HardwareError::DriverInfoMissing`]; [`HardwareError::Io`] when the
    /// file of `redfish_verify_ca` cannot be read.
    pub fn machine(&self, driver_info: &Map<String, Value>) -> Result<Machine, HardwareError> {
        let access = Access::read(driver_info)?;
        let own_iso = text(driver_info, "deploy_iso")?.map(str::to_owned);
        let deploy_iso = own_iso.or_else(|| self.deploy_iso.clone());
        let http = self.clients.get(&access.trust)?;
        let service = Service::new(&access, http, self.sessions.clone(), deploy_iso.as_deref());
        Ok(Machine { service, system_path: access.system_path, deploy_iso })
    }
}

impl Machine {
    async fn switch(&self, way: power::Way, entitled: Entitled<'_>) -> Result<(), HardwareError> {
        power::switch(&self.service, self.system().await?, way, entitled).await
    }

    async fn prepare_boot(
        &self,
        device: BootDevice,
        entitled: Entitled<'_>,
    ) -> Result<(), HardwareError> {
        let iso = match (device, &self.deploy_iso) {
            (BootDevice::Disk | BootDevice::Network { .. }, _) => None,
            (BootDevice::Ramdisk, Some(iso)) => Some(iso),
            (BootDevice::Ramdisk, None) => {
                return Err(HardwareError::DriverInfoMissing {
                    key: "deploy_iso",
                    hint: ", and so is deploy_iso in [redfish] of the conductor's configuration",
                });
            }
        };
        self.prepare_media(iso.map(String::as_str), None, device.into(), entitled).await
    }

    /// Has the machine boot from the ISO in its virtual CD drive, or from something else with no ISO in it. Nothing else is in any
    /// virtual drive but the config drive.
    async fn prepare_media(
        &self,
        iso: Option<&str>,
        config_drive: Option<&str>,
        source: Source,
        entitled: Entitled<'_>,
    ) -> Result<(), HardwareError> {
        let system = self.system().await?;
        let drives = media::drives(&self.service, &system).await?;
        // The medium first: some BMCs refuse to boot from an empty drive.
        let cd = match iso {
            Some(iso) => {
                let cds = drives.iter().filter(|drive| drive.takes(Medium::Cd)).collect();
                Some(media::insert(&self.service, &system, cds, Medium::Cd, iso, entitled).await?)
            }
            None => None,
        };
        let others = drives.iter().filter(|drive| cd.as_ref() != Some(&drive.resource.path));
        match config_drive {
            Some(image) => {
                let sticks = others.filter(|drive| drive.takes(Medium::UsbStick)).collect();
                let stick = Medium::UsbStick;
                media::insert(&self.service, &system, sticks, stick, image, entitled).await?;
            }
            None => media::eject_all(&self.service, others, entitled).await?,
        }
        // Read again: the medium may have changed the system, and with it its ETag.
        let system = self.service.get(&system.path).await?;
        boot::set_override(&self.service, &system, source, entitled).await
    }
}

impl Bmc for Machine {
    fn is_on(&self) -> BoxFuture<'_, Result<bool, HardwareError>> {
        async { Ok(power::state(&self.system().await?)? != power::OFF) }.boxed()
    }

    fn set_boot_device<'a>(
        &'a self,
        device: BootDevice,
        entitled: Entitled<'a>,
    ) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.prepare_boot(device, entitled).boxed()
    }

    fn set_boot_iso<'a>(
        &'a self,
        iso: &'a str,
        config_drive: Option<&'a str>,
        entitled: Entitled<'a>,
    ) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.prepare_media(Some(iso), config_drive, Source::CD, entitled).boxed()
    }

    fn power_on<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.switch(power::SWITCH_ON, entitled).boxed()
    }

    fn power_off<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.switch(power::SWITCH_OFF, entitled).boxed()
    }

    fn shut_down<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.switch(power::SHUT_DOWN, entitled).boxed()
    }

    fn inject_nmi<'a>(
        &'a self,
        entitled: Entitled<'a>,
    ) -> BoxFuture<'a, Result<(), HardwareError>> {
        async move { power::inject_nmi(&self.service, self.system().await?, entitled).await }
            .boxed()
    }
}
