//! The seeds of every build, and the proof that invariants can fail.

use std::time::Duration;

use crate::sabotage::Sabotage;
use crate::{Report, run, run_with};

/// Seeds of every build; `./scripts/simulate` runs more.
const SEEDS: u64 = 50;

/// Within how many seeds a defect must be found.
const SEEDS_TO_FIND: u64 = 1_000;

#[test]
fn no_seed_breaks_an_invariant() {
    for seed in 0..SEEDS {
        let report = run(seed);
        assert!(report.failure.is_none(), "{report}");
        assert!(report.entries > 100 && report.elapsed > Duration::from_secs(90), "{report}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let digests =
        |seeds: std::ops::Range<u64>| -> Vec<_> { seeds.map(|seed| run(seed).digest).collect() };
    assert_eq!(digests(0..3), digests(0..3));
    assert_ne!(run(1).digest, run(2).digest);
}

/// The first report of a broken invariant with `sabotage` built in.
fn found(sabotage: Sabotage) -> Option<Report> {
    (0..SEEDS_TO_FIND)
        .map(|seed| run_with(seed, Some(sabotage)))
        .find(|report| report.failure.is_some())
}

#[test]
fn every_defect_is_found_by_its_invariant() {
    let defects: &[(Sabotage, &[&str])] = &[
        (Sabotage::AgentForgetsAnswers, &["steps_once"]),
        (Sabotage::TableFirst, &["no_half_image"]),
        (Sabotage::PublisherSkipsFence, &["stream_in_order"]),
        (Sabotage::PublisherSkipsAudit, &["everything_comes_to_rest"]),
        (Sabotage::ConductorIgnoresLease, &["one_driver"]),
        (Sabotage::ConductorMissesChanges, &["everything_comes_to_rest"]),
        (Sabotage::SnapshotWithoutOutcomes, &["members_agree", "outcomes_once"]),
        (Sabotage::MemberLosesEvent, &["history_is_whole"]),
    ];
    let mut missed = Vec::new();
    for (sabotage, invariants) in defects {
        let report = found(*sabotage);
        let failure = report.as_ref().and_then(|report| report.failure.as_ref());
        let by = failure.map_or("nothing", |failure| failure.invariant);
        println!("{sabotage:?}: {by}, seed {:?}", report.as_ref().map(|report| report.seed));
        if !invariants.contains(&by) {
            missed.push(format!("{sabotage:?} was found by {by} in {SEEDS_TO_FIND} seeds"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
