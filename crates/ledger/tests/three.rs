//! A cluster of three: what one member acknowledged, all know; losing one stops nobody.

mod fixture;

use std::time::Duration;

use bessemer_domain::{Revision, Subject};
use fixture::{Cluster, LIMIT, create_node, describe_node, node_id, register_conductor, until};
use futures::{StreamExt, TryStreamExt};

#[tokio::test(flavor = "multi_thread")]
async fn every_member_takes_commands_and_all_agree() {
    let cluster = Cluster::start(3, |_| ()).await;
    cluster.ledger(2).propose(vec![register_conductor()]).await.unwrap();
    let mut last = None;
    for n in 0..60 {
        let ledger = cluster.ledger(1 + (n % 3) as u64);
        let proposed = ledger.propose(vec![create_node(n)]).await.unwrap();
        assert!(proposed.outcomes[0].is_ok());
        assert!(ledger.state().node(node_id(n)).is_some(), "a member does not see its own write");
        last = Some(ledger);
    }
    cluster.level(&last.unwrap()).await;
    let states: Vec<_> =
        (1..=3).map(|id| serde_json::to_value(cluster.ledger(id).state()).unwrap()).collect();
    assert_eq!(states[0], states[1]);
    assert_eq!(states[0], states[2]);
    let events: Vec<_> =
        (1..=3).map(|id| cluster.ledger(id).events_after(Revision(0), 1000).unwrap()).collect();
    assert_eq!(events[0].len(), 62);
    assert_eq!(events[0], events[1]);
    assert_eq!(events[0], events[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_leader_is_replaced_and_nothing_is_lost() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    let leader = cluster.leader().await;
    let first = cluster.ledger(leader).propose(vec![create_node(1)]).await.unwrap();
    let repeat = create_node(2);
    let repeated = cluster.ledger(leader).propose(vec![repeat.clone()]).await.unwrap();

    cluster.crash(leader).await;
    let ledger = cluster.any();
    let next = ledger.propose(vec![create_node(3)]).await.unwrap();
    assert!(next.revision > first.revision);
    let state = ledger.linearizable_state().await.unwrap();
    assert!((1..=3).all(|n| state.node(node_id(n)).is_some()));
    let again = ledger.propose(vec![repeat]).await.unwrap();
    assert_eq!(again.outcomes, repeated.outcomes);

    cluster.restart(leader).await;
    cluster.level(&ledger).await;
    assert_eq!(cluster.ledger(leader).state().tip(), ledger.state().tip());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_sees_what_was_acknowledged_anywhere() {
    let cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor(), create_node(1)]).await.unwrap();
    for n in 0..30 {
        let description = n.to_string();
        let writer = cluster.ledger(1 + n % 3);
        writer.propose(vec![describe_node(1, &description)]).await.unwrap();
        for id in 1..=3 {
            let state = cluster.ledger(id).linearizable_state().await.unwrap();
            assert_eq!(state.node(node_id(1)).unwrap().spec.description, description);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_away_gets_all_of_history_by_snapshot() {
    let mut cluster = Cluster::start(3, |config| {
        config.snapshot_every_entries = 30;
        config.keep_entries = 0;
    })
    .await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    let leader = cluster.leader().await;
    let away = leader % 3 + 1;
    cluster.crash(away).await;
    let ledger = cluster.ledger(leader);
    for n in 0..200 {
        ledger.propose(vec![create_node(n)]).await.unwrap();
    }
    until("a snapshot that covers most of it", || async {
        ledger.status().snapshot_index.filter(|index| *index >= 150).ok_or("none")
    })
    .await;
    cluster.restart(away).await;
    let returned = cluster.ledger(away);
    let before = returned.status().last_log_index;
    cluster.level(&ledger).await;
    assert!(before < Some(100), "the log alone brought the member up: {before:?}");
    assert_eq!(returned.state().tip(), ledger.state().tip());
    assert_eq!(
        returned.events_after(Revision(0), 1000).unwrap(),
        ledger.events_after(Revision(0), 1000).unwrap()
    );
    assert_eq!(returned.subject_events_after(&Subject::Node(node_id(7)), 0, 10).unwrap().len(), 1);
    assert_eq!(returned.verify_chain().unwrap(), ledger.state().tip());
    // It can take part in everything again.
    returned.propose(vec![describe_node(7, "back")]).await.unwrap();
    assert_eq!(returned.subject_events_after(&Subject::Node(node_id(7)), 0, 10).unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_has_no_gap_across_a_change_of_leader() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    cluster.any().propose((0..20).map(create_node).collect()).await.unwrap();
    let leader = cluster.leader().await;
    let watcher = cluster.ledger(leader % 3 + 1);
    let watching = tokio::spawn(async move {
        let mut next = Revision(1);
        let mut watch = std::pin::pin!(watcher.watch(Revision(0)));
        while let Some(events) = watch.try_next().await.unwrap() {
            for event in events {
                assert_eq!(event.revision, next);
                next = next.next();
            }
            if next > Revision(122) {
                return;
            }
        }
    });
    let writer = cluster.ledger((leader + 1) % 3 + 1);
    let writing = tokio::spawn(async move {
        for n in 0..100 {
            writer.propose(vec![describe_node(n % 20, &n.to_string())]).await.unwrap();
        }
    });
    let seen = cluster.ledger(leader % 3 + 1);
    until("half of the writes", || async {
        (seen.state().tip().revision > Revision(60)).then_some(()).ok_or("less")
    })
    .await;
    cluster.crash(leader).await;
    tokio::time::timeout(LIMIT, writing).await.unwrap().unwrap();
    tokio::time::timeout(LIMIT, watching).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_with_the_leader() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    let leader = cluster.leader().await;
    for (id, member) in &cluster.members {
        let mut leads = member.ledger.leadership();
        leads.wait_for(|leads| *leads == (*id == leader)).await.unwrap();
    }
    cluster.crash(leader).await;
    let next = cluster.leader().await;
    let mut leads = cluster.ledger(next).leadership();
    tokio::time::timeout(LIMIT, leads.wait_for(|leads| *leads)).await.unwrap().unwrap();
    let status = cluster.ledger(next).status();
    assert_eq!(status.members.len(), 3);
    assert!(status.members.iter().all(|member| member.voter));
    assert_eq!(status.members.iter().filter(|member| member.leader).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_accepted_and_the_caller_is_told() {
    let mut cluster = Cluster::start(3, |config| {
        config.propose_timeout = Duration::from_secs(1);
        config.read_timeout = Duration::from_secs(1);
    })
    .await;
    let ledger = cluster.ledger(1);
    until("a leader", || ledger.propose(vec![register_conductor()])).await;
    cluster.crash(3).await;
    cluster.crash(2).await;
    let refused = ledger.propose(vec![create_node(1)]).await.unwrap_err();
    assert!(refused.to_string().contains("repeat with the same command ids"), "{refused}");
    let refused = ledger.linearizable_state().await.unwrap_err();
    assert!(refused.to_string().contains("no leader confirmed the read"), "{refused}");
    cluster.restart(2).await;
    until("a majority", || ledger.propose(vec![create_node(2)])).await;
    let read = ledger.watch(Revision(0)).next().await.unwrap().unwrap();
    assert_eq!(read[0].revision, Revision(1));
}
