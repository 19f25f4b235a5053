//! Publishing committed events to JetStream: a projection of the ledger, complete and in order for every subject.
//!
//! Each subject has one publisher by the ring. What is already there is read from JetStream itself, never remembered,
//! so it does not matter who published before, or that the server lost everything: the rest is taken from the ledger.
//! Two publishers that overlap while the ring moves are told apart by JetStream's expected-last-subject-sequence.

mod stream;

use std::sync::Arc;
use std::time::Duration;

use bessemer_domain::outbox::{self, Backlog, Next, Notice};
use bessemer_domain::{SealedEvent, Subject};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Context;
use crate::config::NatsConfig;
use crate::steps::chain;
use stream::{EventStream, PublishError};

pub(crate) use stream::Message;

/// Subjects published at once. JetStream answers in well under a millisecond; 32 in flight keep it busy.
const SUBJECTS_AT_ONCE: usize = 32;

/// How often the stream is checked for having been emptied or replaced.
const AUDIT_EVERY: Duration = Duration::from_secs(5);

/// Pause after JetStream could not be reached.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Publishes until the notices end.
pub(crate) async fn run(
    context: Arc<Context>,
    config: NatsConfig,
    mut notices: mpsc::Receiver<Notice>,
) {
    let mut backlog = Backlog::default();
    let mut stream: Option<EventStream> = None;
    let mut audit = interval(AUDIT_EVERY);
    audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut not_before = Instant::now();
    loop {
        context.metrics.unpublished(backlog.len());
        let idle = backlog.is_empty() || Instant::now() < not_before;
        tokio::select! {
            biased;
            notice = notices.recv() => match notice {
                Some(notice) => note(&context, &mut backlog, notice),
                None => return,
            },
            _ = audit.tick() => {
                if !still_whole(stream.as_ref()).await {
                    stream = None;
                    note(&context, &mut backlog, Notice::Everything);
                }
            }
            () = std::future::ready(()), if !idle => {
                let connected = match stream.take() {
                    Some(connected) => Ok(connected),
                    None => {
                        // Whatever is found there may be older, emptied or new.
                        note(&context, &mut backlog, Notice::Everything);
                        EventStream::open(&config).await
                    }
                };
                let outcome = match connected {
                    Ok(connected) => {
                        advance(&context, stream.insert(connected), &mut backlog).await
                    }
                    Err(error) => Err(error),
                };
                if let Err(error) = outcome {
                    tracing::warn!(error = chain(&error), "events not published; trying again");
                    stream = None;
                    not_before = Instant::now() + RETRY_PAUSE;
                }
            }
            () = tokio::time::sleep_until(not_before), if idle && !backlog.is_empty() => {}
        }
    }
}

/// Whether JetStream still has what was published. Unknown counts as yes: publishing will tell.
async fn still_whole(stream: Option<&EventStream>) -> bool {
    match stream {
        Some(stream) => stream.is_whole().await,
        None => true,
    }
}

fn note(context: &Context, backlog: &mut Backlog, notice: Notice) {
    backlog.note(&context.replica.state(), &context.own.id, notice);
}

/// Publishes what some subjects are behind by.
async fn advance(
    context: &Context,
    stream: &EventStream,
    backlog: &mut Backlog,
) -> Result<(), PublishError> {
    let mut in_flight = FuturesUnordered::new();
    for (subject, events) in backlog.take(SUBJECTS_AT_ONCE) {
        in_flight.push(complete(context, stream, subject, events));
    }
    let mut first_error = None;
    while let Some(outcome) = in_flight.next().await {
        if let Err((subject, error)) = outcome {
            backlog.retry(subject);
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

async fn complete(
    context: &Context,
    stream: &EventStream,
    subject: Subject,
    at_hand: Vec<SealedEvent>,
) -> Result<(), (Subject, PublishError)> {
    bring_up(context, stream, &subject, at_hand).await.map_err(|error| (subject, error))
}

/// Brings one subject up to its newest event, beginning with those at hand.
async fn bring_up(
    context: &Context,
    stream: &EventStream,
    subject: &Subject,
    at_hand: Vec<SealedEvent>,
) -> Result<(), PublishError> {
    let cluster_id = context.cluster_id().await;
    let mut cursor = stream.cursor(subject).await?;
    let mut events: Vec<_> = at_hand.iter().map(Message::of).collect();
    loop {
        let version = context.version_of(subject);
        match outbox::next(&mut events, |event| event.sequence, cursor, version) {
            Next::UpToDate => return Ok(()),
            Next::Fetch => {
                events = context.members.events_of(subject, cursor.event_sequence).await;
                if events.is_empty() {
                    return Err(PublishError::LedgerBehind { subject: subject.to_string() });
                }
            }
            Next::Publish => {
                for event in events.drain(..) {
                    cursor = stream.publish(cluster_id, subject, &event, cursor).await?;
                }
            }
        }
    }
}
