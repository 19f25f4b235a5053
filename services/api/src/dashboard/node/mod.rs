//! A node: where it stands, how it came there, and what can be done.

mod act;
mod form;
mod history;
mod panels;
mod verb;
mod waterfall;

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use bessemer_access::{Role, Who};
use bessemer_domain::ids::NodeId;
use bessemer_domain::{State as ClusterState, Subject};
use bessemer_ledger::StoredEvent;
use bessemer_proto::v1;
use bessemer_wire::Failure;
use futures::FutureExt;
use maud::html;

use super::layout::{self, Page, Section, Tab};
use super::problem::Problem;
use super::{Dashboard, Shared, live as stream};
use crate::ledger_error;
use crate::reference::NodeReference;

pub(super) use act::act;
pub(super) use form::form;

/// Newest events of a node that its page is made from. A deployment has about thirty.
const EVENTS_SHOWN: u64 = 200;

/// How often a node's page is looked at: conductors tell of progress three times a second.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// What a node's page is made from.
struct Known {
    node: v1::Node,
    ports: Vec<String>,
    /// The newest, oldest first.
    events: Vec<StoredEvent>,
}

/// `GET /nodes/{node}`
pub(super) async fn page(
    State(dashboard): Shared,
    Extension(who): Extension<Who>,
    Path(reference): Path<String>,
) -> Result<Html<String>, Problem> {
    shown(&dashboard, &who, &reference, None)
}

/// `GET /nodes/{node}/live`
pub(super) async fn live(
    State(dashboard): Shared,
    Extension(who): Extension<Who>,
    Path(reference): Path<String>,
) -> Result<Response, Problem> {
    let id = dashboard.api.ledger.look(|state| found(state, &reference))?;
    let (shared, may_act) = (Arc::clone(&dashboard), may_act(&who));
    let render = Box::new(move || {
        let dashboard = Arc::clone(&shared);
        let sections = async move {
            match known(&dashboard, id) {
                Ok(known) => sections(&known, may_act),
                Err(problem) => {
                    vec![Section::new("head", html! { p.chip.failed { (problem.message()) } })]
                }
            }
        };
        sections.boxed()
    });
    Ok(stream::sections(&dashboard, LOOK_EVERY, render).into_response())
}

/// The page, below what went wrong with what was asked for on it.
fn shown(
    dashboard: &Dashboard,
    who: &Who,
    reference: &str,
    problem: Option<&Problem>,
) -> Result<Html<String>, Problem> {
    let id = dashboard.api.ledger.look(|state| found(state, reference))?;
    let known = known(dashboard, id)?;
    let live = format!("/nodes/{id}/live");
    let title = known.label().to_owned();
    let page = Page { tab: Tab::None, title: &title, live: Some(&live), scripts: &[] };
    let main = html! {
        @if let Some(problem) = problem {
            div.panel.problem role="alert" {
                p { b { "Not done: " } (problem.message()) }
                p.note { code { (problem.reason()) } }
            }
        }
        @for section in sections(&known, may_act(who)) { (layout::placed(&section)) }
    };
    Ok(Html(page.with(&dashboard.api, &main).into_string()))
}

fn found(state: &ClusterState, reference: &str) -> Result<NodeId, Failure> {
    let reference: NodeReference = reference.parse()?;
    Ok(reference.find(state)?.id)
}

fn known(dashboard: &Dashboard, id: NodeId) -> Result<Known, Problem> {
    let api = &dashboard.api;
    let (node, ports, version) = api.ledger.look(|state| {
        let node = state.node(id).ok_or_else(|| Failure::not_found("node", &id.to_string()))?;
        let ports = state.ports_of(id).map(|port| port.spec.address.to_string()).collect();
        Ok::<_, Failure>((api.node_message(state, node), ports, node.version))
    })?;
    let subject = Subject::Node(id);
    let (mut after, mut events) = (version.saturating_sub(EVENTS_SHOWN), Vec::new());
    while after < version {
        let batch = api.ledger.subject_events_after(&subject, after, EVENTS_SHOWN as usize);
        let batch = batch.map_err(ledger_error::loading)?;
        if batch.is_empty() {
            break;
        }
        after += batch.len() as u64;
        events.extend(batch);
    }
    Ok(Known { node, ports, events })
}

impl Known {
    fn metadata(&self) -> v1::Metadata {
        self.node.metadata.clone().unwrap_or_default()
    }

    fn status(&self) -> v1::NodeStatus {
        self.node.status.clone().unwrap_or_default()
    }

    /// The name, or the id of a node without one.
    fn label(&self) -> &str {
        match &self.node.metadata {
            Some(metadata) if metadata.name.is_empty() => &metadata.id,
            Some(metadata) => &metadata.name,
            None => "",
        }
    }
}

/// Whether somebody is to be offered what changes anything.
fn may_act(who: &Who) -> bool {
    match who {
        Who::Unasked(_) => true,
        Who::Nobody => false,
        Who::Known(identity) => matches!(identity.role, Role::Admin | Role::Operator),
    }
}

fn sections(known: &Known, may_act: bool) -> Vec<Section> {
    let events = history::read(&known.events);
    vec![
        Section::new("head", panels::head(known, may_act)),
        Section::new("waiting", panels::waiting(known)),
        Section::new("waterfall", waterfall::waterfall(&events)),
        Section::new("facts", panels::facts(known)),
        Section::new("history", history::history(&events, known)),
    ]
}
