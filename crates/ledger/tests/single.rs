//! A cluster of one: what is acknowledged is there after a restart, as it was.

mod fixture;

use std::collections::BTreeSet;

use bessemer_domain::{Rejection, Revision, Subject};
use bessemer_ledger::{OpenError, StoreError};
use fixture::{Cluster, create_node, describe_node, node_id, register_conductor};
use futures::{StreamExt, TryStreamExt};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_state_revisions_and_hashes() {
    let mut cluster = Cluster::start(1, |_| ()).await;
    let ledger = cluster.ledger(1);
    ledger.propose(vec![register_conductor()]).await.unwrap();
    let proposed = ledger.propose((0..50).map(create_node).collect()).await.unwrap();
    assert!(proposed.outcomes.iter().all(Result::is_ok));
    let before = ledger.state();
    let events = ledger.events_after(Revision(0), 1000).unwrap();
    assert_eq!(before.tip().revision, proposed.revision);
    drop(ledger);

    cluster.crash(1).await;
    cluster.restart(1).await;
    let ledger = cluster.ledger(1);
    let after = ledger.linearizable_state().await.unwrap();
    assert_eq!(after.tip(), before.tip());
    assert_eq!(after.cluster_id(), before.cluster_id());
    assert_eq!(serde_json::to_value(&after).unwrap(), serde_json::to_value(&before).unwrap());
    assert_eq!(ledger.events_after(Revision(0), 1000).unwrap(), events);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_from_a_snapshot_keeps_all_of_history() {
    let mut cluster = Cluster::start(1, |config| {
        config.snapshot_every_entries = 20;
        config.keep_entries = 0;
    })
    .await;
    let ledger = cluster.ledger(1);
    ledger.propose(vec![register_conductor()]).await.unwrap();
    for n in 0..100 {
        ledger.propose(vec![create_node(n)]).await.unwrap();
    }
    let snapshot = fixture::until("a snapshot", || async {
        ledger.status().snapshot_index.filter(|index| *index >= 60).ok_or("none")
    })
    .await;
    let before = ledger.state();
    drop(ledger);

    cluster.crash(1).await;
    cluster.restart(1).await;
    let ledger = cluster.ledger(1);
    fixture::until("the snapshot again", || async {
        ledger.status().snapshot_index.filter(|index| *index >= snapshot).ok_or("none")
    })
    .await;
    let after = ledger.linearizable_state().await.unwrap();
    assert_eq!(serde_json::to_value(&after).unwrap(), serde_json::to_value(&before).unwrap());
    assert_eq!(ledger.verify_chain().unwrap(), after.tip());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_command_has_its_first_outcome_after_a_restart() {
    let mut cluster = Cluster::start(1, |_| ()).await;
    let (conductor, create) = (register_conductor(), create_node(1));
    let first = cluster.any().propose(vec![conductor, create.clone()]).await.unwrap();
    cluster.any().propose(vec![describe_node(1, "moved on")]).await.unwrap();
    cluster.crash(1).await;
    cluster.restart(1).await;
    let again = cluster.any().propose(vec![create]).await.unwrap();
    assert_eq!(again.outcomes[0], first.outcomes[1]);
    assert_eq!(
        cluster.any().subject_events_after(&Subject::Node(node_id(1)), 0, 10).unwrap().len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_command_changes_nothing() {
    let cluster = Cluster::start(1, |_| ()).await;
    let ledger = cluster.any();
    ledger.propose(vec![register_conductor()]).await.unwrap();
    let before = ledger.state().tip();
    let proposed = ledger.propose(vec![describe_node(7, "not there")]).await.unwrap();
    assert!(matches!(proposed.outcomes[..], [Err(Rejection::NotFound { .. })]));
    assert_eq!(ledger.state().tip(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_proposals_each_get_their_own_outcomes() {
    let cluster = Cluster::start(1, |_| ()).await;
    let ledger = cluster.any();
    ledger.propose(vec![register_conductor()]).await.unwrap();
    let proposals = (0..500).map(|n| {
        let ledger = ledger.clone();
        async move {
            let proposed = ledger.propose(vec![create_node(n)]).await.unwrap();
            let accepted = proposed.outcomes[0].clone().unwrap();
            assert_eq!(accepted.subject.unwrap().to_string(), format!("node/{}", node_id(n)));
            accepted.revision
        }
    });
    let revisions: BTreeSet<_> = futures::future::join_all(proposals).await.into_iter().collect();
    assert_eq!(revisions.len(), 500);
    assert_eq!(ledger.state().node_count(), 500);
    assert!(ledger.status().last_log_index.unwrap() < 500, "nothing shared a log entry");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_replays_then_follows() {
    let cluster = Cluster::start(1, |_| ()).await;
    let ledger = cluster.any();
    ledger.propose(vec![register_conductor()]).await.unwrap();
    ledger.propose((0..600).map(create_node).collect()).await.unwrap();
    let watched = ledger
        .watch(Revision(10))
        .map_ok(|events| futures::stream::iter(events).map(Ok::<_, bessemer_ledger::WatchError>));
    let mut watched = std::pin::pin!(watched.try_flatten());
    for n in 11..=602 {
        assert_eq!(watched.next().await.unwrap().unwrap().revision, Revision(n));
    }
    let follow = tokio::spawn({
        let ledger = ledger.clone();
        async move {
            for n in 0..100 {
                ledger.propose(vec![describe_node(n, "later")]).await.unwrap();
            }
        }
    });
    for n in 603..=702 {
        assert_eq!(watched.next().await.unwrap().unwrap().revision, Revision(n));
    }
    follow.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_a_proposal_is_refused_with_its_bounds() {
    let cluster = Cluster::start(1, |_| ()).await;
    let refused = cluster.any().propose((0..3000).map(create_node).collect()).await.unwrap_err();
    assert!(refused.to_string().contains("3000 commands"), "{refused}");
    assert!(refused.to_string().contains("2048 commands"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_named_and_not_served() {
    let mut cluster = Cluster::start(1, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    cluster.any().propose((0..200).map(create_node).collect()).await.unwrap();
    let config = cluster.config(1);
    cluster.crash(1).await;
    let log = std::fs::read_dir(config.data_dir.join("log")).unwrap();
    let file = log
        .map(|file| file.unwrap().path())
        .find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-"))
        })
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let name = b"register_conductor";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = bessemer_ledger::Ledger::open(config.clone()).await.unwrap_err();
    assert!(matches!(&error, OpenError::Log { path, .. } if *path == config.data_dir.join("log")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_named_and_not_served() {
    let mut cluster = Cluster::start(1, |config| config.snapshot_every_entries = 5).await;
    let ledger = cluster.any();
    ledger.propose(vec![register_conductor()]).await.unwrap();
    for n in 0..10 {
        ledger.propose(vec![create_node(n)]).await.unwrap();
    }
    fixture::until("a snapshot", || async { ledger.status().snapshot_index.ok_or("none") }).await;
    drop(ledger);
    let config = cluster.config(1);
    cluster.crash(1).await;
    let file = std::fs::read_dir(&config.data_dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "json"))
        .unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let error = bessemer_ledger::Ledger::open(config).await.unwrap_err();
    let OpenError::Store(StoreError::Corrupt { record, .. }) = error else { panic!("{error}") };
    assert!(record.contains(file.to_str().unwrap()), "{record}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_contradicts_the_stored_events_stops_the_member() {
    let mut cluster = Cluster::start(1, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    cluster.any().propose(vec![create_node(1)]).await.unwrap();
    let config = cluster.config(1);
    cluster.crash(1).await;
    {
        let events = sled::open(config.data_dir.join("events")).unwrap();
        // A block: its format, the length of its body, and the body, compressed.
        let body = |block: &[u8]| zstd::bulk::decompress(&block[5..], 1 << 20).unwrap();
        let is_last = |body: &[u8]| String::from_utf8_lossy(body).contains("\"revision\":3,");
        let (key, block) = events
            .scan_prefix("e")
            .map(Result::unwrap)
            .find(|(_, block)| is_last(&body(block)))
            .unwrap();
        let mut body = body(&block);
        let created = body.windows(12).rposition(|bytes| bytes == b"node.created").unwrap();
        // Still an event that can be read, but not the one that the log gives.
        let number =
            body[..created].windows(13).rposition(|bytes| bytes == b"\"actor\":\"test").unwrap();
        body[number + 12] = b's';
        let mut value = block[..5].to_vec();
        value.extend(zstd::bulk::compress(&body, 1).unwrap());
        events.insert(key, value).unwrap();
        events.flush().unwrap();
    }
    let error = bessemer_ledger::Ledger::open(config).await.unwrap_err();
    assert!(error.to_string().contains("corrupt at event 3"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_event_comes_back_whole_and_stays_in_the_synced_file() {
    let mut cluster = Cluster::start(1, |_| ()).await;
    cluster.any().propose(vec![register_conductor(), create_node(1)]).await.unwrap();
    let large = "x".repeat(1 << 20);
    for n in 0..20 {
        let description = format!("{n} {large}");
        cluster.any().propose(vec![describe_node(1, &description)]).await.unwrap();
    }
    cluster.crash(1).await;
    cluster.restart(1).await;
    let ledger = cluster.any();
    let tip = ledger.linearizable_state().await.unwrap().tip();
    assert_eq!(ledger.verify_chain().unwrap(), tip);
    let events = ledger.subject_events_after(&Subject::Node(node_id(1)), 1, 1).unwrap();
    assert!(events[0].record.len() > 1 << 20);
    let unsynced = cluster.config(1).data_dir.join("events").join("blobs");
    assert_eq!(std::fs::read_dir(unsynced).unwrap().count(), 0);
}
