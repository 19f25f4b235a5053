//! The history of the cluster: searched, page by page, newest first.

mod search;

use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use bessemer_domain::{Event, EventRecord, Subject};
use bessemer_wire::{event, words};
use maud::{Markup, html};
use serde::Deserialize;

use self::search::{Found, Search};
use super::layout::{self, Page, Tab};
use super::problem::Problem;
use super::{Dashboard, Shared};

/// Events of a page.
const PAGE: usize = 100;

/// Events of an export; who wants all of history has `bessemer event export`.
const EXPORTED_MAX: usize = 10_000;

/// Characters of a text in a record that are shown: a config drive has millions.
const TEXT_SHOWN_MAX: usize = 400;

/// What is looked for, as the form has it. All that are given must hold.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    /// Name or id of a node.
    node: String,
    /// Type of event, or its beginning.
    kind: String,
    /// Part of who sent the command.
    actor: String,
    /// Oldest and newest revision.
    from: String,
    to: String,
}

/// `GET /events`
pub(super) async fn page(
    State(dashboard): Shared,
    Query(fields): Query<Fields>,
) -> Result<Html<String>, Problem> {
    let found = find(&dashboard, &fields, PAGE)?;
    let main = html! {
        (form(&fields))
        section.panel {
            (table(&found, &fields))
            (older(&found, &fields))
        }
        p.note {
            a href=(format!("/events.jsonl?{}", query(&fields, None))) { "These as JSON lines" } ", secrets masked, at most " (EXPORTED_MAX)
            ". All of history, with the hashes that prove it: " code { "bessemer event export FILE" }
        }
    };
    let page = Page { tab: Tab::Events, title: "Events", live: None, scripts: &[] };
    Ok(Html(page.with(&dashboard.api, &main).into_string()))
}

/// `GET /events.jsonl`
pub(super) async fn export(
    State(dashboard): Shared,
    Query(fields): Query<Fields>,
) -> Result<Response, Problem> {
    let mut found = find(&dashboard, &fields, EXPORTED_MAX)?.events;
    found.reverse();
    let mut lines = String::new();
    for (_, stored) in &found {
        let record = serde_json::Value::Object(event::masked_record(&stored.record)?);
        lines.push_str(&record.to_string());
        lines.push('\n');
    }
    let headers = [
        (header::CONTENT_TYPE, "application/jsonl"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"events.jsonl\""),
    ];
    Ok((headers, lines).into_response())
}

fn find(dashboard: &Dashboard, fields: &Fields, count: usize) -> Result<Found, Problem> {
    let state = dashboard.api.ledger.state();
    let search = Search::try_new(fields, &state)?;
    Ok(search.run(&dashboard.api.ledger, &state, count)?)
}

fn form(fields: &Fields) -> Markup {
    html! {
        form.filters method="get" action="/events" role="search" {
            h1 { "Events" }
            label.field { span { "Node" } input name="node" value=(fields.node) placeholder="name or UUID"; }
            label.field { span { "Type" } input name="kind" value=(fields.kind) placeholder="node.step" list="kinds"; }
            label.field { span { "Actor" } input name="actor" value=(fields.actor); }
            label.field { span { "From revision" } input.number name="from" value=(fields.from) inputmode="numeric" pattern="[0-9]*"; }
            label.field { span { "to" } input.number name="to" value=(fields.to) inputmode="numeric" pattern="[0-9]*"; }
            datalist #kinds { @for kind in KINDS { option value=(kind) {} } }
            button { "Search" }
        }
    }
}

/// Beginnings that are of use; every type can be typed.
const KINDS: [&str; 8] = [
    "node.provision_state_changed",
    "node.deployment_requested",
    "node.step_",
    "node.step_failed",
    "node.power_",
    "node.maintenance_",
    "conductor.",
    "cluster.",
];

