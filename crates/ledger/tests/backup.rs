//! A backup is whole or says what is not, and what is restored from it is the same history, told apart from the lost one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fixture;

use std::path::{Path, PathBuf};

use bessemer_domain::{EventRecord, Revision};
use bessemer_ledger::backup::{self, Header, RestoreError, SoleMember};
use bessemer_ledger::{Change, Ledger, MemberId};
use fixture::{Cluster, create_node, describe_node, node_id, register_conductor, until};
use futures::StreamExt;

async fn back_up(ledger: &Ledger, file: &Path) -> Header {
    let mut slices = ledger.backup().await.unwrap().unwrap();
    let mut bytes = Vec::new();
    while let Some(slice) = slices.next().await {
        bytes.extend_from_slice(&slice.unwrap());
    }
    std::fs::write(file, bytes).unwrap();
    backup::verify(file).unwrap()
}

fn restore(
    file: &Path,
    dir: &Path,
    id: u64,
    address: &str,
) -> Result<backup::Restored, RestoreError> {
    backup::restore(file, dir, SoleMember { id: MemberId(id), address }, "tester")
}

async fn cluster_with_nodes(count: u128) -> Cluster {
    let cluster = Cluster::start(1, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    cluster.any().propose((0..count).map(create_node).collect()).await.unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_what_was_acknowledged_and_explains_itself() {
    let cluster = cluster_with_nodes(40).await;
    let ledger = cluster.any();
    let file = cluster.dir.path().join("backup");
    let header = back_up(&ledger, &file).await;
    let state = ledger.state();
    assert_eq!((header.revision, header.hash), (state.tip().revision, state.tip().hash));
    assert_eq!(Some(header.cluster_id), state.cluster_id());
    assert_eq!((header.member_id, header.members.len()), (MemberId(1), 1));

    // As the module's documentation has it: lines that other tools can read.
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len() as u64, 1 + header.revision.0 + 2);
    let first: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!(first["format"], "bessemer-backup");
    for (line, event) in lines[1..].iter().zip(ledger.events_after(Revision(0), 1000).unwrap()) {
        let (hash, record) = line.split_once(' ').unwrap();
        assert_eq!((hash, record.as_bytes()), (event.hash.to_string().as_str(), &event.record[..]));
    }
    let stored: serde_json::Value = serde_json::from_str(lines[lines.len() - 2]).unwrap();
    assert_eq!(stored, serde_json::to_value(&state).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_damaged_is_found_and_named() {
    let cluster = cluster_with_nodes(5).await;
    let file = cluster.dir.path().join("backup");
    let header = back_up(&cluster.any(), &file).await;
    let whole = std::fs::read(&file).unwrap();
    let dir = cluster.dir.path().join("restored");
    let line_starts: Vec<_> = std::iter::once(0)
        .chain(whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1))
        .collect();
    let refused = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        let error = restore(&file, &dir, 1, "127.0.0.1:1").unwrap_err().to_string();
        assert!(!dir.exists(), "something was made of it: {error}");
        error
    };
    // One bit in each line: header, events, state, trailer.
    for (number, start) in line_starts[..line_starts.len() - 1].iter().enumerate() {
        let mut bytes = whole.clone();
        bytes[start + 70] ^= 1;
        let error = refused(&bytes);
        let place = match number as u64 {
            0 => "line 1 is not the header".to_owned(),
            event if event <= header.revision.0 => {
                format!("event {event} (line {}) is damaged", event + 1)
            }
            line if line == header.revision.0 + 1 => "the state (line".to_owned(),
            _ => "its digest".to_owned(),
        };
        // What is still well-formed shows by the digest of the whole; an event shows by its own hash.
        let by_digest = error.contains("its SHA-256 is") && !place.contains("event");
        assert!(error.contains(&place) || by_digest, "line {}: {error}", number + 1);
    }
    // Cut off anywhere.
    for length in [0, 40, line_starts[3], line_starts[3] + 9, whole.len() - 90, whole.len() - 1] {
        let error = refused(&whole[..length]);
        assert!(error.contains("it ends before"), "{length}: {error}");
    }
    // An event is left out, or comes twice.
    let cut: Vec<_> = [&whole[..line_starts[3]], &whole[line_starts[4]..]].concat();
    assert!(refused(&cut).contains("event 3 (line 4) is damaged"));
    let doubled: Vec<_> = [&whole[..line_starts[4]], &whole[line_starts[3]..]].concat();
    assert!(refused(&doubled).contains("event 4 (line 5) is damaged"));
    let longer: Vec<_> = [&whole[..], b"more\n"].concat();
    assert!(refused(&longer).contains("something follows"));
    let other = String::from_utf8(whole).unwrap().replacen("\"version\":1", "\"version\":9", 1);
    assert!(refused(other.as_bytes()).contains("version 9 is unknown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_has_the_same_history_and_says_that_it_was_restored() {
    let mut cluster = Cluster::start(3, |_| ()).await;
    cluster.any().propose(vec![register_conductor()]).await.unwrap();
    cluster.any().propose((0..30).map(create_node).collect()).await.unwrap();
    let repeated = describe_node(7, "before");
    cluster.any().propose(vec![repeated.clone()]).await.unwrap();
    let file = cluster.dir.path().join("backup");
    let header = back_up(&cluster.ledger(2), &file).await;
    let before = cluster.any().linearizable_state().await.unwrap();
    let history = cluster.any().events_after(Revision(0), 1000).unwrap();
    cluster.any().propose(vec![create_node(99)]).await.unwrap();
    for id in 1..=3 {
        cluster.crash(id).await;
        cluster.wipe(id);
    }

    let dir = cluster.dir.path().join("2");
    let restored = restore(&file, &dir, 2, &cluster.address(2)).unwrap();
    assert_eq!((&restored.backup, restored.revision), (&header, header.revision.next()));
    cluster.restart(2).await;
    let ledger = cluster.ledger(2);
    // What was outcome before is outcome still.
    let again = until("a leader", || ledger.propose(vec![repeated.clone()])).await;
    assert_eq!(again.revision, restored.revision);
    let state = ledger.linearizable_state().await.unwrap();
    assert_eq!(state.cluster_id(), before.cluster_id());
    assert_eq!(state.node_count(), before.node_count());
    assert!(state.nodes().eq(before.nodes()));
    assert!(state.node(node_id(99)).is_none());
    assert_eq!(state.restored().map(|restored| restored.id), Some(restored.restoration));
    let now = ledger.events_after(Revision(0), 1000).unwrap();
    assert_eq!(now[..history.len()], history);
    let last = EventRecord::decode(&now.last().unwrap().record).unwrap();
    assert_eq!((last.event.name(), last.actor.as_str()), ("cluster.restored", "tester"));
    assert_eq!(ledger.verify_chain().unwrap(), state.tip());

    // The others join with empty directories, and a second backup goes on from the first.
    for id in [1, 3] {
        cluster.restart(id).await;
        let add = Change::AddLearner { id: MemberId(id), address: cluster.address(id) };
        ledger.change(&add).await.unwrap();
        let promote = Change::Promote { id: MemberId(id) };
        until("a promotion", || async { ledger.change(&promote).await }).await;
    }
    cluster.crash(2).await;
    let ledger = cluster.ledger(1);
    until("another leader", || ledger.propose(vec![create_node(100)])).await;
    assert_eq!(ledger.verify_chain().unwrap(), ledger.state().tip());
    let header = back_up(&ledger, &file).await;
    assert_eq!(header.restoration, Some(restored.restoration));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_before_the_disaster_is_not_taken_for_one_of_after_it() {
    let mut cluster = Cluster::start(3, |_| {}).await;
    cluster.any().propose(vec![register_conductor(), create_node(1)]).await.unwrap();
    let file = cluster.dir.path().join("backup");
    back_up(&cluster.any(), &file).await;
    cluster.any().propose(vec![create_node(2)]).await.unwrap();
    // One that lags has not learnt yet which history it belongs to, and would be told by the restored one that it is none
    // of its members.
    for id in 1..=3 {
        until("a member to know its history", || async { cluster.history(id).ok_or("none") }).await;
    }
    for id in 1..=3 {
        cluster.crash(id).await;
    }
    cluster.wipe(1);
    restore(&file, &cluster.dir.path().join("1"), 1, &cluster.address(1)).unwrap();
    cluster.restart(1).await;
    let restored = cluster.ledger(1);
    until("a leader", || restored.propose(vec![create_node(3)])).await;

    // Two of the three of before come back with their data: by themselves they are a majority, with the restored one's
    // address among theirs.
    cluster.restart(2).await;
    cluster.restart(3).await;
    let (old, other) = (cluster.ledger(2), cluster.ledger(3));
    until("the old majority", || async {
        let proposed = old.propose(vec![create_node(4)]).await;
        proposed.map_err(|error| (error, old.status(), other.status()))
    })
    .await;
    let nodes = |ledger: &Ledger| {
        (1..=4).filter(|n| ledger.state().node(node_id(*n)).is_some()).collect::<Vec<_>>()
    };
    let term = restored.status().term;
    restored.propose(vec![describe_node(3, "still here")]).await.unwrap();
    assert_eq!((nodes(&restored), nodes(&old)), (vec![1, 3], vec![1, 2, 4]));
    assert_eq!(restored.status().term, term, "the old members had a say");

    // Even when it is added, it does not take the new history onto its old one.
    let add = Change::AddLearner { id: MemberId(2), address: cluster.address(2) };
    restored.change(&add).await.unwrap();
    let promoted = restored.change(&Change::Promote { id: MemberId(2) }).await.unwrap_err();
    assert!(promoted.to_string().contains("member 2 is not ready"), "{promoted}");
    assert_eq!(nodes(&old), [1, 2, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_restored_over_something() {
    let cluster = cluster_with_nodes(1).await;
    let file = cluster.dir.path().join("backup");
    back_up(&cluster.any(), &file).await;
    let own = cluster.dir.path().join("1");
    let error = restore(&file, &own, 1, "127.0.0.1:1").unwrap_err();
    assert!(matches!(error, RestoreError::NotEmpty { .. }), "{error}");
    let error = restore(&file, &cluster.dir.path().join("new"), 1, "nowhere").unwrap_err();
    assert!(matches!(error, RestoreError::Address(_)), "{error}");
    let absent = PathBuf::from("/nonexistent/backup");
    let error = restore(&absent, &cluster.dir.path().join("new"), 1, "h:1").unwrap_err();
    assert!(error.to_string().contains("it cannot be read"), "{error}");

    // An empty directory is as good as none, and what a cut restoration left is no hindrance.
    let empty = cluster.dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    std::fs::create_dir(cluster.dir.path().join("empty.restoring")).unwrap();
    restore(&file, &empty, 1, "127.0.0.1:1").unwrap();
    assert!(empty.join("member").exists());
    assert!(!cluster.dir.path().join("empty.restoring").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_when_it_is_asked_for() {
    let cluster = cluster_with_nodes(3).await;
    let ledger = cluster.any();
    let first = ledger.snapshot().await.unwrap();
    assert_eq!(ledger.status().snapshot_index, Some(first));
    assert_eq!(ledger.snapshot().await.unwrap(), first, "nothing is new");
    ledger.propose(vec![create_node(9)]).await.unwrap();
    assert!(ledger.snapshot().await.unwrap() > first);
}
