//! How commands fare that this member puts to the ledger: how many, with what outcome, and how long they take.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bessemer_domain::Command;
use bessemer_ledger::{Ledger, ProposeError, Proposed};
use tokio::time::Instant;

use crate::metrics::{CommandMetrics, Fate};

/// Latencies that are kept until somebody looks at them.
const KEPT_MAX: usize = 10_000;

/// The way of commands into the ledger.
#[derive(Debug)]
pub(crate) struct Commits {
    ledger: Ledger,
    metrics: CommandMetrics,
    latencies: Mutex<Vec<Duration>>,
}

/// How long commits took, from the proposal until this member had applied it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Latency {
    /// How many there were.
    pub(crate) count: usize,
    /// Half of them took no longer.
    pub(crate) median: Duration,
    /// 99 in 100 took no longer.
    pub(crate) p99: Duration,
}

impl Commits {
    pub(crate) fn new(ledger: Ledger, metrics: CommandMetrics) -> Self {
        Self { ledger, metrics, latencies: Mutex::default() }
    }

    /// Puts commands to the ledger, all in one entry.
    pub(crate) async fn propose(&self, commands: Vec<Command>) -> Result<Proposed, ProposeError> {
        let kinds: Vec<_> = commands.iter().map(|command| command.body.name()).collect();
        let begun = Instant::now();
        let proposed = self.ledger.propose(commands).await;
        match &proposed {
            Ok(proposed) => {
                let took = begun.elapsed();
                self.metrics.commit_seconds.observe(took.as_secs_f64());
                for (kind, outcome) in kinds.into_iter().zip(&proposed.outcomes) {
                    let fate = if outcome.is_ok() { Fate::Accepted } else { Fate::Rejected };
                    self.metrics.note(kind, fate);
                    self.keep(took);
                }
            }
            Err(_) => kinds.into_iter().for_each(|kind| self.metrics.note(kind, Fate::Failed)),
        }
        proposed
    }

    fn keep(&self, took: Duration) {
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        if latencies.len() < KEPT_MAX {
            latencies.push(took);
        }
    }

    /// The latency of what was committed since this was asked last.
    pub(crate) fn take_latency(&self) -> Latency {
        let taken = &mut *self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut latencies = std::mem::take(taken);
        latencies.sort_unstable();
        let at = |part: usize| latencies.get(latencies.len() * part / 100).copied();
        let newest = || latencies.last().copied().unwrap_or_default();
        Latency {
            count: latencies.len(),
            median: at(50).unwrap_or_else(newest),
            p99: at(99).unwrap_or_else(newest),
        }
    }
}
