//! What this cache tells monitoring. The list for operators is `docs/metrics.md`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use bessemer_access::Refused;
use bessemer_runtime::monitor::Monitor;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::cache::Shared;
use crate::catalogue::Entry;
use crate::error::PrepareError;

type Labels = [(&'static str, &'static str); 1];

/// How a request for an image was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lookup {
    /// It was prepared before.
    Hit,
    /// It is being prepared for somebody else.
    Joined,
    /// Its preparation began.
    Miss,
}

/// Counts and gauges. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    lookups: Family<Labels, Counter>,
    preparations: Family<Labels, Counter>,
    prepare_seconds: Histogram,
    waiting: Gauge,
    running: Gauge,
    served: Family<Labels, Counter>,
    damaged: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            lookups: Family::default(),
            preparations: Family::default(),
            // From a small file to a terabyte over a slow link.
            prepare_seconds: Histogram::new(exponential_buckets(0.25, 3.0, 11)),
            waiting: Gauge::default(),
            running: Gauge::default(),
            served: Family::default(),
            damaged: Counter::default(),
        }
    }
}

/// Counted for as long as it lives, whatever ends it.
pub(crate) struct Counted(Gauge);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn looked_up(&self, lookup: Lookup) {
        let result = match lookup {
            Lookup::Hit => "hit",
            Lookup::Joined => "joined",
            Lookup::Miss => "miss",
        };
        self.lookups.get_or_create(&[("result", result)]).inc();
    }

    /// A preparation that waits for its turn.
    pub(crate) fn waiting(&self) -> Counted {
        self.waiting.inc();
        Counted(self.waiting.clone())
    }

    /// A preparation in progress.
    pub(crate) fn running(&self) -> Counted {
        self.running.inc();
        Counted(self.running.clone())
    }

    /// How a preparation ended that began, or began to wait, at `begun`.
    pub(crate) fn prepared(&self, outcome: &Result<Entry, PrepareError>, begun: Instant) {
        let result = match outcome {
            Ok(_) => "PREPARED",
            Err(error) => error.reason(),
        };
        self.preparations.get_or_create(&[("outcome", result)]).inc();
        self.prepare_seconds.observe(begun.elapsed().as_secs_f64());
    }

    /// Counts the bytes sent of `part`: `manifest`, `pack` or `raw`.
    pub(crate) fn served(&self, part: &'static str) -> Counter {
        self.served.get_or_create(&[("part", part)]).clone()
    }

    /// Notes that a stored image could not be read or was not what it was.
    pub(crate) fn damaged(&self) {
        self.damaged.inc();
    }
}

/// The cache's metrics, and whether it is ready: its catalogue can be read.
pub(crate) fn monitor(shared: &Arc<Shared>, refused: &Refused) -> Monitor {
    let mut registry = Registry::with_prefix("bessemer_image_cache");
    let metrics = shared.metrics.clone();
    let (images, stored) = (Gauge::<i64>::default(), Gauge::<u64, AtomicU64>::default());
    let (limit, pinned) = (Gauge::<u64, AtomicU64>::default(), Gauge::<u64, AtomicU64>::default());
    let r = &mut registry;
    refused.register(r);
    r.register("requests", "Requests for an image, by how they were answered", metrics.lookups);
    r.register("preparations", "Preparations that ended, by how", metrics.preparations);
    r.register(
        "prepare_seconds",
        "From a preparation's request to its end",
        metrics.prepare_seconds,
    );
    r.register("preparations_waiting", "Preparations that wait for their turn", metrics.waiting);
    r.register("preparations_running", "Preparations in progress", metrics.running);
    r.register("served_bytes", "Bytes sent to agents", metrics.served);
    r.register(
        "damaged_reads",
        "Reads of stored images that failed or found damage",
        metrics.damaged,
    );
    r.register("images", "Prepared images", images.clone());
    r.register("stored_bytes", "Bytes that prepared images take", stored.clone());
    r.register("pinned_bytes", "Those of pinned images", pinned.clone());
    r.register("limit_bytes", "Bytes that prepared images may take", limit.clone());
    let (asked, told) = (Arc::clone(shared), Arc::clone(shared));
    Monitor {
        registry,
        refresh: Box::new(move || {
            let used = asked.catalogue.used();
            images.set(used.images);
            stored.set(used.stored_bytes);
            pinned.set(used.pinned_bytes);
            limit.set(asked.config.cache_limit_bytes);
        }),
        ready: Box::new(move || {
            let directory = told.layout.catalogue_dir();
            std::fs::read_dir(&directory)
                .map(drop)
                .map_err(|error| format!("cannot read {}: {error}", directory.display()))
        }),
    }
}
