//! The newest events, in memory: those that are still to be written to the tree, and the last of those that are.
//!
//! Commands are applied without waiting for a disk, and whoever follows history closely is served without one.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bessemer_domain::{Revision, SealedEvent, Subject, Tip};

use super::{READ_BYTES_MAX, StoredEvent};
use crate::StoreError;

/// Events that are written to the tree at once.
const WRITTEN_AT_ONCE_MAX: usize = 512;

/// How long events wait for others to be written with. The log has them meanwhile.
const GATHERING: Duration = Duration::from_millis(50);

/// So many bytes of them wait no longer.
const GATHERED_BYTES: usize = 128 << 10;

/// Bytes of events that wait to be written. Beyond it, applying waits: a disk that is slower than the cluster must not
/// fill the memory.
const UNWRITTEN_BYTES_MAX: usize = 32 << 20;

/// Bytes of events that are kept after they were written.
const KEPT_BYTES: usize = 4 << 20;

/// An event that was just applied.
#[derive(Debug)]
pub(super) struct NewEvent {
    pub(super) subject: Subject,
    pub(super) sequence: u64,
    pub(super) stored: StoredEvent,
}

impl From<SealedEvent> for NewEvent {
    fn from(sealed: SealedEvent) -> Self {
        let SealedEvent { record, bytes, hash } = sealed;
        let stored = StoredEvent { revision: record.revision, record: bytes.into(), hash };
        Self { subject: record.subject, sequence: record.sequence, stored }
    }
}

/// The newest events, and who waits for something to become of them.
#[derive(Debug)]
pub(super) struct Recent {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Debug)]
struct Inner {
    /// In order and without a gap; the last is the newest.
    events: VecDeque<Arc<NewEvent>>,
    newest: Tip,
    /// The tree has everything up to here.
    written: Revision,
    kept_bytes: usize,
    unwritten_bytes: usize,
    /// Somebody waits until all is written.
    is_urgent: bool,
    failure: Option<StoreError>,
    is_closed: bool,
}

impl Recent {
    /// Nothing is newer than what the tree has.
    pub(super) fn new(written: Tip) -> Self {
        let inner = Inner {
            events: VecDeque::new(),
            newest: written,
            written: written.revision,
            kept_bytes: 0,
            unwritten_bytes: 0,
            is_urgent: false,
            failure: None,
            is_closed: false,
        };
        Self { inner: Mutex::new(inner), changed: Condvar::new() }
    }

