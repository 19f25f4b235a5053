//! Network interfaces that have hardware behind them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use bessemer_proto::v1::NetworkInterface;

use super::addresses::addresses_by_interface;
use super::attribute;

const CLASS_DIR: &str = "/sys/class/net";

/// The machine's interfaces, by name. Bridges, tunnels and the like are none of them.
pub(crate) fn network_interfaces() -> Vec<NetworkInterface> {
    let mut addresses = addresses_by_interface();
    let mut interfaces: Vec<_> = std::fs::read_dir(CLASS_DIR)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("device").exists())
        .map(|path| interface(&path, &mut addresses))
        .filter(|interface| !interface.mac_address.is_empty())
        .collect();
    interfaces.sort_by(|one, other| one.name.cmp(&other.name));
    interfaces
}

fn interface(path: &Path, addresses: &mut BTreeMap<String, Vec<String>>) -> NetworkInterface {
    let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
    NetworkInterface {
        mac_address: attribute(&path.join("address")),
        addresses: addresses.remove(&name).unwrap_or_default(),
        // Unreadable while the interface is down.
        has_carrier: attribute(&path.join("carrier")) == "1",
        name,
    }
}
