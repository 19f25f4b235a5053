//! Nodes: enrolled, listed, shown, changed and forgotten as Ironic's clients do it.

mod config_drive;
mod deployment;
mod fields;
mod filter;
pub(super) mod history;
pub(super) mod interfaces;
pub(super) mod inventory;
mod patch;
mod settings;
pub(super) mod states;
pub(super) mod traits;
pub(super) mod validate;

use axum::extract::{Path, Query as Pairs};
use axum::http::StatusCode;
use axum::http::header::{ETAG, LOCATION};
use axum::response::Response;
use bessemer_domain::State;
use bessemer_domain::ids::NodeId;
use bessemer_domain::node::Node;
use bessemer_proto::v1;
use bessemer_proto::v1::node_service_server::NodeService;
use bessemer_wire::ErrorCode;
use serde_json::Value;

use self::fields::NODE;
pub(super) use self::fields::at;
use self::filter::Filter;
use self::settings::{Draft, setting};
use super::Shared;
use super::answer;
use super::asked::Asked;
use super::body::Body;
use super::fault::Fault;
use super::query::Query;
use super::resource::{Columns, Context, Row};
use crate::api::Freshness;
use crate::reference::NodeReference;

/// The node that a path or a parameter names.
pub(super) fn reference(text: &str) -> Result<NodeReference, Fault> {
    Ok(text.parse()?)
}

/// `GET /v1/nodes`
pub(super) async fn list(
    rest: Shared,
    asked: Asked,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    page(&rest, &asked, pairs, false).await
}

/// `GET /v1/nodes/detail`
pub(super) async fn detail(
    rest: Shared,
    asked: Asked,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    page(&rest, &asked, pairs, true).await
}

async fn page(
    rest: &Shared,
    asked: &Asked,
    pairs: Vec<(String, String)>,
    detailed: bool,
) -> Result<Response, Fault> {
    let mut query = Query::new(pairs.clone());
    let listing = NODE.listing(&mut query, asked, detailed)?;
    let filter = Filter::try_new(&mut query, asked.version.0)?;
    query.finish()?;
    let state = rest.api.state(Freshness::Latest).await?;
    let context = Context { state: &state, asked };
    let nodes = state.nodes().filter(|node| filter.matches(node, &context));
    let path = if detailed { "nodes/detail" } else { "nodes" };
    Ok(answer::written(StatusCode::OK, listing.page(nodes, &context, path, &pairs)?))
}

/// `GET /v1/nodes/{node}`
pub(super) async fn show(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    let mut query = Query::new(pairs);
    let columns = NODE.columns(&mut query, &asked)?;
    query.finish()?;
    let node = reference(&node)?;
    let state = rest.api.state(Freshness::Latest).await?;
    Ok(shown(
        StatusCode::OK,
        node.find(&state)?,
        &columns,
        &Context { state: &state, asked: &asked },
    ))
}

/// `POST /v1/nodes`
pub(super) async fn create(rest: Shared, asked: Asked, body: Body) -> Result<Response, Fault> {
    let mut fields = body.object()?;
    let id = match fields.remove("uuid") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(id)) => id,
        Some(other) => return Err(Fault::bad_request(format!("uuid `{other}` is not a UUID"))),
    };
    let driver = fields.get("driver").and_then(Value::as_str).unwrap_or_default();
    let driver = interfaces::driver(driver).to_owned();
    let mut draft = Draft::default();
    for (field, value) in &fields {
        // Null says no more than silence, in every version.
        if !value.is_null() {
            draft.set(field, setting(field, asked.version)?, value, &driver)?;
        }
    }
    let message = v1::CreateNodeRequest {
        command_id: asked.command_id(&body.0, ""),
        id,
        name: draft.name,
        spec: Some(draft.spec),
        port_addresses: Vec::new(),
    };
    let created = rest.api.create_node(asked.by(message)).await?.into_inner();
    let created = created.metadata.unwrap_or_default().id;
    let location = asked.link(&format!("nodes/{created}"));
    let mut response = committed(&rest, &asked, &created, StatusCode::CREATED)?;
    answer::set(&mut response, LOCATION, &location);
    Ok(response)
}

