//! `…/inventory`: what an agent found the machine to be made of, as ironic-python-agent words it.

use axum::extract::Path;
use axum::response::Response;
use bessemer_domain::node::Inventory;
use serde_json::{Value, json};

use super::reference;
use crate::api::Freshness;
use crate::rest::Shared;
use crate::rest::answer;
use crate::rest::asked::Asked;
use crate::rest::fault::Fault;

/// The version of the API that has inventories.
const SINCE: u16 = 81;

/// `GET /v1/nodes/{node}/inventory`
pub(in crate::rest) async fn show(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
) -> Result<Response, Fault> {
    if asked.version.0 < SINCE {
        return Err(Fault::not_found(format!("inventories need version 1.{SINCE} of the API")));
    }
    let node = reference(&node)?;
    let state = rest.api.state(Freshness::Latest).await?;
    let node = node.find(&state)?;
    let Some(inventory) = &node.inventory else {
        let message = format!("node {} has no inventory yet; `inspect` makes one", node.label());
        return Err(Fault::not_found(message));
    };
    Ok(answer::ok(&json!({ "inventory": of(inventory), "plugin_data": {} })))
}

fn of(inventory: &Inventory) -> Value {
    let interfaces: Vec<_> = inventory
        .interfaces
        .iter()
        .map(|interface| {
            let address = |is_wanted: fn(&str) -> bool| {
                interface.addresses.iter().find(|address| is_wanted(address))
            };
            json!({
                "name": interface.name,
                "mac_address": interface.mac_address,
                "ipv4_address": address(|address| address.contains('.')),
                "ipv6_address": address(|address| address.contains(':')),
                "has_carrier": interface.has_carrier,
            })
        })
        .collect();
    let disks: Vec<_> = inventory
        .disks
        .iter()
        .map(|disk| {
            json!({
                "name": disk.name,
                "size": disk.size_bytes,
                "logical_sectors": disk.logical_sector_bytes,
                "model": disk.model,
                "vendor": disk.vendor,
                "serial": disk.serial,
                "wwn": disk.wwn,
                "rotational": disk.rotational,
                "by_path": disk.by_path,
                "hctl": disk.hctl,
            })
        })
        .collect();
    json!({
        "cpu": {
            "architecture": inventory.cpu_architecture,
            "model_name": inventory.cpu_model,
            "count": inventory.cpu_count,
        },
        "memory": {
            "total": inventory.memory_bytes,
            "physical_mb": inventory.memory_bytes / (1024 * 1024),
        },
        "disks": disks,
        "interfaces": interfaces,
        "system_vendor": {
            "manufacturer": inventory.system_vendor,
            "product_name": inventory.system_product,
            "serial_number": inventory.system_serial,
        },
    })
}
