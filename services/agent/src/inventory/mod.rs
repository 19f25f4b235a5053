//! What the machine is made of, read from /sys and /proc. What cannot be read is left empty: an
//! inventory with holes is better than an agent that does not start.

mod addresses;
mod disks;
mod interfaces;
mod system;

use std::path::Path;

use bessemer_proto::v1::{Disk, Inventory};

pub(crate) use disks::{disk_at, disks};
pub(crate) use interfaces::network_interfaces;
pub(crate) use system::system_uuid;

/// The inventory of this machine, with `disks` as its disks.
pub(crate) fn of(disks: Vec<Disk>) -> Inventory {
    let cpu_info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Inventory {
        cpu_architecture: std::env::consts::ARCH.to_owned(),
        cpu_model: system::cpu_model(&cpu_info),
        cpu_count: system::cpu_count(),
        memory_bytes: system::memory_bytes(),
        disks,
        interfaces: network_interfaces(),
        system_vendor: system::dmi("sys_vendor"),
        system_product: system::dmi("product_name"),
        system_serial: system::dmi("product_serial"),
    }
}

/// The trimmed text of an attribute; empty when it cannot be read.
fn attribute(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