/// `PATCH /v1/nodes/{node}`
pub(super) async fn update(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
    body: Body,
) -> Result<Response, Fault> {
    let mut query = Query::new(pairs);
    // Interfaces follow the hardware type anyway.
    query.take_flag("reset_interfaces")?;
    query.finish()?;
    let (id, change) = {
        let state = rest.api.state(Freshness::Latest).await?;
        let node = reference(&node)?;
        let node = node.find(&state)?;
        let row = Row {
            resource: &NODE,
            columns: &NODE.all(super::version::Microversion::MAX),
            item: node,
            context: &Context { state: &state, asked: &asked },
        };
        let shown = serde_json::to_value(row).expect("keys are texts");
        let shown = shown.as_object().expect("a row is an object");
        (node.id, patch::apply(shown, body.json()?, asked.version)?)
    };
    let mut version = asked.expected_version();
    if !change.mask.paths.is_empty() {
        let message = v1::UpdateNodeRequest {
            command_id: asked.command_id(&body.0, ""),
            node: id.to_string(),
            version,
            name: change.name,
            spec: Some(change.spec),
            update_mask: Some(change.mask),
        };
        version = rest.api.update_node(asked.by(message)).await?.into_inner().version;
        version = if asked.expected_version() == 0 { 0 } else { version };
    }
    if let Some(maintenance) = change.maintenance {
        let message = v1::SetNodeMaintenanceRequest {
            command_id: asked.command_id(&body.0, "maintenance"),
            node: id.to_string(),
            version,
            maintenance,
            reason: String::new(),
        };
        rest.api.set_node_maintenance(asked.by(message)).await?;
    }
    committed(&rest, &asked, &id.to_string(), StatusCode::OK)
}

/// `DELETE /v1/nodes/{node}`
pub(super) async fn delete(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
) -> Result<StatusCode, Fault> {
    let message = v1::DeleteNodeRequest {
        command_id: asked.command_id(&[], ""),
        node: reference(&node)?.to_string(),
        version: asked.expected_version(),
    };
    match rest.api.delete_node(asked.by(message)).await {
        Ok(_) => Ok(StatusCode::NO_CONTENT),
        Err(status) => {
            let fault = Fault::from(status);
            Err(fault.with_status(ErrorCode::IllegalTransition, StatusCode::CONFLICT))
        }
    }
}

/// `PUT /v1/nodes/{node}/maintenance`
pub(super) async fn set_maintenance(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
    body: Body,
) -> Result<StatusCode, Fault> {
    let reason = match body.optional_object()?.remove("reason") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(reason)) => reason,
        Some(other) => return Err(Fault::bad_request(format!("reason `{other}` is not a text"))),
    };
    maintain(&rest, &asked, &node, &body, Some(reason)).await
}

/// `DELETE /v1/nodes/{node}/maintenance`
pub(super) async fn clear_maintenance(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
    body: Body,
) -> Result<StatusCode, Fault> {
    maintain(&rest, &asked, &node, &body, None).await
}

async fn maintain(
    rest: &Shared,
    asked: &Asked,
    node: &str,
    body: &Body,
    reason: Option<String>,
) -> Result<StatusCode, Fault> {
    let message = v1::SetNodeMaintenanceRequest {
        command_id: asked.command_id(&body.0, ""),
        node: reference(node)?.to_string(),
        version: asked.expected_version(),
        maintenance: reason.is_some(),
        reason: reason.unwrap_or_default(),
    };
    rest.api.set_node_maintenance(asked.by(message)).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The node after a command that this member has applied.
fn committed(
    rest: &Shared,
    asked: &Asked,
    id: &str,
    status: StatusCode,
) -> Result<Response, Fault> {
    let columns = NODE.all(asked.version);
    let id: NodeId = id.parse()?;
    rest.api.ledger.look(|state: &State| {
        let node = NodeReference::Id(id).find(state)?;
        Ok(shown(status, node, &columns, &Context { state, asked }))
    })
}

fn shown(
    status: StatusCode,
    node: &Node,
    columns: &Columns<Node>,
    context: &Context<'_>,
) -> Response {
    let row = Row { resource: &NODE, columns, item: node, context };
    let mut response = answer::with(status, &row);
    answer::set(&mut response, ETAG, &format!("\"{}\"", node.version));
    response
}