fn table(found: &Found, fields: &Fields) -> Markup {
    html! {
        @if found.events.is_empty() { p.note { "No event is so." } } @else {
            div.scroll tabindex="0" { table.history {
                thead { tr { th.right { "Revision" } th { "When (UTC)" } th { "Subject" } th { "Type" } th { "What" } th { "Who" } } }
                tbody { @for (record, stored) in &found.events { tr {
                    td.right { (record.revision) }
                    td.nowrap { (layout::instant(record.at)) }
                    td.nowrap { (subject(&record.subject, found)) }
                    td.nowrap { a href=(format!("/events?{}", query(&Fields { kind: record.event.name().to_owned(), ..fields.clone() }, None))) { (record.event.name()) } }
                    td { details { summary { (described(record)) } pre { (masked_text(&stored.record)) } } }
                    td { (record.actor) }
                } } }
            } }
        }
    }
}

fn subject(subject: &Subject, found: &Found) -> Markup {
    match subject {
        Subject::Node(id) => {
            let name = found.names.get(id);
            html! { a href=(format!("/nodes/{id}")) { "node " (name.map_or_else(|| id.to_string()[..8].to_owned(), Clone::clone)) } }
        }
        Subject::Port(id) => html! { "port " code { (id.to_string()[..8]) } },
        Subject::Allocation(id) => html! { "allocation " code { (id.to_string()[..8]) } },
        Subject::Template(id) => html! { "template " code { (id.to_string()[..8]) } },
        Subject::Conductor(id) => html! { "conductor " (id) },
        Subject::Cluster => html! { "cluster" },
    }
}

fn older(found: &Found, fields: &Fields) -> Markup {
    let Some(older) = found.older else { return html! {} };
    html! { p { a.button href=(format!("/events?{}", query(fields, Some(older)))) rel="next" { "Older" } } }
}

/// The form's fields for a URL; `to` replaces the newest revision.
fn query(fields: &Fields, to: Option<u64>) -> String {
    let to = to.map_or_else(|| fields.to.clone(), |to| to.to_string());
    let pairs = [
        ("node", &fields.node),
        ("kind", &fields.kind),
        ("actor", &fields.actor),
        ("from", &fields.from),
        ("to", &to),
    ];
    let given = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    let encoded = given.map(|(name, value)| {
        let value = value.bytes().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        });
        format!("{name}={}", value.collect::<String>())
    });
    encoded.collect::<Vec<_>>().join("&")
}

/// What an event means, in one line.
pub(super) fn described(record: &EventRecord) -> String {
    let data = serde_json::to_value(&record.event).ok();
    let data = data.and_then(|event| event.get("data").cloned()).unwrap_or_default();
    // A change of state tells what moved the node, too.
    match &record.event {
        Event::ProvisionStateChanged { trigger, .. } => {
            format!("{} ({trigger})", words::describe(record.event.name(), &data))
        }
        event => words::describe(event.name(), &data),
    }
}

/// A stored record to be read by a person: secrets masked, long texts cut.
pub(super) fn masked_text(stored: &[u8]) -> String {
    match event::masked_record(stored) {
        Ok(record) => {
            let mut record = serde_json::Value::Object(record);
            cut(&mut record);
            serde_json::to_string_pretty(&record).unwrap_or_default()
        }
        Err(failure) => failure.to_string(),
    }
}

fn cut(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            let characters = text.chars().count();
            if characters > TEXT_SHOWN_MAX {
                let shown: String = text.chars().take(TEXT_SHOWN_MAX).collect();
                *text = format!("{shown}… ({characters} characters)");
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(cut),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(cut),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_searched_for_survives_the_way_through_a_url() {
        let fields = Fields { node: "a&b=c é".into(), from: "7".into(), ..Fields::default() };
        assert_eq!(query(&fields, Some(9)), "node=a%26b%3Dc%20%C3%A9&from=7&to=9");
        assert_eq!(query(&Fields::default(), None), "");
    }

    #[test]
    fn a_record_is_shown_without_its_secrets_and_long_texts() {
        let long = "x".repeat(TEXT_SHOWN_MAX + 1);
        let stored = format!(r#"{{"a":{{"ipmi_password":"hunter2"}},"b":["{long}"]}}"#);
        let shown = masked_text(stored.as_bytes());
        assert!(!shown.contains("hunter2") && shown.contains("401 characters"), "{shown}");
    }
}
