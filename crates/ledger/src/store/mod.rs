//! What the log can rebuild: events, their index by subject, and the newest snapshot.
//!
//! New events are kept in memory and written to a sled tree by a thread of their own; see [`recent`], [`tree`] and
//! [`index`].

mod block;
mod index;
mod recent;
mod snapshot;
mod tree;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bessemer_domain::{ChainVerifier, EventHash, EventRecord, Revision, SealedEvent, Subject, Tip};
use bytes::Bytes;

use self::recent::{NewEvent, Recent};
pub(crate) use self::snapshot::{IncomingSnapshot, SnapshotFile, SnapshotRecord};
use self::tree::Tree;
use crate::StoreError;

/// Records that one read returns together, so that a reader's memory stays bounded.
const READ_BYTES_MAX: usize = 1 << 20;

/// An event as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its place in history.
    pub revision: Revision,
    /// Its record: one JSON object.
    pub record: Bytes,
    /// Chained over the event before.
    pub hash: EventHash,
}

/// Events and snapshots of one member.
#[derive(Debug)]
pub(crate) struct Store {
    tree: Arc<Tree>,
    recent: Arc<Recent>,
    /// Held while events are added: one may be applied while others are received.
    adding: Mutex<()>,
    /// Held while a snapshot becomes the newest: one may be built while another is received.
    adopting: Mutex<()>,
    writer: Option<JoinHandle<()>>,
    /// Last, so that it goes when the tree is gone.
    _lock: tree::Released,
}

impl Drop for Store {
    /// Returns when all events are written and the files are free.
    fn drop(&mut self) {
        self.recent.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the thread that writes events has panicked");
        }
    }
}

/// Writes new events to the tree until the store is closed or the disk fails.
fn write_events(tree: &Tree, recent: &Recent) {
    while let Some(events) = recent.to_write() {
        match tree.write(events.iter().map(Arc::as_ref)) {
            Ok(()) => recent.wrote(&events),
            Err(failure) => return recent.fail(failure),
        }
    }
}

