//! Conductors, as Ironic shows them.

use axum::extract::{Path, Query as Pairs};
use axum::http::StatusCode;
use axum::response::Response;
use bessemer_domain::conductor::Conductor;

use super::Shared;
use super::answer;
use super::asked::Asked;
use super::fault::Fault;
use super::node::at;
use super::node::interfaces::hardware_type;
use super::query::Query;
use super::resource::{Context, Field, Resource, Row};
use crate::api::Freshness;

/// The version of the API that shows conductors.
const SINCE: u16 = 49;

const CONDUCTOR: Resource<Conductor> =
    Resource::new("conductors", FIELDS, |conductor| conductor.id.to_string());

type F = Field<Conductor>;

const FIELDS: &[F] = &[
    F::new("hostname", SINCE, |conductor, _| conductor.id.as_str().into()).summary(),
    F::new("conductor_group", SINCE, |conductor, _| {
        conductor.registration.conductor_group.as_str().into()
    })
    .summary(),
    F::new("alive", SINCE, |conductor, _| conductor.online.into()).unsortable().summary(),
    F::new("drivers", SINCE, |conductor, _| {
        conductor.registration.hardware_types.iter().map(|name| hardware_type(name)).collect()
    })
    .unsortable(),
    F::new("updated_at", SINCE, |conductor, _| at(conductor.since)),
];

/// `GET /v1/conductors`
pub(super) async fn list(
    rest: Shared,
    asked: Asked,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    check_version(&asked)?;
    let mut query = Query::new(pairs.clone());
    let listing = CONDUCTOR.listing(&mut query, &asked, false)?;
    query.finish()?;
    let state = rest.api.state(Freshness::Latest).await?;
    let context = Context { state: &state, asked: &asked };
    let page = listing.page(state.conductors(), &context, "conductors", &pairs)?;
    Ok(answer::written(StatusCode::OK, page))
}

/// `GET /v1/conductors/{hostname}`
pub(super) async fn show(
    rest: Shared,
    asked: Asked,
    Path(hostname): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    check_version(&asked)?;
    let mut query = Query::new(pairs);
    let columns = CONDUCTOR.columns(&mut query, &asked)?;
    query.finish()?;
    let state = rest.api.state(Freshness::Latest).await?;
    let found = state.conductors().find(|conductor| conductor.id.as_str() == hostname);
    let item = found.ok_or_else(|| Fault::not_found(format!("no conductor `{hostname}`")))?;
    let context = Context { state: &state, asked: &asked };
    let row = Row { resource: &CONDUCTOR, columns: &columns, item, context: &context };
    Ok(answer::ok(&row))
}

fn check_version(asked: &Asked) -> Result<(), Fault> {
    if asked.version.0 >= SINCE {
        return Ok(());
    }
    Err(Fault::not_found(format!("conductors need version 1.{SINCE} of the API")))
}
