//! Ports: the network interfaces of nodes.

use axum::extract::{Path, Query as Pairs};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::Response;
use bessemer_domain::port::{MacAddress, Port};
use bessemer_proto::v1;
use bessemer_proto::v1::port_service_server::PortService;
use bessemer_wire::json as wire_json;
use serde_json::{Value, json};

use super::Shared;
use super::answer;
use super::asked::Asked;
use super::body::Body;
use super::fault::Fault;
use super::node::{at, reference};
use super::query::Query;
use super::resource::{Context, Field, Resource, Row};
use crate::api::Freshness;
use crate::reference::PortReference;

/// Ports.
const PORT: Resource<Port> = Resource::new("ports", FIELDS, |port| port.id.to_string());

type F = Field<Port>;

const FIELDS: &[F] = &[
    F::new("uuid", 1, |port, _| port.id.to_string().into()).summary(),
    F::new("address", 1, |port, _| port.spec.address.to_string().into()).summary(),
    F::new("node_uuid", 1, |port, _| port.spec.node.to_string().into()),
    F::new("extra", 1, |port, _| port.spec.extra.clone().into()).unsortable(),
    F::new("pxe_enabled", 19, |port, _| port.spec.pxe_enabled.into()),
    F::new("physical_network", 34, |port, _| {
        let network = &port.spec.physical_network;
        if network.is_empty() { Value::Null } else { network.as_str().into() }
    }),
    F::new("created_at", 1, |port, _| at(port.created_at)),
    F::new(
        "updated_at",
        1,
        |port, _| {
            if port.version > 1 { at(port.updated_at) } else { Value::Null }
        },
    ),
    // What a port of this cluster never has.
    F::new("internal_info", 18, |_, _| json!({})).unsortable(),
    F::new("local_link_connection", 19, |_, _| json!({})).unsortable(),
    F::new("portgroup_uuid", 24, |_, _| Value::Null),
    F::new("is_smartnic", 53, |_, _| false.into()),
    F::new("name", 88, |_, _| Value::Null),
    F::new("description", 97, |_, _| Value::Null),
    F::new("vendor", 100, |_, _| Value::Null),
    F::new("category", 101, |_, _| Value::Null),
    F::new("available_for_dynamic_portgroup", 111, |_, _| false.into()),
];

/// `GET /v1/ports`
pub(super) async fn list(
    rest: Shared,
    asked: Asked,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    page(&rest, &asked, pairs, false, None).await
}

/// `GET /v1/ports/detail`
pub(super) async fn detail(
    rest: Shared,
    asked: Asked,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    page(&rest, &asked, pairs, true, None).await
}

/// `GET /v1/nodes/{node}/ports`
pub(super) async fn of_node(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    page(&rest, &asked, pairs, false, Some(node)).await
}

async fn page(
    rest: &Shared,
    asked: &Asked,
    pairs: Vec<(String, String)>,
    detailed: bool,
    of_node: Option<String>,
) -> Result<Response, Fault> {
    let mut query = Query::new(pairs.clone());
    let listing = PORT.listing(&mut query, asked, detailed)?;
    let address = query.take("address").map(|it| it.parse::<MacAddress>()).transpose()?;
    let path = match &of_node {
        Some(node) => format!("nodes/{node}/ports"),
        None if detailed => "ports/detail".to_owned(),
        None => "ports".to_owned(),
    };
    let by_uuid = query.take("node_uuid");
    let node = of_node.or_else(|| query.take("node")).or(by_uuid);
    query.finish()?;
    let state = rest.api.state(Freshness::Latest).await?;
    let node = node.map(|node| Ok::<_, Fault>(reference(&node)?.find(&state)?.id)).transpose()?;
    let wanted = |port: &&Port| {
        address.is_none_or(|address| port.spec.address == address)
            && node.is_none_or(|node| port.spec.node == node)
    };
    let context = Context { state: &state, asked };
    let ports = state.ports_after(None).filter(wanted);
    Ok(answer::written(StatusCode::OK, listing.page(ports, &context, &path, &pairs)?))
}

/// `GET /v1/ports/{port}`
pub(super) async fn show(
    rest: Shared,
    asked: Asked,
    Path(port): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    let mut query = Query::new(pairs);
    let columns = PORT.columns(&mut query, &asked)?;
    query.finish()?;
    let port: PortReference = port.parse()?;
    let state = rest.api.state(Freshness::Latest).await?;
    let context = Context { state: &state, asked: &asked };
    let row =
        Row { resource: &PORT, columns: &columns, item: port.find(&state)?, context: &context };
    Ok(answer::ok(&row))
}

/// `POST /v1/ports`
pub(super) async fn create(rest: Shared, asked: Asked, body: Body) -> Result<Response, Fault> {
    let message = described(&asked, &body)?;
    let created = rest.api.create_port(asked.by(message)).await?.into_inner();
    let created: PortReference = created.metadata.unwrap_or_default().id.parse()?;
    let columns = PORT.all(asked.version);
    rest.api.ledger.look(|state| {
        let port = created.find(state)?;
        let context = Context { state, asked: &asked };
        let row = Row { resource: &PORT, columns: &columns, item: port, context: &context };
        let mut response = answer::with(StatusCode::CREATED, &row);
        answer::set(&mut response, LOCATION, &asked.link(&format!("ports/{}", port.id)));
        Ok(response)
    })
}

/// The port that a body describes.
fn described(asked: &Asked, body: &Body) -> Result<v1::CreatePortRequest, Fault> {
    let mut message = v1::CreatePortRequest {
        command_id: asked.command_id(&body.0, ""),
        ..v1::CreatePortRequest::default()
    };
    let spec = message.spec.get_or_insert_default();
    for (field, value) in body.object()? {
        let Some(known) = PORT.fields.iter().find(|it| it.name == field) else {
            return Err(Fault::bad_request(format!("`{field}` is no field of a port")));
        };
        if known.since > asked.version.0 {
            return Err(Fault::since(&format!("field `{field}`"), known.since));
        }
        match (field.as_str(), value) {
            (_, Value::Null) => {}
            ("uuid", Value::String(id)) => message.id = id,
            ("address", Value::String(address)) => spec.address = address,
            ("node_uuid", Value::String(node)) => message.node = node,
            ("extra", Value::Object(extra)) => spec.extra = Some(wire_json::to_proto(&extra)),
            ("pxe_enabled", Value::Bool(enabled)) => spec.pxe_enabled = Some(enabled),
            ("physical_network", Value::String(network)) => spec.physical_network = network,
            ("local_link_connection", Value::Object(link)) if link.is_empty() => {}
            ("is_smartnic" | "available_for_dynamic_portgroup", Value::Bool(false)) => {}
            (_, value) => {
                let message = format!("{field} `{value}` is not supported, or of another type");
                return Err(Fault::bad_request(message));
            }
        }
    }
    if message.node.is_empty() {
        return Err(Fault::bad_request("node_uuid is required"));
    }
    Ok(message)
}

/// `DELETE /v1/ports/{port}`
pub(super) async fn delete(
    rest: Shared,
    asked: Asked,
    Path(port): Path<String>,
) -> Result<StatusCode, Fault> {
    let message = v1::DeletePortRequest { command_id: asked.command_id(&[], ""), port };
    rest.api.delete_port(asked.by(message)).await?;
    Ok(StatusCode::NO_CONTENT)
}
