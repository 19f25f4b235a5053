//! What machines are made of.

use bessemer_domain::node::{Disk, Inventory, NetworkInterface};
use bessemer_proto::v1;

/// The inventory as a message.
#[must_use]
pub fn to_proto(inventory: &Inventory) -> v1::Inventory {
    v1::Inventory {
        cpu_architecture: inventory.cpu_architecture.clone(),
        cpu_model: inventory.cpu_model.clone(),
        cpu_count: inventory.cpu_count,
        memory_bytes: inventory.memory_bytes,
        disks: inventory.disks.iter().map(disk_to_proto).collect(),
        interfaces: inventory.interfaces.iter().map(interface_to_proto).collect(),
        system_vendor: inventory.system_vendor.clone(),
        system_product: inventory.system_product.clone(),
        system_serial: inventory.system_serial.clone(),
    }
}

/// The inventory in a message.
#[must_use]
pub fn from_proto(inventory: v1::Inventory) -> Inventory {
    Inventory {
        cpu_architecture: inventory.cpu_architecture,
        cpu_model: inventory.cpu_model,
        cpu_count: inventory.cpu_count,
        memory_bytes: inventory.memory_bytes,
        disks: inventory.disks.into_iter().map(disk_from_proto).collect(),
        interfaces: inventory.interfaces.into_iter().map(interface_from_proto).collect(),
        system_vendor: inventory.system_vendor,
        system_product: inventory.system_product,
        system_serial: inventory.system_serial,
    }
}

fn disk_to_proto(disk: &Disk) -> v1::Disk {
    v1::Disk {
        name: disk.name.clone(),
        size_bytes: disk.size_bytes,
        logical_sector_bytes: disk.logical_sector_bytes,
        model: disk.model.clone(),
        vendor: disk.vendor.clone(),
        serial: disk.serial.clone(),
        wwn: disk.wwn.clone(),
        rotational: disk.rotational,
        by_path: disk.by_path.clone(),
        hctl: disk.hctl.clone(),
    }
}

fn disk_from_proto(disk: v1::Disk) -> Disk {
    Disk {
        name: disk.name,
        size_bytes: disk.size_bytes,
        logical_sector_bytes: disk.logical_sector_bytes,
        model: disk.model,
        vendor: disk.vendor,
        serial: disk.serial,
        wwn: disk.wwn,
        rotational: disk.rotational,
        by_path: disk.by_path,
        hctl: disk.hctl,
    }
}

fn interface_to_proto(interface: &NetworkInterface) -> v1::NetworkInterface {
    v1::NetworkInterface {
        name: interface.name.clone(),
        mac_address: interface.mac_address.clone(),
        addresses: interface.addresses.clone(),
        has_carrier: interface.has_carrier,
    }
}

fn interface_from_proto(interface: v1::NetworkInterface) -> NetworkInterface {
    NetworkInterface {
        name: interface.name,
        mac_address: interface.mac_address,
        addresses: interface.addresses,
        has_carrier: interface.has_carrier,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn disks()(
            texts in proptest::collection::vec(".{0,6}", 7),
            size_bytes: u64,
            logical_sector_bytes: u32,
            rotational: bool,
        ) -> v1::Disk {
            let [name, model, vendor, serial, wwn, by_path, hctl] =
                texts.try_into().expect("seven were drawn");
            v1::Disk {
                name, size_bytes, logical_sector_bytes, model, vendor, serial, wwn, rotational, by_path, hctl,
            }
        }
    }

    prop_compose! {
        fn interfaces()(
            name in ".{0,6}",
            mac_address in ".{0,6}",
            addresses in proptest::collection::vec(".{0,6}", 0..3),
            has_carrier: bool,
        ) -> v1::NetworkInterface {
            v1::NetworkInterface { name, mac_address, addresses, has_carrier }
        }
    }

    proptest! {
        #[test]
        fn inventories_come_back(
            texts in proptest::collection::vec(".{0,6}", 5),
            cpu_count: u32,
            memory_bytes: u64,
            disks in proptest::collection::vec(disks(), 0..3),
            interfaces in proptest::collection::vec(interfaces(), 0..3),
        ) {
            let [cpu_architecture, cpu_model, system_vendor, system_product, system_serial] =
                texts.try_into().expect("five were drawn");
            let inventory = v1::Inventory {
                cpu_architecture, cpu_model, cpu_count, memory_bytes, disks, interfaces,
                system_vendor, system_product, system_serial,
            };
            prop_assert_eq!(to_proto(&from_proto(inventory.clone())), inventory);
        }
    }
}
