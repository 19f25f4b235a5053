//! The cluster itself: members, conductors, image caches.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{Html, Response};
use bessemer_ledger::{MemberStatus, Status};
use bessemer_proto::v1;
use bessemer_wire::{conductor, quantity};
use futures::FutureExt;
use maud::{Markup, html};

use super::layout::{self, Page, Section, Tab, code, facts, text};
use super::{Dashboard, Shared, live as stream};
use crate::image::Held;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// `GET /cluster`
pub(super) async fn page(State(dashboard): Shared) -> Html<String> {
    let sections = sections(&dashboard).await;
    let page =
        Page { tab: Tab::Cluster, title: "Cluster", live: Some("/cluster/live"), scripts: &[] };
    Html(page.of(&dashboard.api, &sections).into_string())
}

/// `GET /cluster/live`
pub(super) async fn live(State(dashboard): Shared) -> Response {
    let shared = Arc::clone(&dashboard);
    let render = move || {
        let dashboard = Arc::clone(&shared);
        async move { sections(&dashboard).await }.boxed()
    };
    stream::sections(&dashboard, LOOK_EVERY, Box::new(render))
}

async fn sections(dashboard: &Dashboard) -> Vec<Section> {
    let api = &dashboard.api;
    let (state, status) = (api.ledger.state(), api.ledger.status());
    let all = api.ledger.members().await;
    let conductors = conductor::all_to_proto(&state);
    let caches = api.image_caches.held().await;
    let id = state.cluster_id().map(|id| id.to_string()).unwrap_or_default();
    vec![
        Section::new(
            "summary",
            html! {
                div.head { h1 { "Cluster" } (code(&id)) }
                (summary(&status, state.tip().revision.0, &state.tip().hash.to_string()))
            },
        ),
        Section::new("members", members(&all)),
        Section::new("conductors", self::conductors(&conductors)),
        Section::new("caches", self::caches(&caches)),
        Section::new("charts", dashboard.samples.ledger_charts()),
    ]
}

fn summary(status: &Status, revision: u64, hash: &str) -> Markup {
    let index = |index: Option<u64>| text(&layout::grouped(index.unwrap_or_default()));
    html! {
        section.panel.summary {
            (facts(vec![
                ("This member", html! { (status.member_id) }),
                ("Leader", match status.leader { Some(leader) => html! { "member " (leader) }, None => html! { span.chip.failed { "none" } } }),
                ("Term", html! { (status.term) }),
                ("Revision", text(&layout::grouped(revision))),
                ("Log", html! { (index(status.first_log_index)) " – " (index(status.last_log_index)) }),
                ("Applied", index(status.applied_index)),
                ("Snapshot", index(status.snapshot_index)),
                ("Version", text(env!("CARGO_PKG_VERSION"))),
                ("Waits for", text(status.waits_for.as_deref().unwrap_or_default())),
                ("Newest hash", code(&hash[..16])),
            ]))
        }
    }
}

fn members(members: &[MemberStatus]) -> Markup {
    let number = |number: Option<u64>| number.map_or_else(|| "–".to_owned(), layout::grouped);
    html! {
        section.panel {
            h2 { "Members" }
            div.scroll tabindex="0" { table {
                thead { tr { th.right { "Id" } th { "Address" } th { "Role" } th { "Up" } th.right { "Log held up to" } th.right { "Behind by" } } }
                tbody { @for member in members { tr {
                    td.right { (member.id) }
                    td { code { (member.address) } }
                    td { @if member.leader { span.chip.active { "leader" } } @else if member.voter { "voter" } @else { "learner" } }
                    td { @match member.up { Some(true) => "yes", Some(false) => span.chip.failed { "no" }, None => span.note { "unknown" } } }
                    td.right { (number(member.matched_index)) }
                    td.right { (number(member.lag)) }
                } } }
            } }
        }
    }
}

fn conductors(conductors: &[v1::Conductor]) -> Markup {
    let total: u64 = conductors.iter().map(|conductor| conductor.node_count).sum();
    html! {
        section.panel {
            h2 { "Conductors" }
            @if conductors.is_empty() { p.note { "None has registered yet." } } @else {
                div.scroll tabindex="0" { table {
                    thead { tr { th { "Conductor" } th { "State" } th { "Since" } th { "Group" } th { "Hardware types" } th.right { "Nodes" } th { "Share" } th.right { "To hand over" } th { "Agents call" } } }
                    tbody { @for conductor in conductors { tr {
                        td { (conductor.id) }
                        td { (standing(conductor)) }
                        td { (layout::ago(conductor.since.as_ref())) }
                        td { (conductor.conductor_group) }
                        td { (conductor.hardware_types.join(", ")) }
                        td.right { (layout::grouped(conductor.node_count)) }
                        td.nowrap { meter min="0" max=(total.max(1)) value=(conductor.node_count) {} " " (quantity::percent(conductor.node_count, total)) " %" }
                        td.right { (conductor.handing_over_count) }
                        td { code { (conductor.address) } }
                    } } }
                } }
                p.note { "How far each is with publishing events to NATS is among its metrics: bessemer_conductor_unpublished_subjects." }
            }
        }
    }
}

fn standing(conductor: &v1::Conductor) -> Markup {
    match (conductor.online, conductor.draining) {
        (true, false) => html! { span.chip.active { "online" } },
        (true, true) => html! { span.chip.busy { "draining" } },
        (false, _) => html! { span.chip.failed { "offline" } },
    }
}

fn caches(caches: &[Held]) -> Markup {
    html! {
        section.panel {
            h2 { "Image caches" }
            @if caches.is_empty() { p.note { "This member has none in image_caches." } } @else {
                div.scroll tabindex="0" { table {
                    thead { tr { th { "Cache" } th { "State" } th.right { "Images" } th.right { "Stored" } } }
                    tbody { @for cache in caches { tr {
                        td { code { (cache.url) } }
                        @match &cache.images {
                            Ok(images) => {
                                td { span.chip.active { "answers" } }
                                td.right { (images.len()) }
                                td.right { (quantity::bytes(stored_bytes(images))) }
                            }
                            Err(error) => { td colspan="3" { span.chip.failed { "does not answer" } " " span.note { (error) } } }
                        }
                    } } }
                } }
            }
        }
    }
}

/// Images that are the same are stored once.
fn stored_bytes(images: &[v1::Image]) -> u64 {
    let resolved = images.iter().filter_map(|image| image.resolved.as_ref());
    let by_id: std::collections::BTreeMap<_, _> =
        resolved.map(|image| (&image.id, image.pack_size_bytes)).collect();
    by_id.values().sum()
}
