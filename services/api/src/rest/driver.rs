//! Drivers: the hardware types that online conductors have.

use std::collections::BTreeMap;

use axum::extract::{Path, Query as Pairs};
use axum::response::Response;
use bessemer_domain::State;
use bessemer_domain::node::{BootInterface, DeployInterface};
use serde_json::{Value, json};

use super::Shared;
use super::answer;
use super::asked::Asked;
use super::fault::Fault;
use super::node::interfaces::{KINDS, hardware_type, implementation};
use super::query::Query;
use super::resource::links;
use crate::api::Freshness;

/// The version of the API that tells drivers' interfaces, and that which lets a caller choose fields.
const INTERFACES_SINCE: u16 = 30;
const FIELDS_SINCE: u16 = 77;

/// Hardware types, each with the names of the conductors that have it.
type Drivers = BTreeMap<String, Vec<String>>;

/// `GET /v1/drivers`
pub(super) async fn list(
    rest: Shared,
    asked: Asked,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    let mut query = Query::new(pairs);
    let kind = query.take("type");
    let detail = query.take_flag("detail")?;
    if (kind.is_some() || detail.is_some()) && asked.version.0 < INTERFACES_SINCE {
        return Err(Fault::since("`type` and `detail`", INTERFACES_SINCE));
    }
    let fields = fields(&mut query, &asked)?;
    query.finish()?;
    let drivers = match kind.as_deref() {
        None | Some("dynamic") => drivers(&rest.api.state(Freshness::Latest).await?),
        Some("classic") => Drivers::new(),
        Some(other) => {
            let message = format!("type `{other}` is neither `classic` nor `dynamic`");
            return Err(Fault::bad_request(message));
        }
    };
    let detail = detail.unwrap_or_default();
    let shown: Vec<_> = drivers
        .iter()
        .map(|(driver, hosts)| chosen(shown(driver, hosts, &asked, detail), fields.as_deref()))
        .collect();
    Ok(answer::ok(&json!({ "drivers": shown })))
}

/// `GET /v1/drivers/{name}`
pub(super) async fn show(
    rest: Shared,
    asked: Asked,
    Path(name): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    let mut query = Query::new(pairs);
    let fields = fields(&mut query, &asked)?;
    query.finish()?;
    let drivers = drivers(&rest.api.state(Freshness::Latest).await?);
    let found = drivers.iter().find(|(driver, _)| hardware_type(driver) == name);
    let (driver, hosts) = found.ok_or_else(|| {
        let known: Vec<_> = drivers.keys().map(|driver| hardware_type(driver)).collect();
        let known = known.join(", ");
        Fault::not_found(format!("no online conductor has driver `{name}`; there are: {known}"))
    })?;
    let shown = chosen(shown(driver, hosts, &asked, true), fields.as_deref());
    Ok(answer::ok(&shown))
}

fn drivers(state: &State) -> Drivers {
    let mut drivers = Drivers::new();
    for conductor in state.conductors().filter(|conductor| conductor.online) {
        for driver in &conductor.registration.hardware_types {
            drivers.entry(driver.clone()).or_default().push(conductor.id.to_string());
        }
    }
    drivers
}

fn fields(query: &mut Query, asked: &Asked) -> Result<Option<Vec<String>>, Fault> {
    match query.take("fields") {
        Some(_) if asked.version.0 < FIELDS_SINCE => Err(Fault::since("`fields`", FIELDS_SINCE)),
        fields => Ok(fields.map(|it| it.split(',').map(|it| it.trim().to_owned()).collect())),
    }
}

/// The driver with the fields asked for, or all.
fn chosen(mut driver: Value, fields: Option<&[String]>) -> Value {
    if let (Some(fields), Some(object)) = (fields, driver.as_object_mut()) {
        object.retain(|name, _| name == "links" || fields.contains(name));
    }
    driver
}

fn shown(driver: &str, hosts: &[String], asked: &Asked, detail: bool) -> Value {
    let name = hardware_type(driver);
    let mut shown = json!({
        "name": name,
        "hosts": hosts,
        "links": links(asked, &format!("drivers/{name}")),
    });
    if asked.version.0 >= INTERFACES_SINCE {
        shown["type"] = "dynamic".into();
    }
    if detail && asked.version.0 >= INTERFACES_SINCE {
        let deploy = DeployInterface::ALL.iter().map(|it| it.as_str());
        shown["default_deploy_interface"] = DeployInterface::default().as_str().into();
        shown["enabled_deploy_interfaces"] = deploy.collect();
        let boot = BootInterface::supported_by(driver).iter().map(|it| it.as_str());
        shown["default_boot_interface"] = BootInterface::default_of(driver).as_str().into();
        shown["enabled_boot_interfaces"] = boot.collect();
        for (field, _) in KINDS.iter().filter(|(_, since)| *since <= asked.version.0) {
            let implementation = implementation(driver, field);
            shown[format!("default_{field}")] = implementation.into();
            shown[format!("enabled_{field}s")] = [implementation].into_iter().collect();
        }
    }
    shown
}
