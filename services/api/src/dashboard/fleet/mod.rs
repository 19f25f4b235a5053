//! The fleet: every node as a cell of a map, and as a line of a list.

mod changes;
mod row;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Response};
use bessemer_domain::State as ClusterState;
use bessemer_domain::node::{Node, ProvisionState};
use bessemer_wire::time;
use maud::{Markup, html};
use serde::Deserialize;

use super::layout::{self, Page, Section, Tab};
use super::phase::Phase;
use super::{Dashboard, Shared, live as stream};

/// Lines of the list without scripts; a search narrows it.
const LISTED_MAX: usize = 100;

/// What is looked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Search {
    /// Part of a name, or of an id.
    q: String,
    /// A provision state.
    state: String,
}

impl Search {
    fn matches(&self, node: &Node) -> bool {
        let wanted = self.q.trim().to_lowercase();
        let named = |name: &str| name.to_lowercase().contains(&wanted);
        (self.state.is_empty() || self.state == node.provision.state.as_str())
            && (wanted.is_empty()
                || node.name.as_ref().is_some_and(|name| named(name.as_str()))
                || node.id.to_string().starts_with(&wanted))
    }
}

/// `GET /`
pub(super) async fn page(State(dashboard): Shared, Query(search): Query<Search>) -> Html<String> {
    let state = dashboard.api.ledger.state();
    let main = html! {
        (filters(&state, &search))
        section.panel #map aria-label="Map of the fleet" hidden {
            div #cells {}
            p.note #pointed aria-live="polite" { "Point at a cell, or move with the arrow keys; Enter opens the node." }
        }
        (layout::placed(&charts(&dashboard)))
        (list(&state, &search))
    };
    let page = Page {
        tab: Tab::Fleet,
        title: "Fleet",
        live: Some("/fleet/live"),
        scripts: &["map.js", "fleet.js"],
    };
    Html(page.with(&dashboard.api, &main).into_string())
}

/// `GET /fleet.json`: all rows at once, for the map.
pub(super) async fn snapshot(State(dashboard): Shared) -> Response {
    let state = dashboard.api.ledger.state();
    // Tens of thousands of rows take a moment.
    let made = tokio::task::spawn_blocking(move || row::snapshot(&state).to_string()).await;
    let headers = [(axum::http::header::CONTENT_TYPE, "application/json")];
    (headers, made.unwrap_or_default()).into_response()
}

/// `GET /fleet/live`: rows as they change.
pub(super) async fn live(State(dashboard): Shared) -> Response {
    let changes = changes::follow(Arc::clone(&dashboard));
    stream::answer(&dashboard, changes)
}

fn filters(state: &ClusterState, search: &Search) -> Markup {
    let mut counts = BTreeMap::<ProvisionState, u64>::new();
    for node in state.nodes() {
        *counts.entry(node.provision.state).or_default() += 1;
    }
    let total: u64 = counts.values().sum();
    html! {
        form.filters action="/" method="get" role="search" {
            h1 { "Fleet" }
            label.field {
                span.hidden { "Name or UUID" }
                input #search type="search" name="q" value=(search.q) placeholder="Name or UUID" autocomplete="off";
            }
            label.field #grouping hidden {
                "grouped by "
                select #group {
                    option value="" { "nothing" }
                    option value="group" { "conductor group" }
                    option value="conductor" { "conductor" }
                    option value="class" { "resource class" }
                }
            }
            noscript { button { "Search" } }
        }
        div.states #states role="group" aria-label="Nodes by provision state" {
            a.state href="/" data-state="" aria-current=[search.state.is_empty().then_some("true")] {
                "all " b { (layout::grouped(total)) }
            }
            @for state in ProvisionState::ALL {
                @let count = counts.get(state).copied().unwrap_or_default();
                a class={ "state " (Phase::of(*state).name()) } href=(format!("/?state={}", state.as_str().replace(" ", "+"))) data-state=(state)
                    aria-current=[(search.state == state.as_str()).then_some("true")] hidden[count == 0] {
                    span.mark aria-hidden="true" { (Phase::of(*state).mark()) }
                    (state) " " b { (layout::grouped(count)) }
                }
            }
        }
    }
}

fn list(state: &ClusterState, search: &Search) -> Markup {
    let found: Vec<_> = state.nodes().filter(|node| search.matches(node)).collect();
    let said = if found.is_empty() && state.node_count() == 0 {
        "No node is enrolled yet: bessemer node create --name m1 --driver fake --port 52:54:00:00:00:01".to_owned()
    } else {
        format!("{} of {} nodes", found.len().min(LISTED_MAX), found.len())
    };
    html! {
        section.panel aria-label="List of nodes" {
            p.note #listed { (said) }
            div.scroll tabindex="0" {
                table #list {
                    thead { tr {
                        th { "Node" } th { "State" } th.right { "For" } th { "Waits for" }
                        th { "Group" } th { "Class" } th { "Conductor" }
                    } }
                    tbody {
                        @for node in found.into_iter().take(LISTED_MAX) { (line(state, node)) }
                    }
                }
            }
        }
    }
}

fn line(state: &ClusterState, node: &Node) -> Markup {
    let wait = bessemer_domain::effects::waiting_on(state, node);
    html! {
        tr {
            td { a href=(format!("/nodes/{}", node.id)) { (node.label()) } }
            td { (layout::state_chip(node.provision.state.as_str())) @if node.maintenance.is_some() { " " span.chip { "maintenance" } } }
            td.right { (layout::lasting(Some(&time::to_proto(node.provision.since)))) }
            td { @if let Some(wait) = wait { (wait.what) } }
            td { (node.spec.conductor_group) }
            td { (node.spec.resource_class) }
            td { @if let Some(owner) = state.owner(node) { (owner) } }
        }
    }
}

/// Shown beside the map.
pub(super) fn charts(dashboard: &Dashboard) -> Section {
    Section::new("charts", dashboard.samples.fleet_charts())
}
