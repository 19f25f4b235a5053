//! The documents by which clients find out what is served: `/` and `/v1`.

use axum::response::Response;
use serde_json::{Value, json};

use super::answer;
use super::asked::Asked;
use super::resource::links;
use super::version::Microversion;

/// What `/v1` names, and the version of the API that it came with.
const RESOURCES: &[(&str, u16)] =
    &[("allocations", 52), ("conductors", 49), ("drivers", 1), ("nodes", 1), ("ports", 1)];

/// `GET /`
pub(super) async fn index(asked: Asked) -> Response {
    answer::ok(&json!({
        "name": "OpenStack Ironic API",
        "description": "Bessemer provisions bare metal; this is Ironic's API to it.",
        "default_version": version(&asked),
        "versions": [version(&asked)],
    }))
}

/// `GET /v1`
pub(super) async fn v1(asked: Asked) -> Response {
    let mut document = json!({
        "id": "v1",
        "links": [{ "href": format!("{}/v1/", asked.base), "rel": "self" }],
        "media_types": {
            "base": "application/json",
            "type": "application/vnd.openstack.ironic.v1+json",
        },
        "version": version(&asked),
    });
    for (name, _) in RESOURCES.iter().filter(|(_, since)| *since <= asked.version.0) {
        document[*name] = links(&asked, &format!("{name}/"));
    }
    answer::ok(&document)
}

fn version(asked: &Asked) -> Value {
    json!({
        "id": "v1",
        "links": [{ "href": format!("{}/v1/", asked.base), "rel": "self" }],
        "status": "CURRENT",
        "min_version": Microversion::MIN.to_string(),
        "version": Microversion::MAX.to_string(),
    })
}
