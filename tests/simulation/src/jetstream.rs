//! JetStream by its contract: it refuses a message that expects another last one of its subject, takes a message whose
//! id it saw a moment ago for a resend, is away, and loses what it stored.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bessemer_domain::outbox::{Acknowledgement, Cursor};
use bessemer_domain::{SealedEvent, Subject};
use futures::channel::oneshot;

use crate::sabotage::Sabotage;
use crate::world::World;

/// How long a message's id is remembered.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1);

/// How long a publisher waits for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// The stream.
#[derive(Debug, Default)]
pub(crate) struct JetStream {
    pub(crate) is_down: Cell<bool>,
    stored: RefCell<Stored>,
}

#[derive(Debug, Default)]
struct Stored {
    /// Which stream of this name it is.
    created: u64,
    first_sequence: u64,
    last_sequence: u64,
    /// The newest message of each subject.
    last: BTreeMap<Subject, Cursor>,
    /// Revisions seen lately: the messages' ids.
    seen: BTreeMap<u64, (Duration, u64)>,
}

/// The stream as it was found.
#[derive(Debug)]
pub(crate) struct Opened {
    created: u64,
    first_sequence: u64,
}

/// Why events were not published.
#[derive(Debug)]
pub(crate) enum Unpublished {
    Unreachable,
    Overtaken,
    Dropped,
    LedgerBehind,
}

impl JetStream {
    /// Whether everything of a subject is there.
    pub(crate) fn published(&self, subject: &Subject) -> u64 {
        self.stored.borrow().last.get(subject).map_or(0, |cursor| cursor.event_sequence)
    }

    fn created(&self) -> u64 {
        self.stored.borrow().created
    }

    /// Removes all messages; ids that were seen stay seen.
    fn purge(&self) {
        let mut stored = self.stored.borrow_mut();
        stored.last.clear();
        stored.first_sequence = stored.last_sequence + 1;
    }

    /// The store is lost, and the stream made anew.
    fn lose(&self) {
        let mut stored = self.stored.borrow_mut();
        *stored = Stored { created: stored.created + 1, ..Stored::default() };
    }

    fn store(
        &self,
        now: Duration,
        event: &SealedEvent,
        expected: Option<u64>,
    ) -> Result<Acknowledgement, Unpublished> {
        let (stored, record) = (&mut *self.stored.borrow_mut(), &event.record);
        if let Some((at, stream_sequence)) = stored.seen.get(&record.revision.0)
            && now - *at <= DUPLICATE_WINDOW
            && expected.is_some()
        {
            return Ok(Acknowledgement { stream_sequence: *stream_sequence, duplicate: true });
        }
        let last = stored.last.get(&record.subject).copied().unwrap_or_default();
        if expected.is_some_and(|expected| expected != last.stream_sequence) {
            return Err(Unpublished::Overtaken);
        }
        stored.last_sequence += 1;
        let stream_sequence = stored.last_sequence;
        stored.seen.insert(record.revision.0, (now, stream_sequence));
        let cursor = Cursor { event_sequence: record.sequence, stream_sequence };
        stored.last.insert(record.subject.clone(), cursor);
        Ok(Acknowledgement { stream_sequence, duplicate: false })
    }
}

impl World {
    /// Empties the stream, one way or the other.
    pub(crate) fn empty_stream(&self) {
        if self.exec.chance(50) {
            self.note("jetstream: purged");
            self.jetstream.purge();
        } else {
            self.note("jetstream: store lost");
            self.jetstream.lose();
        }
        self.invariants.stream_in_order.borrow_mut().emptied();
    }

    async fn reach_jetstream(&self) -> Result<(), Unpublished> {
        self.exec.sleep(self.travel_time()).await;
        if self.jetstream.is_down.get() { Err(Unpublished::Unreachable) } else { Ok(()) }
    }

    pub(crate) async fn open_stream(&self) -> Result<Opened, Unpublished> {
        self.reach_jetstream().await?;
        let stored = self.jetstream.stored.borrow();
        Ok(Opened { created: stored.created, first_sequence: stored.first_sequence })
    }

    pub(crate) async fn stream_is_whole(&self, opened: &Opened) -> bool {
        if self.reach_jetstream().await.is_err() {
            return false;
        }
        let stored = self.jetstream.stored.borrow();
        stored.created == opened.created && stored.first_sequence <= opened.first_sequence.max(1)
    }

    pub(crate) async fn stream_cursor(&self, subject: &Subject) -> Result<Cursor, Unpublished> {
        self.reach_jetstream().await?;
        Ok(self.jetstream.stored.borrow().last.get(subject).copied().unwrap_or_default())
    }

    /// Publishes the event after the cursor. One that is late is stored all the same, whether or not anybody still waits.
    pub(crate) async fn publish(
        self: &Rc<Self>,
        event: &Rc<SealedEvent>,
        cursor: Cursor,
    ) -> Result<Cursor, Unpublished> {
        let (answer, answered) = oneshot::channel();
        let (world, sent) = (Rc::clone(self), Rc::clone(event));
        // A connection does not outlast the server that loses its store.
        let server = self.jetstream.created();
        self.exec.spawn(&self.wires, async move {
            if world.network.is_rough.get() && world.exec.chance(1) {
                world.exec.pause(4_000..=8_000).await;
            }
            let is_reached = world.reach_jetstream().await.is_ok();
            if !is_reached || world.jetstream.created() != server {
                return;
            }
            let fence = !world.is_sabotaged(Sabotage::PublisherSkipsFence);
            let expected = fence.then_some(cursor.stream_sequence);
            let stored = world.jetstream.store(world.exec.now(), &sent, expected);
            if let Ok(Acknowledgement { duplicate: false, stream_sequence }) = stored {
                let (subject, sequence) = (&sent.record.subject, sent.record.sequence);
                world.note(&format!("jetstream {stream_sequence}: {subject} {sequence}"));
                let mut in_order = world.invariants.stream_in_order.borrow_mut();
                world.judge(in_order.stored(&sent));
            }
            let acknowledgement_lost = world.network.is_rough.get() && world.exec.chance(2);
            if !acknowledgement_lost {
                answer.send(stored).ok();
            }
        });
        let acknowledged = match self.exec.timeout(ANSWER_LIMIT, answered).await {
            Some(Ok(stored)) => stored?,
            Some(Err(_)) | None => return Err(Unpublished::Unreachable),
        };
        cursor.after(event.record.sequence, acknowledged).ok_or(Unpublished::Dropped)
    }
}
