//! The last plan as a waterfall: its steps and the states that the node went through, on one scale of time.

use std::time::Duration;

use bessemer_domain::node::ProvisionState;
use bessemer_domain::{Event, Timestamp};
use bessemer_wire::quantity;
use maud::{Markup, html};

use super::history::Read;
use crate::api::now;
use crate::dashboard::phase::Phase;

/// What a bar shows.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bar {
    name: String,
    /// Its colour.
    class: &'static str,
    from: Timestamp,
    /// None while it goes on.
    to: Option<Timestamp>,
    /// How it came about, or how it ended.
    cause: String,
}

/// The last plan, and what it did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    kind: String,
    states: Vec<Bar>,
    steps: Vec<Bar>,
}

pub(super) fn waterfall(events: &[Read<'_>]) -> Markup {
    let Some(plan) = Plan::last(events) else { return html! {} };
    let bars = || plan.states.iter().chain(&plan.steps);
    let Some(from) = bars().map(|bar| bar.from).min() else { return html! {} };
    // What goes on is drawn until now, and the page is made anew with it.
    let running = bars().any(|bar| bar.to.is_none());
    let ended = bars().filter_map(|bar| bar.to).max().unwrap_or(from);
    let to = if running { now().max(ended) } else { ended };
    let scale = Scale { from, to };
    html! {
        section.panel {
            h2 { "Last plan: " (plan.kind) " " span.note { @if running { "so far " } (quantity::duration(to.since(from))) } }
            table.waterfall {
                thead.hidden { tr { th { "Step" } th { "Took" } th { "When" } th { "Cause" } } }
                tbody {
                    @for bar in &plan.states { (scale.line(bar, "state")) }
                    @for bar in &plan.steps { (scale.line(bar, "step")) }
                }
            }
        }
    }
}

impl Plan {
    /// From the newest event that started a plan on.
    fn last(events: &[Read<'_>]) -> Option<Self> {
        let start = events
            .iter()
            .rposition(|event| matches!(event.record.event, Event::PlanStarted { .. }))?;
        let mut plan = Self::default();
        // The command that started the plan moved the node a moment before.
        let command = events[start].record.command_id;
        let caused = events.iter().filter(|event| event.record.command_id == command);
        let begin = caused.map(|event| event.record.revision).min()?;
        for event in events.iter().filter(|event| event.record.revision >= begin) {
            plan.note(&event.record.event, event.record.at, &event.record.actor);
        }
        Some(plan)
    }

    fn note(&mut self, event: &Event, at: Timestamp, actor: &str) {
        match event {
            Event::PlanStarted { plan } => self.kind = plan.kind.to_string(),
            Event::ProvisionStateChanged { to, trigger, .. } => {
                end(&mut self.states, at, None);
                if to.is_transient() {
                    let cause = format!("{trigger}, by {actor}");
                    self.states.push(Bar::new(to.to_string(), class(*to), at, cause));
                }
            }
            Event::StepStarted { step, attempt, .. } => match self.steps.last_mut() {
                // Taken over by another conductor.
                Some(bar) if bar.name == *step => {
                    bar.cause = format!("attempt {attempt}, by {actor}");
                }
                Some(_) | None => {
                    let cause = format!("by {actor}");
                    self.steps.push(Bar::new(step.clone(), "busy", at, cause));
                }
            },
            Event::StepCompleted { .. } => end(&mut self.steps, at, Some(("active", None))),
            Event::StepFailed { reason, message, .. } => {
                let cause = format!("{message} ({reason})");
                end(&mut self.steps, at, Some(("failed", Some(cause))));
            }
            Event::PlanAborted { message } => {
                end(&mut self.steps, at, Some(("failed", Some(message.clone()))));
            }
            _ => {}
        }
    }
}

impl Bar {
    const fn new(name: String, class: &'static str, from: Timestamp, cause: String) -> Self {
        Self { name, class, from, to: None, cause }
    }
}

/// Ends the newest bar, if it goes on.
fn end(bars: &mut [Bar], at: Timestamp, outcome: Option<(&'static str, Option<String>)>) {
    if let Some(bar) = bars.last_mut().filter(|bar| bar.to.is_none()) {
        bar.to = Some(at);
        if let Some((class, cause)) = outcome {
            bar.class = class;
            bar.cause = cause.unwrap_or_else(|| bar.cause.clone());
        }
    }
}

fn class(state: ProvisionState) -> &'static str {
    Phase::of(state).name()
}

/// From time to place.
struct Scale {
    from: Timestamp,
    to: Timestamp,
}

impl Scale {
    fn place(&self, at: Timestamp) -> f64 {
        let whole = self.to.since(self.from).max(Duration::from_micros(1));
        at.since(self.from).as_secs_f64() / whole.as_secs_f64() * 100.0
    }

    fn line(&self, bar: &Bar, kind: &str) -> Markup {
        let (from, to) = (self.place(bar.from), self.place(bar.to.unwrap_or(self.to)));
        // What took no time can be seen, too.
        let width = (to - from).max(0.4);
        let took = bar.to.unwrap_or(self.to).since(bar.from);
        html! {
            tr class=(kind) {
                th scope="row" { (bar.name) }
                td.right { (quantity::duration(took)) @if bar.to.is_none() { "…" } }
                td.bars {
                    svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" {
                        rect class={ "bar " (bar.class) } x=(format!("{:.2}", from.min(99.6))) width=(format!("{width:.2}")) y="1" height="8" rx="0.3" {}
                    }
                }
                td.note { (bar.cause) }
            }
        }
    }
}
