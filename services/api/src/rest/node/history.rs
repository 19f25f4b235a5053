//! `…/history`: what has happened to a node, from the ledger's events of it.

use axum::extract::{Path, Query as Pairs};
use axum::response::Response;
use bessemer_domain::ids::NodeId;
use bessemer_domain::node::JsonMap;
use bessemer_domain::{Subject, Timestamp};
use bessemer_ledger::Ledger;
use bessemer_wire::event::masked_record;
use bessemer_wire::words;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fields::at;
use super::reference;
use crate::api::Freshness;
use crate::ledger_error;
use crate::rest::Shared;
use crate::rest::answer;
use crate::rest::asked::Asked;
use crate::rest::fault::Fault;
use crate::rest::query::Query;
use crate::rest::resource::LIMIT_MAX;

/// The version of the API that has histories, and that which tells states.
const SINCE: u16 = 78;
const STATES_SINCE: u16 = 115;

/// Events that are read at once.
const BATCH: usize = 1000;

/// Longest text of an event in a list, as in Ironic.
const CHARACTERS_MAX: usize = 255;

/// Kinds of events that are worth an entry, with Ironic's severities.
const KINDS: &[(&str, &str)] = &[
    ("node.provision_state_changed", "INFO"),
    ("node.step_failed", "ERROR"),
    ("node.power_failed", "ERROR"),
    ("node.plan_aborted", "ERROR"),
];

/// `GET /v1/nodes/{node}/history`
pub(in crate::rest) async fn list(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Result<Response, Fault> {
    let mut query = Query::new(pairs);
    let detail = query.take_flag("detail")?.unwrap_or_default();
    let limit = query.take_number("limit")?.unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
    let marker = query.take("marker");
    let descending = query.take("sort_dir").as_deref() == Some("desc");
    match query.take("sort_key").as_deref() {
        None | Some("created_at" | "id") => {}
        Some(other) => {
            return Err(Fault::bad_request(format!("sort_key `{other}` is not created_at")));
        }
    }
    query.finish()?;
    let node = known(&rest, &asked, &node).await?;
    let mut entries = entries(&rest.api.ledger, node)?;
    if descending {
        entries.reverse();
    }
    let first = match &marker {
        None => 0,
        Some(marker) => {
            let place = entries.iter().position(|entry| entry.id().to_string() == *marker);
            let wrong = || Fault::bad_request(format!("marker `{marker}` is no entry of it"));
            place.ok_or_else(wrong)? + 1
        }
    };
    let rest_of = &entries[first..];
    let page = &rest_of[..rest_of.len().min(limit)];
    let shown: Vec<_> = page.iter().map(|entry| entry.show(&asked, detail)).collect();
    let mut list = json!({ "history": shown });
    if let Some(last) = page.last().filter(|_| page.len() < rest_of.len()) {
        let direction = if descending { "desc" } else { "asc" };
        list["next"] = asked
            .link(&format!(
                "nodes/{node}/history?detail={detail}&sort_dir={direction}&limit={limit}&marker={}",
                last.id()
            ))
            .into();
    }
    Ok(answer::ok(&list))
}

/// `GET /v1/nodes/{node}/history/{entry}`
pub(in crate::rest) async fn show(
    rest: Shared,
    asked: Asked,
    Path((node, entry)): Path<(String, String)>,
) -> Result<Response, Fault> {
    let node = known(&rest, &asked, &node).await?;
    let entries = entries(&rest.api.ledger, node)?;
    let found = entries.iter().find(|it| it.id().to_string() == entry.to_ascii_lowercase());
    let missing = || Fault::not_found(format!("history of node {node} has no entry `{entry}`"));
    Ok(answer::ok(&found.ok_or_else(missing)?.show(&asked, true)))
}

async fn known(rest: &Shared, asked: &Asked, node: &str) -> Result<NodeId, Fault> {
    if asked.version.0 < SINCE {
        return Err(Fault::not_found(format!("histories need version 1.{SINCE} of the API")));
    }
    let node = reference(node)?;
    let state = rest.api.state(Freshness::Latest).await?;
    Ok(node.find(&state)?.id)
}

/// Something that has happened.
struct Entry {
    node: NodeId,
    sequence: u64,
    severity: &'static str,
    kind: String,
    record: JsonMap,
}

/// The node's events of the kinds that are shown, oldest first.
fn entries(ledger: &Ledger, node: NodeId) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::new();
    let mut sequence = 0;
    loop {
        let batch = ledger.subject_events_after(&Subject::Node(node), sequence, BATCH);
        let batch = batch.map_err(ledger_error::loading)?;
        if batch.is_empty() {
            return Ok(entries);
        }
        for stored in batch {
            let record = masked_record(&stored.record)?;
            sequence = record.get("sequence").and_then(Value::as_u64).unwrap_or(u64::MAX);
            let kind = record["event"]["type"].as_str().unwrap_or_default().to_owned();
            let severity = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, it)| *it);
            if let Some(severity) = severity {
                entries.push(Entry { node, sequence, severity, kind, record });
            }
        }
    }
}

impl Entry {
    /// Made of the node's id and the event's place in its history.
    fn id(&self) -> Uuid {
        /// The bits by which a UUID tells its variant.
        const VARIANT: u64 = 0b10 << 62;
        let (node, _) = self.node.as_uuid().as_u64_pair();
        Uuid::from_u64_pair(node, VARIANT | self.sequence)
    }

    fn show(&self, asked: &Asked, detail: bool) -> Value {
        let data = &self.record["event"]["data"];
        let mut event = words::describe(&self.kind, data);
        if !detail && event.chars().count() > CHARACTERS_MAX {
            event = event.chars().take(CHARACTERS_MAX - 4).chain("...".chars()).collect();
        }
        let created_at = self.record.get("at").and_then(Value::as_u64).unwrap_or_default();
        let path = format!("nodes/{}/history/{}", self.node, self.id());
        let mut entry = json!({
            "uuid": self.id(),
            "created_at": at(Timestamp::from_micros(created_at)),
            "severity": self.severity,
            "event": event,
            "links": [{ "href": asked.link(&path), "rel": "self" }],
        });
        if detail {
            entry["event_type"] = self.kind.as_str().into();
            entry["conductor"] = Value::Null;
            entry["user"] = self.record.get("actor").cloned().unwrap_or_default();
        }
        if detail && asked.version.0 >= STATES_SINCE {
            entry["state"] = data.get("to").cloned().unwrap_or_default();
            entry["target_provision_state"] = data.get("target").cloned().unwrap_or_default();
        }
        entry
    }
}
