//! Who takes part changes while the cluster works, and a member that forgot its promises is not let in.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bessemer_domain::Revision;
use bessemer_ledger::{Change, ChangeError, Changed, Ledger, MemberId};
use fixture::{Cluster, LIMIT, create_node, node_id, register_conductor, until};
use tokio::task::JoinHandle;

fn add(cluster: &Cluster, id: u64) -> Change {
    Change::AddLearner { id: MemberId(id), address: cluster.address(id) }
}

const fn promote(id: u64) -> Change {
    Change::Promote { id: MemberId(id) }
}

const fn remove(id: u64) -> Change {
    Change::Remove { id: MemberId(id), force: false }
}

const fn transfer(id: u64) -> Change {
    Change::TransferLeader { id: MemberId(id) }
}

/// Members of a ledger's group, and whether each votes.
fn group(ledger: &Ledger) -> Vec<(u64, bool)> {
    ledger.status().members.iter().map(|member| (member.id.0, member.voter)).collect()
}

/// Creates nodes one after the other, at one member after the other, until told to stop. None may fail.
struct Load {
    stop: Arc<AtomicBool>,
    writing: JoinHandle<u128>,
}

impl Load {
    fn start(ledgers: Vec<Ledger>, first: u128) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writing = tokio::spawn(async move {
            let mut n = first;
            while !stopped.load(Ordering::Relaxed) {
                let ledger = &ledgers[n as usize % ledgers.len()];
                let proposed = ledger.propose(vec![create_node(n)]).await;
                let proposed = proposed.unwrap_or_else(|error| panic!("node {n}: {error}"));
                assert!(proposed.outcomes[0].is_ok(), "{:?}", proposed.outcomes);
                n += 1;
            }
            n - first
        });
        Self { stop, writing }
    }

    /// How many were created.
    async fn stop(self) -> u128 {
        self.stop.store(true, Ordering::Relaxed);
        tokio::time::timeout(LIMIT, self.writing).await.unwrap().unwrap()
    }
}

/// Waits until a ledger knows its group to be this one.
async fn until_group(ledger: &Ledger, expected: &[(u64, bool)]) {
    until("the group", || async {
        let group = group(ledger);
        if group == expected { Ok(()) } else { Err(group) }
    })
    .await;
}

