//! `…/traits`: words for what a node has.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::Response;
use bessemer_domain::node::Trait;
use bessemer_proto::v1;
use bessemer_proto::v1::node_service_server::NodeService;
use prost_types::FieldMask;
use serde_json::{Value, json};

use super::{fields, reference};
use crate::api::Freshness;
use crate::rest::Shared;
use crate::rest::answer;
use crate::rest::asked::Asked;
use crate::rest::body::Body;
use crate::rest::fault::Fault;

const SINCE: u16 = 37;

/// `GET /v1/nodes/{node}/traits`
pub(in crate::rest) async fn list(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
) -> Result<Response, Fault> {
    check(&asked)?;
    let state = rest.api.state(Freshness::Latest).await?;
    Ok(answer::ok(&json!({ "traits": fields::traits(reference(&node)?.find(&state)?) })))
}

/// `PUT /v1/nodes/{node}/traits`
pub(in crate::rest) async fn replace(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
    body: Body,
) -> Result<StatusCode, Fault> {
    let wrong = || Fault::bad_request("traits is required: a list of texts");
    let Some(Value::Array(traits)) = body.object()?.remove("traits") else { return Err(wrong()) };
    let traits = traits.into_iter().map(|it| it.as_str().map(str::to_owned).ok_or_else(wrong));
    set(&rest, &asked, &node, &body, "spec.traits".to_owned(), traits.collect::<Result<_, _>>()?)
        .await
}

/// `DELETE /v1/nodes/{node}/traits`
pub(in crate::rest) async fn clear(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
    body: Body,
) -> Result<StatusCode, Fault> {
    set(&rest, &asked, &node, &body, "spec.traits".to_owned(), Vec::new()).await
}

/// `PUT /v1/nodes/{node}/traits/{trait}`
pub(in crate::rest) async fn add(
    rest: Shared,
    asked: Asked,
    Path((node, word)): Path<(String, String)>,
    body: Body,
) -> Result<StatusCode, Fault> {
    let word: Trait = word.parse()?;
    set(&rest, &asked, &node, &body, format!("spec.traits.{word}"), vec![word.to_string()]).await
}

/// `DELETE /v1/nodes/{node}/traits/{trait}`
pub(in crate::rest) async fn remove(
    rest: Shared,
    asked: Asked,
    Path((node, word)): Path<(String, String)>,
    body: Body,
) -> Result<StatusCode, Fault> {
    {
        let state = rest.api.state(Freshness::Latest).await?;
        let found = reference(&node)?;
        let found = found.find(&state)?;
        if !found.spec.traits.iter().any(|it| it.as_str() == word) {
            let message = format!("node `{node}` does not have the trait `{word}`");
            return Err(Fault::not_found(message));
        }
    }
    set(&rest, &asked, &node, &body, format!("spec.traits.{word}"), Vec::new()).await
}

async fn set(
    rest: &Shared,
    asked: &Asked,
    node: &str,
    body: &Body,
    path: String,
    traits: Vec<String>,
) -> Result<StatusCode, Fault> {
    check(asked)?;
    let message = v1::UpdateNodeRequest {
        command_id: asked.command_id(&body.0, ""),
        node: reference(node)?.to_string(),
        version: asked.expected_version(),
        name: String::new(),
        spec: Some(v1::NodeSpec { traits, ..v1::NodeSpec::default() }),
        update_mask: Some(FieldMask { paths: vec![path] }),
    };
    rest.api.update_node(asked.by(message)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn check(asked: &Asked) -> Result<(), Fault> {
    if asked.version.0 < SINCE { Err(Fault::since("traits", SINCE)) } else { Ok(()) }
}
