//! A short run of the chaos program, as `scripts/chaos` runs a long one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use bessemer_testkit::binary;

/// Runs it, and shows what it printed if it failed.
fn chaos(arguments: &[&str]) {
    let output = Command::new(binary("bessemer-chaos")).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn deployments_survive_whatever_is_killed() {
    chaos(&["--nodes", "8", "--seconds", "30", "--every-seconds", "3"]);
}

#[test]
fn deployments_do_not_notice_a_rolling_restart() {
    chaos(&["--nodes", "8", "--seconds", "5", "--faults", "rolling"]);
}

/// Every process on a host of its own, in a network namespace; takes root.
#[test]
fn deployments_survive_whatever_is_cut_off() {
    let arguments = ["--nodes", "8", "--seconds", "40", "--every-seconds", "3"];
    chaos(&[&arguments[..], &["--faults", "network"]].concat());
}
