//! Publishing committed events, by the core's `outbox`.

use std::rc::Rc;
use std::time::Duration;

use bessemer_domain::outbox::{self, Backlog, Next, Notice};
use bessemer_domain::{SealedEvent, Subject};
use futures::FutureExt;
use futures::future::{Either, join_all};

use super::{Conductor, RETRY_PAUSE};
use crate::executor::race;
use crate::jetstream::{Opened, Unpublished};
use crate::network::Host;
use crate::sabotage::Sabotage;

const SUBJECTS_AT_ONCE: usize = 32;
const AUDIT_EVERY: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Events fetched at once from the ledger.
const EVENTS_PAGE: usize = 50;

impl Conductor {
    pub(super) async fn publish(self: Rc<Self>) {
        let exec = Rc::clone(&self.world.exec);
        let mut backlog = Backlog::default();
        let mut opened: Option<Opened> = None;
        let (mut audit_at, mut not_before) = (exec.now(), exec.now());
        loop {
            while let Some(notice) = self.notices.try_pop() {
                self.take_note(&mut backlog, notice);
            }
            if exec.now() >= audit_at {
                audit_at = exec.now() + AUDIT_EVERY;
                if self.is_lost(opened.as_ref()).await {
                    opened = None;
                    self.take_note(&mut backlog, Notice::Everything);
                }
            }
            if !backlog.is_empty() && exec.now() >= not_before {
                if let Err(error) = self.publish_some(&mut opened, &mut backlog).await {
                    self.note(&format!("events not published: {error:?}"));
                    opened = None;
                    not_before = exec.now() + RETRY_AFTER;
                }
                continue;
            }
            let wake = if backlog.is_empty() { audit_at } else { audit_at.min(not_before) };
            if let Either::Left(notice) = race(self.notices.pop(), exec.sleep_until(wake)).await {
                self.take_note(&mut backlog, notice);
            }
        }
    }

    fn take_note(&self, backlog: &mut Backlog, notice: Notice) {
        backlog.note(&self.replica.get(), &self.id, notice);
    }

    async fn is_lost(&self, opened: Option<&Opened>) -> bool {
        match opened {
            Some(_) if self.world.is_sabotaged(Sabotage::PublisherSkipsAudit) => false,
            Some(opened) => !self.world.stream_is_whole(opened).await,
            None => false,
        }
    }

    async fn publish_some(
        self: &Rc<Self>,
        opened: &mut Option<Opened>,
        backlog: &mut Backlog,
    ) -> Result<(), Unpublished> {
        if opened.is_none() {
            // Whatever is found there may be older, emptied or new.
            self.take_note(backlog, Notice::Everything);
            *opened = Some(self.world.open_stream().await?);
        }
        let taken = backlog.take(SUBJECTS_AT_ONCE);
        let bring_up = |(subject, at_hand): (Subject, Vec<SealedEvent>)| async move {
            let done = self.bring_up(&subject, at_hand).await;
            done.map_err(|error| (subject, error))
        };
        let mut first_error = None;
        for (subject, error) in
            join_all(taken.into_iter().map(bring_up)).await.into_iter().filter_map(Result::err)
        {
            backlog.retry(subject);
            first_error.get_or_insert(error);
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Brings one subject up to its newest event.
    async fn bring_up(
        self: &Rc<Self>,
        subject: &Subject,
        at_hand: Vec<SealedEvent>,
    ) -> Result<(), Unpublished> {
        let mut cursor = self.world.stream_cursor(subject).await?;
        let mut events: Vec<_> = at_hand.into_iter().map(Rc::new).collect();
        loop {
            let version = self.replica.get().version_of(subject);
            match outbox::next(&mut events, |event| event.record.sequence, cursor, version) {
                Next::UpToDate => return Ok(()),
                Next::Fetch => {
                    events = self.events_of(subject, cursor.event_sequence).await;
                    if events.is_empty() {
                        return Err(Unpublished::LedgerBehind);
                    }
                }
                Next::Publish => {
                    for event in events.drain(..) {
                        cursor = self.world.publish(&event, cursor).await?;
                    }
                }
            }
        }
    }

    /// A page of a subject's events after `sequence`, from the ledger.
    async fn events_of(self: &Rc<Self>, subject: &Subject, sequence: u64) -> Vec<Rc<SealedEvent>> {
        loop {
            let (world, subject, member) =
                (Rc::clone(&self.world), subject.clone(), self.member.get());
            let serve = move || {
                let history = world.members[member].history.borrow();
                let of_it = history.iter().filter(|event| {
                    event.record.subject == subject && event.record.sequence > sequence
                });
                std::future::ready(of_it.take(EVENTS_PAGE).cloned().collect()).boxed_local()
            };
            let to = Host::Member(member);
            if let Some(page) = self.world.call(self.host(), to, RETRY_AFTER, serve).await {
                return page;
            }
            self.move_on();
            self.world.exec.sleep(RETRY_PAUSE).await;
        }
    }
}
