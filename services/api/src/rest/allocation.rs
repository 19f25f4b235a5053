//! Allocations: nodes for those who say what they need.

use axum::extract::{Path, Query as Pairs};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::Response;
use bessemer_domain::State;
use bessemer_domain::allocation::{Allocation, AllocationOutcome};
use bessemer_proto::v1;
use bessemer_proto::v1::allocation_service_server::AllocationService;
use bessemer_wire::json as wire_json;
use serde_json::Value;

use super::Shared;
use super::answer;
use super::asked::Asked;
use super::body::Body;
use super::fault::Fault;
use super::node::{at, reference};
use super::query::Query;
use super::resource::{Columns, Context, Field, Resource, Row};
use crate::allocation::find;
use crate::api::Freshness;

const SINCE: u16 = 52;
const BACKFILL_SINCE: u16 = 58;

/// Allocations.
const ALLOCATION: Resource<Allocation> =
    Resource::new("allocations", FIELDS, |allocation| allocation.id.to_string());

type F = Field<Allocation>;

const FIELDS: &[F] = &[
    F::new("uuid", SINCE, |it, _| it.id.to_string().into()).summary(),
    F::new("name", SINCE, |it, _| text(it.spec.name.as_ref().map(ToString::to_string))).summary(),
    F::new("resource_class", SINCE, |it, _| text(Some(it.spec.resource_class.clone()))).summary(),
    F::new("state", SINCE, |it, _| it.outcome.as_str().into()).summary(),
    F::new("node_uuid", SINCE, |it, _| text(it.outcome.node().map(|node| node.to_string())))
        .summary(),
    F::new("last_error", SINCE, |it, _| match &it.outcome {
        AllocationOutcome::Active(_) => Value::Null,
        AllocationOutcome::Error(reason) => reason.as_str().into(),
    }),
    F::new("traits", SINCE, |it, _| it.spec.traits.iter().map(ToString::to_string).collect())
        .unsortable(),
    F::new("candidate_nodes", SINCE, |it, _| {
        it.spec.candidate_nodes.iter().map(ToString::to_string).collect()
    })
    .unsortable(),
    F::new("owner", 60, |it, _| text(Some(it.spec.owner.clone()))),
    F::new("extra", SINCE, |it, _| it.spec.extra.clone().into()).unsortable(),
    F::new("created_at", SINCE, |it, _| at(it.created_at)),
    F::new(
        "updated_at",
        SINCE,
        |it, _| if it.version > 1 { at(it.updated_at) } else { Value::Null },
    ),
];

/// Ironic has null where there is nothing.
fn text(text: Option<String>) -> Value {
    text.filter(|text| !text.is_empty()).map_or(Value::Null, Value::from)
}

fn check(asked: &Asked) -> Result<(), Fault> {
    if asked.version.0 < SINCE { Err(Fault::since("allocations", SINCE)) } else { Ok(()) }
}

/// `GET /v1/allocations`
pub(super) async fn list(
    rest: Shared,
    asked: Asked,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    check(&asked)?;
    let mut query = Query::new(pairs.clone());
    let listing = ALLOCATION.listing(&mut query, &asked, true)?;
    let (class, wanted) = (query.take("resource_class"), query.take("state"));
    let (owner, node) = (query.take("owner"), query.take("node"));
    query.finish()?;
    let state = rest.api.state(Freshness::Latest).await?;
    let node = node.map(|node| Ok::<_, Fault>(reference(&node)?.find(&state)?.id)).transpose()?;
    let is_wanted = |it: &&Allocation| {
        class.as_ref().is_none_or(|class| it.spec.resource_class == *class)
            && owner.as_ref().is_none_or(|owner| it.spec.owner == *owner)
            && wanted.as_ref().is_none_or(|wanted| it.outcome.as_str() == wanted)
            && node.is_none_or(|node| it.outcome.node() == Some(node))
    };
    let context = Context { state: &state, asked: &asked };
    let allocations = state.allocations_after(None).filter(is_wanted);
    let page = listing.page(allocations, &context, "allocations", &pairs)?;
    Ok(answer::written(StatusCode::OK, page))
}

