//! Preparations in progress: one for each key, whatever the number of callers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use crate::catalogue::{Entry, Key};
use crate::error::PrepareError;

/// What a preparation is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    Resolving,
    Copying,
    Downloading,
    Converting,
    Verifying,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Resolving => "resolving",
            Self::Copying => "copying",
            Self::Downloading => "downloading",
            Self::Converting => "converting",
            Self::Verifying => "verifying",
        }
    }
}

/// How a preparation ended.
pub(crate) type Outcome = Arc<Result<Entry, PrepareError>>;

/// What callers see of a preparation.
#[derive(Clone, Debug)]
pub(crate) struct JobState {
    pub(crate) phase: Phase,
    pub(crate) done_bytes: u64,
    /// 0 while unknown.
    pub(crate) total_bytes: u64,
    pub(crate) phase_since: Instant,
    pub(crate) outcome: Option<Outcome>,
}

/// Where a preparation tells how far it is.
#[derive(Clone, Debug)]
pub(crate) struct Progress(Arc<watch::Sender<JobState>>);

impl Progress {
    pub(crate) fn new() -> Self {
        let state = JobState {
            phase: Phase::Resolving,
            done_bytes: 0,
            total_bytes: 0,
            phase_since: Instant::now(),
            outcome: None,
        };
        Self(Arc::new(watch::Sender::new(state)))
    }

    /// Tells how far the present phase is. While a source is downloaded and converted at once, the
    /// download is what is told: reports of an earlier phase than the present one are ignored.
    pub(crate) fn report(&self, phase: Phase, done_bytes: u64, total_bytes: u64) {
        self.0.send_if_modified(|state| {
            let downloads =
                state.phase == Phase::Downloading && state.done_bytes < state.total_bytes;
            if downloads && phase == Phase::Converting {
                return false;
            }
            if state.phase != phase {
                state.phase = phase;
                state.phase_since = Instant::now();
            }
            state.done_bytes = done_bytes;
            state.total_bytes = total_bytes;
            true
        });
    }

    fn finish(&self, outcome: Outcome) {
        self.0.send_modify(|state| state.outcome = Some(outcome));
    }
}

/// A preparation that callers can follow.
pub(crate) type Job = watch::Receiver<JobState>;

/// The preparations in progress.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Mutex<HashMap<Key, Progress>>);

impl Jobs {
    /// The job of a key; if there is none, what `begin` finds or starts. No two callers are in
    /// `begin` at once, so what it looks up cannot be outdated by a job that ends meanwhile.
    pub(crate) fn join_or<E>(
        &self,
        key: &Key,
        begin: impl FnOnce() -> Result<Begun, E>,
    ) -> Result<Joined, E> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = jobs.get(key) {
            return Ok(Joined::Job(progress.0.subscribe()));
        }
        match begin()? {
            Begun::Prepared(entry) => Ok(Joined::Prepared(entry)),
            Begun::Job(progress) => {
                let job = progress.0.subscribe();
                jobs.insert(key.clone(), progress);
                Ok(Joined::Job(job))
            }
        }
    }

    /// Ends the job of a key: its callers get the outcome, later ones begin anew.
    pub(crate) fn finish(&self, key: &Key, outcome: Result<Entry, PrepareError>) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = jobs.remove(key) {
            progress.finish(Arc::new(outcome));
        }
    }
}

/// What a caller began that found no job.
pub(crate) enum Begun {
    /// Nothing: the image is there.
    Prepared(Box<Entry>),
    Job(Progress),
}

/// What a caller gets.
pub(crate) enum Joined {
    Prepared(Box<Entry>),
    Job(Job),
}
