//! Config drives over HTTP, for BMCs that show them to machines as a virtual USB stick.
//!
//! Made anew for each request from the state, byte for byte alike, so any conductor can serve any node's. The deployment's
//! id is all that one must know, as with an image's URL; it is drawn at random, and callers of the API can see the
//! config drive anyway.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bessemer_domain::ids::CommandId;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_range_header::parse_range_header;

use crate::replica::Replica;
use crate::steps::config_drive_iso;

/// The path of a deployment's config drive.
pub(crate) fn path(deployment: CommandId) -> String {
    format!("/v1/config-drives/{deployment}.iso")
}

pub(crate) fn router(replica: Replica) -> Router {
    Router::new().route("/v1/config-drives/{name}", get(serve)).with_state(Arc::new(replica))
}

async fn serve(
    State(replica): State<Arc<Replica>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Some(iso) = find(&replica, &name) else { return StatusCode::NOT_FOUND.into_response() };
    match iso {
        Ok(iso) => answer(iso, headers.get(header::RANGE)),
        Err(message) => (StatusCode::INTERNAL_SERVER_ERROR, message).into_response(),
    }
}

fn find(replica: &Replica, name: &str) -> Option<Result<Vec<u8>, String>> {
    let id: CommandId = name.strip_suffix(".iso")?.parse().ok()?;
    let state = replica.state();
    let is_it = |deployment: &bessemer_domain::node::Deployment| deployment.id == id;
    let node = state.nodes().find(|node| node.deployment.as_ref().is_some_and(is_it))?;
    config_drive_iso(node)
}

/// All of it, or the one range that is asked for: BMCs read as the machine does.
fn answer(iso: Vec<u8>, range: Option<&HeaderValue>) -> Response {
    let total = iso.len() as u64;
    let accepts = [(header::ACCEPT_RANGES, "bytes")];
    let asked =
        range.and_then(|range| range.to_str().ok()).and_then(|it| parse_range_header(it).ok());
    let Some(asked) = asked else { return (accepts, iso).into_response() };
    match asked.validate(total).as_deref() {
        Ok([range]) => {
            let told = format!("bytes {}-{}/{total}", range.start(), range.end());
            let (first, last) = (*range.start() as usize, *range.end() as usize);
            let part = iso.get(first..=last).unwrap_or_default().to_vec();
            (StatusCode::PARTIAL_CONTENT, accepts, [(header::CONTENT_RANGE, told)], part)
                .into_response()
        }
        // Several at once may be answered as none (RFC 9110, 14.2).
        Ok(_) => (accepts, iso).into_response(),
        Err(_) => {
            let told = [(header::CONTENT_RANGE, format!("bytes */{total}"))];
            (StatusCode::RANGE_NOT_SATISFIABLE, told).into_response()
        }
    }
}