    /// Nothing is left half done by a panic: every change is complete before anything can fail.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'a>(
        &self,
        inner: MutexGuard<'a, Inner>,
        condition: impl Fn(&Inner) -> bool,
    ) -> MutexGuard<'a, Inner> {
        self.changed
            .wait_while(inner, |inner| condition(inner))
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest event.
    pub(super) fn tip(&self) -> Tip {
        self.lock().newest
    }

    /// The tree has everything up to this one.
    pub(super) fn written(&self) -> Revision {
        self.lock().written
    }

    /// Waits while too many events are to be written.
    pub(super) fn wait_for_room(&self) -> Result<(), StoreError> {
        let is_full = |inner: &Inner| inner.unwritten_bytes > UNWRITTEN_BYTES_MAX;
        let inner = self.wait_while(self.lock(), |inner| is_full(inner) && inner.failure.is_none());
        inner.failure.clone().map_or(Ok(()), Err)
    }

    /// Adds events that follow the newest one.
    pub(super) fn push(&self, events: Vec<NewEvent>) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if let Some(failure) = &inner.failure {
            return Err(failure.clone());
        }
        let before = inner.unwritten_bytes;
        for event in events {
            let StoredEvent { revision, record, hash } = &event.stored;
            inner.newest = Tip { revision: *revision, hash: *hash };
            inner.kept_bytes += record.len();
            inner.unwritten_bytes += record.len();
            inner.events.push_back(Arc::new(event));
        }
        // In between, the writer sleeps.
        if before == 0 || (before < GATHERED_BYTES && inner.unwritten_bytes >= GATHERED_BYTES) {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// What is to be written next, as soon as there is enough or some has waited long enough. None once it is closed and
    /// all is written.
    pub(super) fn to_write(&self) -> Option<Vec<Arc<NewEvent>>> {
        let inner = self.wait_while(self.lock(), |inner| {
            inner.written == inner.newest.revision && !inner.is_closed
        });
        let (inner, _) = self
            .changed
            .wait_timeout_while(inner, GATHERING, |inner| {
                inner.unwritten_bytes < GATHERED_BYTES && !inner.is_urgent && !inner.is_closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        let start = inner.place_after(inner.written)?;
        let events: Vec<_> =
            inner.events.range(start..).take(WRITTEN_AT_ONCE_MAX).cloned().collect();
        (!events.is_empty()).then_some(events)
    }

    /// The tree has these now.
    pub(super) fn wrote(&self, events: &[Arc<NewEvent>]) {
        let mut inner = self.lock();
        let Some(last) = events.last() else { return };
        inner.written = last.stored.revision;
        inner.is_urgent &= inner.written < inner.newest.revision;
        inner.unwritten_bytes -=
            events.iter().map(|event| event.stored.record.len()).sum::<usize>();
        while inner.kept_bytes > KEPT_BYTES
            && let Some(oldest) = inner.events.front()
            && oldest.stored.revision <= inner.written
        {
            inner.kept_bytes -= oldest.stored.record.len();
            inner.events.pop_front();
        }
        self.changed.notify_all();
    }

    /// The tree takes no more; everyone is told from now on.
    pub(super) fn fail(&self, failure: StoreError) {
        self.lock().failure = Some(failure);
        self.changed.notify_all();
    }

    /// Returns when the tree has everything that is here now.
    pub(super) fn all_written(&self) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let newest = inner.newest.revision;
        if inner.written < newest {
            inner.is_urgent = true;
            self.changed.notify_all();
        }
        let inner =
            self.wait_while(inner, |inner| inner.written < newest && inner.failure.is_none());
        inner.failure.clone().map_or(Ok(()), Err)
    }

    /// Nothing is added any more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Up to `limit` events after `after` and not after `upto`, if all of them are here.
    pub(super) fn events(
        &self,
        after: Revision,
        upto: Revision,
        limit: usize,
    ) -> Option<Vec<StoredEvent>> {
        let inner = self.lock();
        let start = inner.place_after(after)?;
        let mut bytes = 0;
        let events = inner.events.range(start..).map(|event| &event.stored).take(limit);
        let events = events.take_while(|event| {
            let fits = event.revision <= upto && bytes < READ_BYTES_MAX;
            bytes += event.record.len();
            fits
        });
        Some(events.cloned().collect())
    }

    /// The sequences and revisions of a subject's events after its `sequence`, none after `upto`, that the tree may not
    /// have yet.
    pub(super) fn unwritten_of(
        &self,
        subject: &Subject,
        sequence: u64,
        upto: Revision,
    ) -> Vec<(u64, Revision)> {
        let inner = self.lock();
        let Some(start) = inner.place_after(inner.written) else { return Vec::new() };
        let wanted = inner.events.range(start..).filter(|event| {
            event.subject == *subject && event.sequence > sequence && event.stored.revision <= upto
        });
        wanted.map(|event| (event.sequence, event.stored.revision)).collect()
    }
}

impl Inner {
    /// Where in `events` the event after `revision` is, or will be. None when it is here no more.
    fn place_after(&self, revision: Revision) -> Option<usize> {
        let first = self.newest.revision.0 + 1 - self.events.len() as u64;
        let place = usize::try_from((revision.0 + 1).checked_sub(first)?).ok()?;
        (place <= self.events.len()).then_some(place)
    }
}
