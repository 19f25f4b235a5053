//! What the machine boots next (DSP0268, `Boot` of `ComputerSystem`).

use reqwest::StatusCode;
use serde_json::{Map, Value, json};

use super::quirks::{self, Quirks};
use super::resource::Resource;
use super::service::Service;
use crate::{BootDevice, Entitled, HardwareError, NetworkProtocol};

/// What is booted, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    medium: Medium,
    /// From now on, and not only once.
    lasting: bool,
}

/// What is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    Cd,
    Disk,
    Network(NetworkProtocol),
}

impl From<BootDevice> for Source {
    fn from(device: BootDevice) -> Self {
        match device {
            BootDevice::Ramdisk => Self { medium: Medium::Cd, lasting: false },
            BootDevice::Disk => Self { medium: Medium::Disk, lasting: true },
            BootDevice::Network { protocol, lasting } => {
                Self { medium: Medium::Network(protocol), lasting }
            }
        }
    }
}

impl Source {
    /// The virtual CD from now on.
    pub(super) const CD: Self = Self { medium: Medium::Cd, lasting: true };

    /// For how long the override holds, the best first. BMCs that know no `Continuous` any more boot it once, and by their
    /// boot order then.
    const fn durations(self) -> &'static [&'static str] {
        if self.lasting { &["Continuous", "Once"] } else { &["Once"] }
    }

    /// Redfish's words for it, the best first.
    const fn targets(self, quirks: &Quirks) -> &'static [&'static str] {
        match self.medium {
            Medium::Cd => quirks.cd_sources,
            Medium::Disk => &["Hdd"],
            Medium::Network(NetworkProtocol::Pxe) => &["Pxe"],
            Medium::Network(NetworkProtocol::UefiHttp) => &["UefiHttp"],
        }
    }
}

/// Ironic's default boot mode.
const BOOT_MODE: &str = "UEFI";

/// Sets the boot source override. It is not read back: some BMCs show it from the next boot on only.
pub(super) async fn set_override(
    service: &Service,
    system: &Resource,
    source: Source,
    entitled: Entitled<'_>,
) -> Result<(), HardwareError> {
    let quirks = quirks::of(system)?;
    // BMCs that take changes for the next boot in a resource of their own say so (DSP0266 9.10).
    let settings = match system.link("/@Redfish.Settings/SettingsObject")? {
        Some(path) => service.find(path).await?,
        None => None,
    };
    let settings =
        settings.filter(|it| it.body.pointer("/Boot/BootSourceOverrideTarget").is_some());
    let place = settings.as_ref().unwrap_or(system);

    let target = allowed(system, "BootSourceOverrideTarget", source.targets(quirks))?;
    let mut refused = None;
    for duration in source.durations() {
        let mut boot = Map::from_iter([("BootSourceOverrideTarget".to_owned(), json!(target))]);
        let mut set = |key: &str, value: &str, if_absent: bool| -> Result<(), HardwareError> {
            let current = system.text(&format!("/Boot/{key}"))?;
            let differs = current.map_or(if_absent, |current| current != value);
            if differs || (quirks.repeats_settings && current.is_some()) {
                boot.insert(key.to_owned(), json!(value));
            }
            Ok(())
        };
        set("BootSourceOverrideEnabled", duration, true)?;
        // A machine that says nothing of its boot mode has but one.
        set("BootSourceOverrideMode", BOOT_MODE, false)?;
        let body = json!({"Boot": Value::Object(boot)});
        let answer = service.patch(place, &body, entitled).await?;
        if answer.status != StatusCode::BAD_REQUEST {
            return answer.accepted().map(drop);
        }
        refused = Some(answer);
    }
    refused.map_or(Ok(()), |answer| answer.accepted().map(drop))
}

/// The best of `values` that the BMC allows for a property. One that does not say what it allows is taken to allow all.
fn allowed(
    system: &Resource,
    property: &str,
    values: &'static [&'static str],
) -> Result<&'static str, HardwareError> {
    let allowed = system.texts(&format!("/Boot/{property}@Redfish.AllowableValues"))?;
    let Some(allowed) = allowed.filter(|allowed| !allowed.is_empty()) else {
        return Ok(values[0]);
    };
    values.iter().copied().find(|value| allowed.contains(value)).ok_or_else(|| {
        let (wanted, allowed) = (values.join(" or "), allowed.join(", "));
        system.request.failed(format!("no {property} {wanted} is allowed, only: {allowed}"), false)
    })
}