impl Store {
    /// Opens the store in `dir`, which must exist.
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let tree = Arc::new(Tree::open(dir, cache_bytes)?);
        let recent = Arc::new(Recent::new(tree.tip()?));
        let writer = std::thread::Builder::new().name("events".to_owned());
        let writer = writer.spawn({
            let (tree, recent) = (Arc::clone(&tree), Arc::clone(&recent));
            move || write_events(&tree, &recent)
        });
        let writer = writer.map_err(|error| tree.io("cannot start a thread to write", &error))?;
        let store = Self {
            tree,
            recent,
            adding: Mutex::default(),
            adopting: Mutex::default(),
            writer: Some(writer),
            _lock: tree::Released::of(dir),
        };
        store.remove_unrecorded_snapshots()?;
        Ok(store)
    }

    /// The newest event that is stored; it may be ahead of the state after a restart.
    pub(crate) fn tip(&self) -> Tip {
        self.recent.tip()
    }

    /// Whether the event at `tip` is in the tree, with that hash. Every event up to a snapshot must be.
    pub(crate) fn expect_tip(&self, tip: Tip) -> Result<(), StoreError> {
        self.recent.all_written()?;
        if tip == Tip::default() || self.tree.event(tip.revision)?.hash == tip.hash {
            return Ok(());
        }
        let reason = "its hash is not that of the snapshot".to_owned();
        Err(self.tree.corrupt(format!("event {}", tip.revision), reason))
    }

    /// Waits while too many events are to be written to the tree.
    pub(crate) fn wait_for_room(&self) -> Result<(), StoreError> {
        self.recent.wait_for_room()
    }

    /// Adds events that follow each other; they can be read at once, and are in the tree a moment later. Those that are
    /// stored already must be the same, byte for byte: they were applied before a restart, and applying is
    /// deterministic.
    pub(crate) fn add(&self, events: Vec<SealedEvent>) -> Result<(), StoreError> {
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut newest = self.tip().revision;
        let mut new = Vec::with_capacity(events.len());
        for event in events {
            let revision = event.record.revision;
            if revision <= newest && new.is_empty() {
                self.compare(&event)?;
                continue;
            }
            if revision != newest.next() {
                let reason = format!("event {revision} follows event {newest}");
                return Err(self.tree.corrupt("the newest event", reason));
            }
            newest = revision;
            new.push(NewEvent::from(event));
        }
        self.recent.push(new)
    }

    /// Adds events that another member sent, after checking that they continue this member's history.
    pub(crate) fn add_received(&self, events: &[StoredEvent]) -> Result<(), StoreError> {
        self.wait_for_room()?;
        let mut hash = self.tip().hash;
        let mut sealed = Vec::with_capacity(events.len());
        for event in events {
            hash = hash.chain(&event.record);
            let refuse = |reason: String| {
                self.tree.corrupt(format!("received event {}", event.revision), reason)
            };
            if hash != event.hash {
                return Err(refuse("its hash does not continue the chain".to_owned()));
            }
            let record =
                EventRecord::decode(&event.record).map_err(|error| refuse(error.to_string()))?;
            if record.revision != event.revision {
                return Err(refuse(format!("its record has revision {}", record.revision)));
            }
            sealed.push(SealedEvent { record, bytes: event.record.to_vec(), hash });
        }
        self.add(sealed)
    }

    fn compare(&self, event: &SealedEvent) -> Result<(), StoreError> {
        let revision = event.record.revision;
        let stored = self.event(revision)?;
        if stored.hash == event.hash && stored.record == event.bytes {
            return Ok(());
        }
        let reason = "what the log gives differs from what is stored".to_owned();
        Err(self.tree.corrupt(format!("event {revision}"), reason))
    }

    /// Up to `limit` events after `after` and not after `upto`; fewer, but at least one, when they are large.
    pub(crate) fn events(
        &self,
        after: Revision,
        upto: Revision,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        if let Some(events) = self.recent.events(after, upto, limit) {
            return Ok(events);
        }
        // What is not in memory any more, or never was since the start, is in the tree.
        let mut events = self.tree.events(after, upto.min(self.recent.written()), limit)?;
        let last = events.last().map_or(after, |last| last.revision);
        let rest = self.recent.events(last, upto, limit - events.len());
        events.extend(rest.into_iter().flatten());
        Ok(events)
    }

    /// Up to `limit` events of a subject after its `sequence`, none after `upto`; fewer, but at least one, when they
    /// are large.
    pub(crate) fn subject_events(
        &self,
        subject: &Subject,
        sequence: u64,
        upto: Revision,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        // In this order: what is written meanwhile is found twice, and the second time left out.
        let unwritten = self.recent.unwritten_of(subject, sequence, upto);
        let mut wanted = self.tree.index(subject, sequence.saturating_add(1), limit)?;
        let next = wanted.last().map_or(sequence, |(last, _)| *last) + 1;
        let rest = unwritten.into_iter().skip_while(|(sequence, _)| *sequence < next);
        wanted.extend(rest);
        wanted.truncate(limit);
        let mut events = Vec::new();
        let mut bytes = 0;
        for (_, revision) in wanted.into_iter().take_while(|(_, revision)| *revision <= upto) {
            let event = self.event(revision)?;
            bytes += event.record.len();
            events.push(event);
            if bytes >= READ_BYTES_MAX {
                break;
            }
        }
        Ok(events)
    }

    fn event(&self, revision: Revision) -> Result<StoredEvent, StoreError> {
        let before = Revision(revision.0.saturating_sub(1));
        let recent = self.recent.events(before, revision, 1).and_then(|mut found| found.pop());
        recent.map_or_else(|| self.tree.event(revision), Ok)
    }

    /// Checks the chain of stored events up to `tip`, and that it ends there.
    pub(crate) fn verify_chain(&self, tip: Tip) -> Result<Tip, StoreError> {
        let mut verifier = ChainVerifier::default();
        loop {
            let after = verifier.tip().revision;
            let broken = |reason| self.tree.corrupt(format!("the event after {after}"), reason);
            let events = self.events(after, tip.revision, usize::MAX)?;
            if events.is_empty() {
                if verifier.tip() == tip {
                    return Ok(tip);
                }
                return Err(broken("history ends before the state does".to_owned()));
            }
            for event in events {
                verifier
                    .take(&event.record, event.hash)
                    .map_err(|error| broken(error.to_string()))?;
            }
        }
    }
}
