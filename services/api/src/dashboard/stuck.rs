//! The nodes that wait, those first that have least time left: what for, and what to do.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{Html, Response};
use bessemer_domain::effects::{self, WaitingOn};
use bessemer_domain::node::{Node, Step};
use bessemer_domain::{State as ClusterState, Timestamp};
use bessemer_wire::time;
use futures::FutureExt;
use maud::{Markup, html};

use super::layout::{self, Page, Section, Tab};
use super::{Dashboard, Shared, live as stream};
use crate::api::now;
use crate::wait;

/// Lines that are shown; whoever has more of them looks at their conductors first.
const SHOWN_MAX: usize = 200;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A node that waits.
struct Line {
    id: String,
    label: String,
    state: String,
    wait: WaitingOn,
    /// The part of its time that is over; none when nothing bounds the wait.
    used: Option<f64>,
    advice: &'static str,
    conductor: String,
}

/// How soon a person should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// A person has it so.
    Maintenance,
    /// Ends by itself; thousandths of its time that are over.
    Bounded(u32),
    /// No deadline will ever move it on.
    Unbounded,
}

impl Urgency {
    fn of(node: &Node, wait: &WaitingOn, now: Timestamp) -> Self {
        match wait::used(wait, now) {
            _ if node.maintenance.is_some() => Self::Maintenance,
            Some(used) => Self::Bounded((used * 1000.0) as u32),
            None => Self::Unbounded,
        }
    }
}

/// All that wait.
struct Waiting {
    /// Those with least time left.
    lines: Vec<Line>,
    total: usize,
    /// How many are past half of their time.
    late: usize,
}

/// `GET /stuck`
pub(super) async fn page(State(dashboard): Shared) -> Html<String> {
    let page = Page { tab: Tab::Stuck, title: "Waiting", live: Some("/stuck/live"), scripts: &[] };
    Html(page.of(&dashboard.api, &[board(&dashboard)]).into_string())
}

/// `GET /stuck/live`
pub(super) async fn live(State(dashboard): Shared) -> Response {
    let shared = Arc::clone(&dashboard);
    let render = move || {
        let dashboard = Arc::clone(&shared);
        async move { vec![board(&dashboard)] }.boxed()
    };
    stream::sections(&dashboard, LOOK_EVERY, Box::new(render))
}

fn board(dashboard: &Dashboard) -> Section {
    let state = dashboard.api.ledger.state();
    let Waiting { lines, total, late } = waiting(dashboard, &state);
    Section::new(
        "board",
        html! {
            div.head {
                h1 { "Waiting" }
                span.note { (layout::grouped(total as u64)) " nodes wait" }
                @if late > 0 { span.chip.failed { (late) " past half of their time" } }
            }
            section.panel {
                @if lines.is_empty() { p.note { "No node waits for anything." } } @else { (table(&lines)) }
                @if total > lines.len() { p.note { "The " (lines.len()) " with least time left." } }
            }
        },
    )
}

fn table(lines: &[Line]) -> Markup {
    html! {
        div.scroll tabindex="0" { table {
            thead { tr { th { "Node" } th { "State" } th { "Waits for" } th.right { "For" } th.right { "Given up" } th { "Time used" } th { "What to do" } th { "Conductor" } } }
            tbody { @for line in lines { tr {
                td { a href=(format!("/nodes/{}", line.id)) { (line.label) } }
                td { (layout::state_chip(&line.state)) }
                td { (line.wait.what) }
                td.right { (layout::lasting(Some(&time::to_proto(line.wait.since)))) }
                td.right { @match line.wait.until { Some(until) => (layout::until(Some(&time::to_proto(until)))), None => span.note { "never" } } }
                td.nowrap { @match line.used {
                    Some(used) => { meter min="0" max="100" low="50" high="80" optimum="0" value=(format!("{:.0}", used * 100.0)) {} " " (format!("{:.0} %", used * 100.0)) }
                    None => span.note { "unbounded" }
                } }
                td { (line.advice) }
                td { (line.conductor) }
            } } }
        } }
    }
}

fn waiting(dashboard: &Dashboard, state: &ClusterState) -> Waiting {
    let now = now();
    let mut waiting: Vec<_> = state
        .nodes()
        .filter_map(|node| {
            let wait = effects::waiting_on(state, node)?;
            let urgency = Urgency::of(node, &wait, now);
            Some((node, wait, urgency))
        })
        .collect();
    waiting.sort_by_key(|(_, wait, urgency)| (Reverse(*urgency), wait.since));
    let total = waiting.len();
    let late = waiting.iter().filter(|(_, wait, _)| wait::is_late(wait, now)).count();
    let lines = waiting.into_iter().take(SHOWN_MAX).map(|(node, wait, _)| Line {
        used: wait::used(&wait, now),
        id: node.id.to_string(),
        label: node.label(),
        state: node.provision.state.to_string(),
        wait: WaitingOn { what: in_line(dashboard, state, node).unwrap_or(wait.what), ..wait },
        advice: advice(state, node),
        conductor: state.owner(node).map(ToString::to_string).unwrap_or_default(),
    });
    Waiting { lines: lines.collect(), total, late }
}

/// Its place in line, if its conductor has told one.
fn in_line(dashboard: &Dashboard, state: &ClusterState, node: &Node) -> Option<String> {
    let status = dashboard.api.node_message(state, node).status?;
    status.progress.as_ref()?.turn?;
    Some(status.waiting_on?.what)
}

/// What an operator looks at.
fn advice(state: &ClusterState, node: &Node) -> &'static str {
    if node.maintenance.is_some() {
        return "End its maintenance when the machine may be worked on again";
    }
    let Some(owner) = state.owner(node) else {
        return "Start a conductor with that group and hardware type, or resume one that is drained";
    };
    if state.claimant(node) != Some(owner) {
        return "Comes by itself within seconds; if not, read that conductor's log";
    }
    if node.power.request.is_some() {
        return "Read the last error: is the BMC reachable, and its login right?";
    }
    match node.current_step() {
        Some((_, _, planned)) => step_advice(&planned.step),
        None => "",
    }
}

const fn step_advice(step: &Step) -> &'static str {
    match step {
        Step::PrepareImage => "See Images: the image cache's log has the source's answers",
        Step::Deploy | Step::PrepareCleaning | Step::PrepareInspection => {
            "Look at the machine's console; it is power-cycled when no agent calls"
        }
        Step::WriteImage => "The agent tries its sources until the deadline; look at its rate",
        Step::EraseDevices => "Overwriting takes hours; abort stops it between two pieces",
        Step::WriteConfigdrive | Step::EraseDevicesMetadata => {
            "Look at the agent on the machine's console"
        }
        _ => "Read the last error: is the BMC reachable, and its login right?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_bounds_comes_first_and_then_what_has_least_time_left() {
        use Urgency::{Bounded, Maintenance, Unbounded};
        let mut all = [Bounded(100), Maintenance, Bounded(900), Unbounded];
        all.sort_by_key(|urgency| Reverse(*urgency));
        assert_eq!(all, [Unbounded, Bounded(900), Bounded(100), Maintenance]);
    }
}
