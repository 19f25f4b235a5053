//! What JetStream holds, against what the ledger holds.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::jetstream;
use bessemer_proto::v1::{Event, GetStatusRequest};

use crate::cluster::Cluster;
use crate::wait::wait_for;

/// JetStream holds every event of the ledger exactly once, byte for byte, and each subject's in order. Returns them.
///
/// # Errors
/// What is not so, or the server that does not answer.
pub async fn assert_stream_complete(cluster: &Cluster) -> anyhow::Result<Vec<Event>> {
    let server = cluster.nats.as_ref().context("a cluster with NATS")?;
    // It may have been started again a moment ago.
    let stream = wait_for("stream", Duration::from_secs(30), async || {
        let nats = server.connect().await.map_err(|error| error.to_string())?;
        let stream = jetstream::new(nats).get_stream("BESSEMER_EVENTS").await;
        stream.map_err(|error| error.to_string())
    })
    .await?;
    // An event may follow what was history a moment ago; one that is there twice stays.
    let (events, state) = wait_for("complete stream", Duration::from_secs(60), async || {
        let events = settled_history(cluster).await.map_err(|error| error.to_string())?;
        let state = stream.get_info().await.map_err(|error| error.to_string())?.state;
        if state.messages == events.len() as u64 {
            return Ok((events, state));
        }
        Err(format!("{} messages of {} events", state.messages, events.len()))
    })
    .await?;

    let by_revision: HashMap<_, _> = events.iter().map(|event| (event.revision, event)).collect();
    let mut newest = HashMap::<String, u64>::new();
    for place in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(place).await?;
        let header = |name: &str| -> anyhow::Result<u64> {
            let value = message.headers.get(name).with_context(|| format!("no header {name}"))?;
            Ok(value.as_str().parse()?)
        };
        let revision = header("Bessemer-Revision")?;
        let event = by_revision.get(&revision).with_context(|| format!("no event {revision}"))?;
        ensure!(message.payload == event.record, "event {revision} differs");
        let subject = format!("bessemer.events.{}", event.subject.replace('/', "."));
        ensure!(message.subject.as_str() == subject, "event {revision}: {}", message.subject);
        let last = newest.entry(event.subject.clone()).or_default();
        let sequence = header("Bessemer-Sequence")?;
        ensure!(sequence == *last + 1, "{subject}: {sequence} follows {last}");
        *last += 1;
    }
    Ok(events)
}

/// The whole history once nothing is added to it any more: gapless, and every subject counted.
///
/// # Errors
/// What is not so, or the cluster that does not come to rest.
pub async fn settled_history(cluster: &Cluster) -> anyhow::Result<Vec<Event>> {
    let events = wait_for("history at rest", Duration::from_secs(30), async || {
        let events = cluster.events("").await.map_err(|error| error.to_string())?;
        let status = cluster.client.get_status(GetStatusRequest {}).await;
        let revision = status.map_err(|error| error.to_string())?.revision;
        if events.len() as u64 == revision {
            return Ok(events);
        }
        Err(format!("{} events, revision {revision}", events.len()))
    })
    .await?;
    let mut sequences = HashMap::<&str, u64>::new();
    for (event, revision) in events.iter().zip(1..) {
        ensure!(event.revision == revision, "{} stands at {revision}", event.revision);
        let sequence = sequences.entry(&event.subject).or_default();
        *sequence += 1;
        ensure!(event.sequence == *sequence, "{}: {sequence} is missing", event.subject);
    }
    Ok(events)
}
