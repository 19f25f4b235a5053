//! What machines of some vendors want otherwise than the rest. Known to Ironic and its library sushy.

use super::resource::Resource;
use crate::HardwareError;

/// A vendor's wishes.
pub(super) struct Quirks {
    /// In `Manufacturer`, in lower case.
    manufacturer: &'static str,
    /// Boot sources that mean the virtual CD drive, the best first.
    pub(super) cd_sources: &'static [&'static str],
    /// Whether a change of the boot source resets what else there is in `Boot`, so that it has to be sent along. Others
    /// refuse what would change nothing.
    pub(super) repeats_settings: bool,
}

const USUAL: Quirks =
    Quirks { manufacturer: "", cd_sources: &["Cd", "UsbCd"], repeats_settings: false };

const VENDORS: &[Quirks] = &[Quirks {
    manufacturer: "supermicro",
    // `Cd` is a drive that these machines do not have.
    cd_sources: &["UsbCd", "Cd"],
    repeats_settings: true,
}];

/// The wishes of a machine's vendor.
pub(super) fn of(system: &Resource) -> Result<&'static Quirks, HardwareError> {
    let manufacturer = system.text("/Manufacturer")?.unwrap_or_default().to_ascii_lowercase();
    let vendor = VENDORS.iter().find(|quirks| manufacturer.contains(quirks.manufacturer));
    Ok(vendor.unwrap_or(&USUAL))
}