async fn failure_of(ledger: &Ledger) -> String {
    tokio::time::timeout(LIMIT, ledger.failed()).await.expect("the member goes on")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_added_and_promoted_under_load_and_holds_all_of_history() {
    let mut cluster = Cluster::start(3, |config| {
        config.snapshot_every_entries = 50;
        config.keep_entries = 0;
    })
    .await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    let load = Load::start((1..=3).map(|id| cluster.ledger(id)).collect(), 0);
    let ledger = cluster.ledger(2);
    until("a purged log", || async {
        ledger.status().first_log_index.filter(|first| *first > 50).ok_or("not purged")
    })
    .await;
    cluster.join(4).await;
    let added = ledger.change(&add(&cluster, 4)).await.unwrap();
    assert!(added.changed);
    assert_eq!(group(&ledger), [(1, true), (2, true), (3, true), (4, false)]);
    assert!(!ledger.change(&add(&cluster, 4)).await.unwrap().changed);

    until("a promotion", || async { ledger.change(&promote(4)).await }).await;
    assert_eq!(group(&ledger), [(1, true), (2, true), (3, true), (4, true)]);
    assert!(!ledger.change(&promote(4)).await.unwrap().changed);
    let created = load.stop().await;
    cluster.level(&ledger).await;
    let new = cluster.ledger(4);
    assert_eq!(new.state().node_count() as u128, created);
    assert_eq!(new.verify_chain().unwrap(), ledger.state().tip());
    assert_eq!(
        new.events_after(Revision(0), usize::MAX).unwrap(),
        ledger.events_after(Revision(0), usize::MAX).unwrap()
    );
    // It is a member like the others: with it, two others are a majority of four... and it can lead.
    new.change(&transfer(4)).await.unwrap();
    assert_eq!(cluster.leader().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_handed_over_under_load_and_nothing_fails() {
    let cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    let load = Load::start((1..=3).map(|id| cluster.ledger(id)).collect(), 0);
    for round in 0..6 {
        let to = cluster.leader().await % 3 + 1;
        // Asked of each member in turn.
        let asked = cluster.ledger(round % 3 + 1);
        assert!(asked.change(&transfer(to)).await.unwrap().changed, "round {round}");
        assert_eq!(cluster.leader().await, to, "round {round}");
        let again = asked.change(&transfer(to)).await.unwrap();
        assert_eq!(again, Changed { changed: false, log_index: None });
    }
    assert!(load.stop().await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_removed_hands_over_and_ends() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    let leader = cluster.leader().await;
    let others: Vec<_> = (1..=3).filter(|id| *id != leader).collect();
    let left: Vec<_> = others.iter().map(|id| (*id, true)).collect();
    let load = Load::start(others.iter().map(|id| cluster.ledger(*id)).collect(), 0);
    let removed = cluster.ledger(leader);
    assert!(removed.change(&remove(leader)).await.unwrap().changed);
    let reason = failure_of(&removed).await;
    assert!(reason.contains("was removed"), "{reason}");
    drop(removed);
    cluster.crash(leader).await;
    let ledger = cluster.any();
    until_group(&ledger, &left).await;
    assert!(!ledger.change(&remove(leader)).await.unwrap().changed);
    assert!(load.stop().await > 0);

    // Started again on its data, it is told again, and disturbs nobody.
    cluster.restart(leader).await;
    let reason = failure_of(&cluster.ledger(leader)).await;
    assert!(reason.contains("was removed"), "{reason}");
    cluster.crash(leader).await;
    ledger.propose(vec![register_conductor()]).await.unwrap();
    until_group(&ledger, &left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_member_is_replaced_by_one_with_a_new_id_at_its_address() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor(), create_node(1)]).await.unwrap();
    let dead = cluster.leader().await % 3 + 1;
    cluster.crash(dead).await;
    let ledger = cluster.any();
    cluster.take_address(dead, 4);
    // The leader still sends what is meant for the dead one; its successor must not take it.
    cluster.restart(4).await;
    ledger.propose(vec![create_node(2)]).await.unwrap();
    let successor = cluster.ledger(4);
    let error = ledger.change(&add(&cluster, 4)).await.unwrap_err();
    assert!(matches!(error, ChangeError::Taken { holder, .. } if holder.0 == dead), "{error}");
    assert_eq!(successor.status().last_log_index, None);

    ledger.change(&remove(dead)).await.unwrap();
    ledger.change(&add(&cluster, 4)).await.unwrap();
    until("a promotion", || async { ledger.change(&promote(4)).await }).await;
    cluster.level(&ledger).await;
    let third = cluster.members.keys().copied().find(|id| *id != 4 && *id != 1).unwrap();
    cluster.crash(third).await;
    let proposed = cluster.ledger(4).propose(vec![create_node(3)]).await.unwrap();
    assert!(proposed.outcomes[0].is_ok());
    assert!((1..=3).all(|n| cluster.ledger(4).state().node(node_id(n)).is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_cost_the_majority_is_refused_and_says_who_is_up() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    let leader = cluster.leader().await;
    let (dead, alive) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.crash(dead).await;
    let ledger = cluster.ledger(leader);
    let ChangeError::Quorum { up, down, needed, .. } =
        ledger.change(&remove(alive)).await.unwrap_err()
    else {
        panic!("another refusal")
    };
    assert_eq!((up, down, needed), (vec![MemberId(leader)], vec![MemberId(dead)], 2));
    let error = ledger.change(&transfer(dead)).await.unwrap_err();
    assert!(matches!(error, ChangeError::Behind { up: false, .. }), "{error}");

    // A learner that is nowhere is added, and cannot vote.
    let nowhere = Change::AddLearner { id: MemberId(9), address: "127.0.0.1:1".to_owned() };
    ledger.change(&nowhere).await.unwrap();
    let error = ledger.change(&promote(9)).await.unwrap_err().to_string();
    assert!(error.contains("member 9 is not ready"), "{error}");
    assert!(error.contains("does not answer the leader"), "{error}");
    let error = ledger.change(&transfer(9)).await.unwrap_err();
    assert_eq!(error, ChangeError::Learner { id: MemberId(9) });
    ledger.change(&remove(9)).await.unwrap();
    // The dead one itself can go.
    ledger.change(&remove(dead)).await.unwrap();
    assert_eq!(group(&ledger).len(), 2);
    ledger.change(&remove(alive)).await.unwrap();
    let error = ledger.change(&remove(leader)).await.unwrap_err();
    assert_eq!(error, ChangeError::LastVoter { id: MemberId(leader) });
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_change_says_what_is_missing() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    cluster.crash(2).await;
    cluster.crash(3).await;
    // A leader that has just lost the others says whom it misses; any other member, what it waits for.
    match cluster.ledger(1).change(&remove(2)).await.unwrap_err() {
        ChangeError::Quorum { down, .. } => assert_eq!(down, [MemberId(3)]),
        error @ ChangeError::TimedOut { .. } => {
            assert!(error.to_string().contains("waiting for"), "{error}");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_lost_its_disk_is_not_let_in_and_forms_nothing() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor(), create_node(1)]).await.unwrap();
    // The one that would form a cluster.
    cluster.crash(1).await;
    cluster.wipe(1);
    cluster.restart(1).await;
    let lost = cluster.ledger(1);
    let reason = failure_of(&lost).await;
    assert!(reason.contains("member 1 is a voter"), "{reason}");
    assert_eq!(lost.status().last_log_index, None);
    assert_eq!(lost.status().failure, Some(reason));
    drop(lost);
    cluster.crash(1).await;

    let ledger = cluster.ledger(2);
    ledger.change(&remove(1)).await.unwrap();
    cluster.wipe(1);
    cluster.restart(1).await;
    ledger.change(&add(&cluster, 1)).await.unwrap();
    until("a promotion", || async { ledger.change(&promote(1)).await }).await;
    cluster.level(&ledger).await;
    assert!(cluster.ledger(1).state().node(node_id(1)).is_some());
    assert_eq!(cluster.ledger(1).state().cluster_id(), ledger.state().cluster_id());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_lost_its_disk_gets_everything_again() {
    let mut cluster = Cluster::start(1, |_| ()).await;
    let ledger = cluster.ledger(1);
    ledger.propose(vec![register_conductor(), create_node(1)]).await.unwrap();
    cluster.join(2).await;
    ledger.change(&add(&cluster, 2)).await.unwrap();
    cluster.level(&ledger).await;
    cluster.crash(2).await;
    cluster.wipe(2);
    cluster.restart(2).await;
    ledger.propose(vec![create_node(2)]).await.unwrap();
    cluster.level(&ledger).await;
    assert_eq!(cluster.ledger(2).verify_chain().unwrap(), ledger.state().tip());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_not_formed_before_all_its_first_members_are_there() {
    let mut cluster = Cluster::start(3, |config| {
        config.propose_timeout = Duration::from_millis(500);
    })
    .await;
    for id in 1..=3 {
        cluster.crash(id).await;
        cluster.wipe(id);
    }
    cluster.restart(1).await;
    cluster.restart(2).await;
    let ledger = cluster.ledger(1);
    until("a word about member 3", || async {
        let waits = ledger.status().waits_for.unwrap_or_default();
        let only_the_third = waits.contains("member 3") && !waits.contains("member 2");
        if only_the_third { Ok(()) } else { Err(waits) }
    })
    .await;
    assert!(ledger.propose(vec![register_conductor()]).await.is_err());
    assert_eq!(ledger.status().last_log_index, None);
    cluster.restart(3).await;
    until("a cluster", || ledger.propose(vec![register_conductor()])).await;
    until_group(&ledger, &[(1, true), (2, true), (3, true)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_tells_any_member_who_is_up_and_how_far() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    let leader = cluster.leader().await;
    let (dead, asked) = (leader % 3 + 1, cluster.ledger((leader + 1) % 3 + 1));
    cluster.crash(dead).await;
    until("a member that is down", || async {
        let members = asked.members().await;
        let up = |id: u64| members.iter().find(|member| member.id.0 == id).unwrap().up;
        let told = (up(leader), up(dead), up(asked.status().member_id.0));
        (told == (Some(true), Some(false), Some(true))).then_some(()).ok_or(told)
    })
    .await;
    cluster.ledger(leader).propose(vec![create_node(1)]).await.unwrap();
    until("a lag", || async {
        let members = asked.members().await;
        let lag = |id: u64| members.iter().find(|member| member.id.0 == id).unwrap().lag;
        (lag(leader) == Some(0) && lag(dead) > Some(0)).then_some(()).ok_or_else(|| members.clone())
    })
    .await;
}
