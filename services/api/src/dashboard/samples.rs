//! How the fleet and the ledger fared over the last hour, as this member saw it. Soft state: gone with the process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bessemer_domain::node::{PlanKind, ProvisionState};
use bessemer_domain::{State, Timestamp};
use bessemer_wire::quantity;
use maud::{Markup, html};
use tokio::time::{MissedTickBehavior, interval};

use super::Dashboard;
use super::chart::{self, Line};
use super::phase::Phase;
use crate::api::now;

/// How often a sample is taken.
const EVERY: Duration = Duration::from_secs(5);

/// How many are kept: an hour.
const KEPT: usize = 720;

/// One look.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Nodes in each phase, in the order of [`Phase::ALL`].
    nodes: [u64; Phase::ALL.len()],
    /// Deployments that were completed since the sample before.
    completed: u64,
    commits: crate::commit::Latency,
}

/// The newest samples, oldest first.
#[derive(Debug, Default)]
pub(super) struct Samples {
    kept: Mutex<VecDeque<Sample>>,
}

/// Takes samples for as long as the dashboard is served.
pub(super) async fn run(dashboard: Arc<Dashboard>) {
    let mut looks = interval(EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut before = now();
    loop {
        looks.tick().await;
        let at = now();
        let commits = dashboard.api.commits.take_latency();
        let sample = dashboard.api.ledger.look(|state| Sample::of(state, before, commits));
        before = at;
        let mut kept = dashboard.samples.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(sample);
    }
}

impl Sample {
    fn of(state: &State, before: Timestamp, commits: crate::commit::Latency) -> Self {
        let mut sample = Self { nodes: Default::default(), completed: 0, commits };
        for node in state.nodes() {
            let phase = Phase::of(node.provision.state);
            if let Some(place) = Phase::ALL.iter().position(|known| *known == phase) {
                sample.nodes[place] += 1;
            }
            let deployed = node.plan.as_ref().is_some_and(|plan| plan.kind == PlanKind::Deploy);
            let is_new = node.provision.since >= before;
            sample.completed +=
                u64::from(node.provision.state == ProvisionState::Active && deployed && is_new);
        }
        sample
    }
}

impl Samples {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn series(&self, value: impl Fn(&Sample) -> f64) -> Vec<f64> {
        self.lock().iter().map(value).collect()
    }

    /// How long the samples go back, in words.
    fn span(&self) -> String {
        quantity::duration(EVERY * u32::try_from(self.lock().len()).unwrap_or(u32::MAX))
    }

    /// Nodes by phase, and deployments completed.
    pub(super) fn fleet_charts(&self) -> Markup {
        let phases: Vec<_> = Phase::ALL
            .iter()
            .enumerate()
            .map(|(place, phase)| Line {
                name: phase.name(),
                class: phase.name(),
                values: self.series(|sample| sample.nodes[place] as f64),
            })
            .collect();
        let completed = Line {
            name: "completed",
            class: "active",
            values: self.series(|sample| sample.completed as f64),
        };
        let total: f64 = completed.values.iter().sum();
        html! {
            div.charts {
                (chart::stacked("Nodes by phase", &format!("last {}", self.span()), &phases))
                (chart::bars("Deployments completed", &format!("{total} in the last {}", self.span()), &completed))
            }
        }
    }

    /// Commands and how long they took to be committed.
    pub(super) fn ledger_charts(&self) -> Markup {
        let milliseconds = |latency: Duration| latency.as_secs_f64() * 1000.0;
        let half = self.series(|sample| milliseconds(sample.commits.median));
        let slow = self.series(|sample| milliseconds(sample.commits.p99));
        let count = self.series(|sample| sample.commits.count as f64 / EVERY.as_secs_f64());
        let now = |values: &[f64]| values.last().copied().unwrap_or_default();
        let latency = if now(&count) > 0.0 {
            format!("half within {:.1} ms, 99 % within {:.1} ms", now(&half), now(&slow))
        } else {
            "no command now".to_owned()
        };
        let rate = format!("{:.1} in a second now, by way of this member", now(&count));
        let lines = [
            Line { name: "99 %", class: "busy", values: slow },
            Line { name: "half", class: "active", values: half },
        ];
        html! {
            div.charts {
                (chart::lines("Commit latency", &latency, "ms", &lines))
                (chart::bars("Commands", &rate, &Line { name: "per second", class: "ready", values: count }))
            }
        }
    }
}
