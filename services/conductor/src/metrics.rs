//! What this conductor tells monitoring. The list for operators is `docs/metrics.md`.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bessemer_access::Refused;
use bessemer_domain::ids::ConductorId;
use bessemer_domain::node::StepStatus;
use bessemer_domain::{Event, EventRecord, State, Subject};
use bessemer_runtime::monitor::Monitor;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::Context;

type Labels<const N: usize> = [(&'static str, String); N];

/// Counts and gauges. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// This conductor, as history names it.
    actor: String,
    steps: Family<Labels<2>, Counter>,
    step_seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    running: Gauge,
    waiting: Gauge,
    unpublished: Gauge,
    publication_lag: Gauge<f64, AtomicU64>,
    /// Since when there has been something to publish.
    behind_since: Arc<Mutex<Option<Instant>>>,
}

/// From an order to a BMC to the erasing of a large disk.
fn step_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.1, 3.0, 12))
}

impl Metrics {
    pub(crate) fn new(conductor: &ConductorId) -> Self {
        Self {
            actor: format!("conductor/{conductor}"),
            steps: Family::default(),
            step_seconds: Family::new_with_constructor(step_histogram),
            running: Gauge::default(),
            waiting: Gauge::default(),
            unpublished: Gauge::default(),
            publication_lag: Gauge::default(),
            behind_since: Arc::default(),
        }
    }

    /// Counts the end of a step that this conductor reported, once it is history; `state` holds it.
    pub(crate) fn note(&self, state: &State, record: &EventRecord) {
        let (index, step, outcome) = match &record.event {
            Event::StepCompleted { index, step, .. } => (*index, step, "completed"),
            Event::StepFailed { index, step, .. } => (*index, step, "failed"),
            _ => return,
        };
        if record.actor != self.actor {
            return;
        }
        self.steps.get_or_create(&[("step", step.clone()), ("outcome", outcome.to_owned())]).inc();
        if let Some(took) = took(state, &record.subject, index) {
            let seconds = took.as_secs_f64();
            self.step_seconds.get_or_create(&[("step", step.clone())]).observe(seconds);
        }
    }

    /// Notes how much work is in progress, and how much waits for its turn.
    pub(crate) fn work(&self, running: usize, waiting: usize) {
        self.running.set(i64::try_from(running).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Notes how many subjects have events that are not published yet.
    pub(crate) fn unpublished(&self, subjects: usize) {
        self.unpublished.set(i64::try_from(subjects).unwrap_or(i64::MAX));
        let mut since = self.behind_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = if subjects == 0 { None } else { since.or_else(|| Some(Instant::now())) };
    }

    fn publication_lag(&self) -> f64 {
        let since = self.behind_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(0.0, |since| since.elapsed().as_secs_f64())
    }
}

/// How long an ended step took, from its first beginning.
fn took(state: &State, subject: &Subject, index: usize) -> Option<Duration> {
    let Subject::Node(node) = subject else { return None };
    match &state.node(*node)?.plan.as_ref()?.steps.get(index)?.status {
        StepStatus::Done { started_at, finished_at, .. }
        | StepStatus::Failed { started_at, finished_at, .. } => {
            Some(finished_at.since(*started_at))
        }
        StepStatus::Pending | StepStatus::Running { .. } => None,
    }
}

/// The conductor's metrics, and whether it is ready: it holds its lease, without which it does nothing.
pub(crate) fn monitor(context: &Arc<Context>, refused: &Refused) -> Monitor {
    let mut registry = Registry::with_prefix("bessemer_conductor");
    let metrics = context.metrics.clone();
    let (nodes, claimed) = (Gauge::<i64>::default(), Gauge::<i64>::default());
    let (lease, revision) = (Gauge::<i64>::default(), Gauge::<u64, AtomicU64>::default());
    let r = &mut registry;
    refused.register(r);
    r.register("steps", "Steps that ended", metrics.steps.clone());
    r.register("step_seconds", "From a step's beginning to its end", metrics.step_seconds.clone());
    r.register("work_running", "Pieces of work in progress", metrics.running.clone());
    r.register("work_waiting", "Nodes that wait for their turn", metrics.waiting.clone());
    r.register(
        "unpublished_subjects",
        "Subjects with events that are not published",
        metrics.unpublished.clone(),
    );
    r.register(
        "publication_lag_seconds",
        "How long there have been such",
        metrics.publication_lag.clone(),
    );
    r.register("nodes", "Nodes that the ring gives it", nodes.clone());
    r.register("nodes_claimed", "Nodes that it holds", claimed.clone());
    r.register("lease_held", "1 while it holds its lease", lease.clone());
    r.register("revision", "Newest event that it knows", revision.clone());
    let (asked, told) = (Arc::clone(context), Arc::clone(context));
    Monitor {
        registry,
        refresh: Box::new(move || {
            let (state, id) = (asked.replica.state(), &asked.own.id);
            let count = |held: &dyn Fn(&bessemer_domain::node::Node) -> bool| {
                let held = state.nodes().filter(|node| held(node)).count();
                i64::try_from(held).unwrap_or(i64::MAX)
            };
            nodes.set(count(&|node| state.owner(node) == Some(id)));
            claimed.set(count(&|node| state.claimant(node) == Some(id)));
            lease.set(i64::from(asked.has_lease()));
            revision.set(state.tip().revision.0);
            metrics.publication_lag.set(metrics.publication_lag());
        }),
        ready: Box::new(move || {
            let held = told.has_lease();
            held.then_some(())
                .ok_or_else(|| "holds no lease: the cluster's leader does not hear it".to_owned())
        }),
    }
}
