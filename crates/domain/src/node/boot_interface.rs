//! Boot interfaces: the ways in which a machine gets at the deploy ramdisk.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::choice;
use crate::Invalid;

/// How a machine gets at what it boots instead of its disk. Names are Ironic's, and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootInterface {
    /// Simulated machines: as their simulation has it.
    Fake,
    /// The BMC shows it an ISO as a virtual CD.
    RedfishVirtualMedia,
    /// By DHCP and PXE to iPXE, which asks a conductor for a script.
    Ipxe,
    /// By DHCP to the URL of an EFI program, which the firmware fetches itself (UEFI 2.10, 24.7).
    Http,
}

impl BootInterface {
    const ALL: &'static [Self] = &[Self::Fake, Self::RedfishVirtualMedia, Self::Ipxe, Self::Http];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fake => "fake",
            Self::RedfishVirtualMedia => "redfish-virtual-media",
            Self::Ipxe => "ipxe",
            Self::Http => "http",
        }
    }

    /// Those that machines of a hardware type can have, the default first. IPMI has no virtual media, and no boot device that
    /// means HTTP.
    #[must_use]
    pub fn supported_by(driver: &str) -> &'static [Self] {
        match driver {
            "fake" => &[Self::Fake],
            "ipmi" => &[Self::Ipxe],
            _ => &[Self::RedfishVirtualMedia, Self::Ipxe, Self::Http],
        }
    }

    /// What machines of a hardware type have unless something else is chosen.
    #[must_use]
    pub fn default_of(driver: &str) -> Self {
        Self::supported_by(driver).first().copied().unwrap_or(Self::Fake)
    }

    /// Refuses an interface that machines of a hardware type cannot have.
    ///
    /// # Errors
    /// [`Invalid`] with the interfaces that they can have.
    pub fn check_supported_by(self, driver: &str) -> Result<(), Invalid> {
        let supported = Self::supported_by(driver);
        if supported.contains(&self) {
            return Ok(());
        }
        let reason = format!(
            "cannot be had with hardware type `{driver}`, only: {}",
            choice::names(supported, Self::as_str)
        );
        Err(Invalid::new("boot_interface", self.as_str(), reason))
    }

    /// Whether the machine can be shown somebody's ISO.
    #[must_use]
    pub const fn boots_iso(self) -> bool {
        matches!(self, Self::Fake | Self::RedfishVirtualMedia)
    }

    /// Whether the machine can be told to boot a kernel and a ramdisk of somebody's. The program that firmware fetches by
    /// HTTP is the same for every machine.
    #[must_use]
    pub const fn boots_kernel(self) -> bool {
        matches!(self, Self::Ipxe)
    }
}

impl fmt::Display for BootInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for BootInterface {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        choice::named("boot_interface", text, Self::ALL, Self::as_str)
    }
}