/// `GET /v1/allocations/{allocation}`
pub(super) async fn show(
    rest: Shared,
    asked: Asked,
    Path(allocation): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    check(&asked)?;
    let mut query = Query::new(pairs);
    let columns = ALLOCATION.columns(&mut query, &asked)?;
    query.finish()?;
    let state = rest.api.state(Freshness::Latest).await?;
    Ok(shown(StatusCode::OK, find(&state, &allocation)?, &columns, &state, &asked))
}

/// `GET /v1/nodes/{node}/allocation`
pub(super) async fn of_node(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
) -> Result<Response, Fault> {
    check(&asked)?;
    let state = rest.api.state(Freshness::Latest).await?;
    let held = reference(&node)?.find(&state)?.allocation;
    let Some(allocation) = held.and_then(|id| state.allocation(id)) else {
        return Err(Fault::not_found(format!("node `{node}` has no allocation")));
    };
    Ok(shown(StatusCode::OK, allocation, &ALLOCATION.all(asked.version), &state, &asked))
}

/// `POST /v1/allocations`
pub(super) async fn create(rest: Shared, asked: Asked, body: Body) -> Result<Response, Fault> {
    check(&asked)?;
    let message = described(&asked, &body)?;
    let created = rest.api.create_allocation(asked.by(message)).await?.into_inner();
    let id = created.metadata.unwrap_or_default().id;
    rest.api.ledger.look(|state| {
        let columns = ALLOCATION.all(asked.version);
        let found = find(state, &id)?;
        let mut response = shown(StatusCode::CREATED, found, &columns, state, &asked);
        answer::set(&mut response, LOCATION, &asked.link(&format!("allocations/{id}")));
        Ok(response)
    })
}

/// `DELETE /v1/allocations/{allocation}`
pub(super) async fn delete(
    rest: Shared,
    asked: Asked,
    Path(allocation): Path<String>,
) -> Result<StatusCode, Fault> {
    check(&asked)?;
    let command_id = asked.command_id(&[], "");
    let message = v1::DeleteAllocationRequest { command_id, allocation };
    rest.api.delete_allocation(asked.by(message)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/nodes/{node}/allocation`
pub(super) async fn delete_of_node(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
) -> Result<StatusCode, Fault> {
    let held = reference(&node)?.find(&rest.api.state(Freshness::Latest).await?)?.allocation;
    let Some(allocation) = held else {
        return Err(Fault::not_found(format!("node `{node}` has no allocation")));
    };
    delete(rest, asked, Path(allocation.to_string())).await
}

/// The allocation that a body describes.
fn described(asked: &Asked, body: &Body) -> Result<v1::CreateAllocationRequest, Fault> {
    let mut message = v1::CreateAllocationRequest {
        command_id: asked.command_id(&body.0, ""),
        ..v1::CreateAllocationRequest::default()
    };
    let spec = message.spec.get_or_insert_default();
    for (field, value) in body.object()? {
        match (field.as_str(), value) {
            (_, Value::Null) => {}
            ("owner", _) if asked.version.0 < 60 => return Err(Fault::since("field `owner`", 60)),
            ("node", _) if asked.version.0 < BACKFILL_SINCE => {
                return Err(Fault::since("field `node`", BACKFILL_SINCE));
            }
            ("uuid", Value::String(id)) => message.id = id,
            ("name", Value::String(name)) => message.name = name,
            ("node", Value::String(node)) => message.node = node,
            ("resource_class", Value::String(class)) => spec.resource_class = class,
            ("owner", Value::String(owner)) => spec.owner = owner,
            ("extra", Value::Object(extra)) => spec.extra = Some(wire_json::to_proto(&extra)),
            ("traits", value) => spec.traits = texts("traits", value)?,
            ("candidate_nodes", value) => spec.candidate_nodes = texts("candidate_nodes", value)?,
            (_, value) => {
                let message = format!("{field} `{value}` is not supported, or of another type");
                return Err(Fault::bad_request(message));
            }
        }
    }
    Ok(message)
}

fn texts(field: &str, value: Value) -> Result<Vec<String>, Fault> {
    serde_json::from_value(value)
        .map_err(|_| Fault::bad_request(format!("{field} is not a list of texts")))
}

fn shown(
    status: StatusCode,
    allocation: &Allocation,
    columns: &Columns<Allocation>,
    state: &State,
    asked: &Asked,
) -> Response {
    let context = Context { state, asked };
    let row = Row { resource: &ALLOCATION, columns, item: allocation, context: &context };
    answer::with(status, &row)
}
