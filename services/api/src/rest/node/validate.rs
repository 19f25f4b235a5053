//! `…/validate`: what a node lacks to be deployed, interface by interface, as far as that is known without touching it.

use axum::extract::Path;
use axum::response::Response;
use bessemer_domain::State;
use bessemer_domain::node::Node;
use bessemer_wire::{Failure, deployment};
use serde_json::{Map, Value, json};

use super::deployment::{Brought, described};
use super::interfaces::{KINDS, implementation};
use super::reference;
use crate::api::Freshness;
use crate::rest::Shared;
use crate::rest::answer;
use crate::rest::asked::Asked;
use crate::rest::fault::Fault;

/// `GET /v1/nodes/{node}/validate`
pub(in crate::rest) async fn validate(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
) -> Result<Response, Fault> {
    let node = reference(&node)?;
    let state = rest.api.state(Freshness::Latest).await?;
    let node = node.find(&state)?;
    let shown = KINDS.iter().filter(|(_, since)| *since <= asked.version.0);
    let mut verdicts: Map<_, _> = shown
        .map(|(field, _)| {
            let interface = field.trim_end_matches("_interface");
            (interface.to_owned(), verdict(&state, node, field))
        })
        .collect();
    verdicts.insert("boot".to_owned(), told(&driven(&state, node)));
    verdicts.insert("deploy".to_owned(), told(&deploy(node)));
    Ok(answer::ok(&verdicts))
}

fn verdict(state: &State, node: &Node, field: &str) -> Value {
    let implementation = implementation(&node.spec.driver, field);
    if implementation.starts_with("no-") {
        return json!({ "result": null, "reason": "not supported" });
    }
    told(&match field {
        "power_interface" => power(node),
        "management_interface" | "inspect_interface" => driven(state, node),
        _ => Ok(()),
    })
}

fn told(verdict: &Result<(), String>) -> Value {
    match verdict {
        Ok(()) => json!({ "result": true }),
        Err(reason) => json!({ "result": false, "reason": reason }),
    }
}

/// Whether `instance_info` describes a deployment that would be accepted.
fn deploy(node: &Node) -> Result<(), String> {
    let default = node.spec.deploy_interface();
    let check = || -> Result<(), Fault> {
        let spec = described(node, Brought::default())?;
        deployment::spec_from_proto(&spec, default).map_err(Failure::from)?;
        Ok(())
    };
    check().map_err(|fault| fault.message().to_owned())
}

/// Whether the power was ever seen: credentials are tried by `manage`.
fn power(node: &Node) -> Result<(), String> {
    match (node.power.state, &node.last_error) {
        (Some(_), _) => Ok(()),
        (None, Some(error)) => Err(error.clone()),
        (None, None) => Err("its power has not been seen yet; `manage` looks at it".to_owned()),
    }
}

/// Whether there is anybody to do it.
fn driven(state: &State, node: &Node) -> Result<(), String> {
    match state.owner(node) {
        Some(_) => Ok(()),
        None => Err("no conductor that can drive it is online".to_owned()),
    }
}
