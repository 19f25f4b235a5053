//! Hardware types and their interfaces in Ironic's words. Each hardware type has one implementation of each interface; only
//! the deploy and the boot interface are choices.

/// Kinds of interfaces beside `deploy` and `boot`, the field each is in, and the version of the API that it came with.
pub(in crate::rest) const KINDS: &[(&str, u16)] = &[
    ("bios_interface", 40),
    ("console_interface", 31),
    ("firmware_interface", 86),
    ("inspect_interface", 31),
    ("management_interface", 31),
    ("network_interface", 20),
    ("power_interface", 31),
    ("raid_interface", 31),
    ("rescue_interface", 38),
    ("storage_interface", 33),
    ("vendor_interface", 31),
];

/// A hardware type as Ironic calls it.
pub(in crate::rest) fn hardware_type(driver: &str) -> &str {
    if driver == "fake" { "fake-hardware" } else { driver }
}

/// A hardware type as the core calls it.
pub(in crate::rest) fn driver(hardware_type: &str) -> &str {
    if hardware_type == "fake-hardware" { "fake" } else { hardware_type }
}

/// The implementation of an interface that a driver's machines have.
pub(in crate::rest) fn implementation(driver: &str, field: &str) -> &'static str {
    match (field, driver) {
        ("power_interface" | "management_interface", "fake") => "fake",
        ("power_interface" | "management_interface", "ipmi") => "ipmitool",
        ("power_interface" | "management_interface", _) => "redfish",
        ("inspect_interface", _) => "agent",
        ("bios_interface", _) => "no-bios",
        ("console_interface", _) => "no-console",
        ("firmware_interface", _) => "no-firmware",
        ("raid_interface", _) => "no-raid",
        ("rescue_interface", _) => "no-rescue",
        ("vendor_interface", _) => "no-vendor",
        // Networks and storage are not switched by the conductor.
        (_, _) => "noop",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for name in ["fake", "redfish", "ipmi", "idrac"] {
            assert_eq!(driver(hardware_type(name)), name);
        }
        assert_eq!(driver("fake-hardware"), "fake");
    }
}
