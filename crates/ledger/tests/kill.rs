//! A member's process is killed with SIGKILL in the middle of writes, snapshots and purges, again and again; whatever it
//! acknowledged must be there. Run without arguments this is the test; with a directory it is the process to kill.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod fixture;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use bessemer_domain::Revision;
use bessemer_ledger::{Config, Ledger, MemberId};
use fixture::{LIMIT, create_node, node_id, register_conductor};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Kills. Each process writes on where the one before was killed.
const ROUNDS: u128 = 12;

/// Proposals under way at the moment of each kill.
const WRITERS: u128 = 8;

/// Acknowledgements before a kill: several snapshots and purges fit in.
const ACKNOWLEDGED: usize = 300;

fn config(dir: &Path) -> Config {
    let members = [(MemberId(1), "127.0.0.1:1".to_owned())].into();
    let mut config = Config::new(MemberId(1), dir, members);
    config.snapshot_every_entries = 40;
    config.keep_entries = 5;
    config
}

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    match arguments.get(1..) {
        Some([role, dir, round]) if role == "write" => write(dir.as_ref(), round).await,
        _ => nothing_acknowledged_is_lost().await,
    }
}

/// Creates nodes until killed, and prints the number of each one that was acknowledged.
async fn write(dir: &Path, round: &str) {
    let round: u128 = round.parse().unwrap();
    let (ledger, _service) = Ledger::open(config(dir)).await.unwrap();
    ledger.propose(vec![register_conductor()]).await.unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let ledger = ledger.clone();
        tokio::spawn(async move {
            for n in (round << 32 | writer..).step_by(WRITERS as usize) {
                let proposed = ledger.propose(vec![create_node(n)]).await.unwrap();
                assert!(proposed.outcomes[0].is_ok(), "{:?}", proposed.outcomes);
                let mut out = std::io::stdout().lock();
                writeln!(out, "{n}").unwrap();
            }
        })
    });
    futures::future::join_all(writers).await;
}

async fn nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    let mut snapshots = BTreeSet::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("write")
            .arg(dir.path())
            .arg(round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let before = acknowledged.len();
        while let Some(line) =
            tokio::time::timeout(LIMIT, lines.next_line()).await.unwrap().unwrap()
        {
            acknowledged.insert(line.parse::<u128>().unwrap());
            // Not the same moment in each round.
            if acknowledged.len() == before + ACKNOWLEDGED + 7 * round as usize {
                child.start_kill().unwrap();
            }
        }
        child.wait().await.unwrap();
        assert!(acknowledged.len() > before, "round {round} wrote nothing");
        snapshots.extend(snapshot_names(dir.path()));
    }
    let (ledger, _service) = Ledger::open(config(dir.path())).await.unwrap();
    let state = ledger.linearizable_state().await.unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|n| state.node(node_id(**n)).is_none()).collect();
    assert!(lost.is_empty(), "{} acknowledged nodes are lost: {lost:?}", lost.len());
    assert!(snapshots.len() > 3, "no snapshots were taken: {snapshots:?}");
    assert_eq!(ledger.verify_chain().unwrap(), state.tip());
    assert_eq!(state.tip().revision, Revision(2 + state.node_count() as u64));
    println!("{} acknowledged, {ROUNDS} kills, none lost", acknowledged.len());
}

fn snapshot_names(dir: &Path) -> impl Iterator<Item = String> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".json"))
}
