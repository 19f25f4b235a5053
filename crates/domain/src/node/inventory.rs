//! What a machine is made of, as its agent reports it.

use serde::{Deserialize, Serialize};

/// Hardware of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// Such as `x86_64`.
    pub cpu_architecture: String,
    /// As the processor names itself.
    pub cpu_model: String,
    /// Logical processors.
    pub cpu_count: u32,
    /// Installed memory.
    pub memory_bytes: u64,
    /// Block devices.
    pub disks: Vec<Disk>,
    /// Network interfaces.
    pub interfaces: Vec<NetworkInterface>,
    /// Maker.
    pub system_vendor: String,
    /// Model.
    pub system_product: String,
    /// Serial number.
    pub system_serial: String,
}

/// A block device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// Device path, such as `/dev/sda`.
    pub name: String,
    /// Whole capacity.
    pub size_bytes: u64,
    /// 512 or 4096 as a rule.
    pub logical_sector_bytes: u32,
    /// As the device names itself.
    pub model: String,
    /// Maker.
    pub vendor: String,
    /// Serial number.
    pub serial: String,
    /// World Wide Name.
    pub wwn: String,
    /// Whether it spins.
    pub rotational: bool,
    /// Stable path by its place in the machine.
    pub by_path: String,
    /// SCSI address, `host:channel:target:lun`.
    pub hctl: String,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkInterface {
    /// Kernel name.
    pub name: String,
    /// MAC address.
    pub mac_address: String,
    /// IP addresses.
    pub addresses: Vec<String>,
    /// Whether a cable is in.
    pub has_carrier: bool,
}
