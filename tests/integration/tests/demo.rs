//! `bessemer demo` as a stranger runs it: one program, nothing else installed, and a verdict in its exit code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::Stdio;
use std::time::Duration;

use bessemer_testkit::binary;
use tokio::process::Command;

/// What the demo may take at most, here in a debug build beside other tests.
const LIMIT: Duration = Duration::from_secs(120);

struct Ended {
    status: std::process::ExitStatus,
    out: String,
    err: String,
    left_behind: Vec<String>,
}

/// Runs the demo to its end, with a temporary directory of its own and no tools to lean on.
async fn demo(arguments: &[&str]) -> Ended {
    let temporary = tempfile::tempdir().unwrap();
    let output = Command::new(binary("bessemer"))
        .arg("demo")
        .args(arguments)
        .env_clear()
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, output).await.unwrap().unwrap();
    let left = std::fs::read_dir(temporary.path()).unwrap();
    Ended {
        status: output.status,
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        left_behind: left.map(|entry| entry.unwrap().path().display().to_string()).collect(),
    }
}

#[tokio::test]
async fn the_demo_deploys_checks_and_leaves_nothing_behind() {
    let ended = demo(&["--machines", "2"]).await;
    assert!(ended.status.success(), "{}\n{}", ended.out, ended.err);
    for promised in [
        "2 of 2 disks are the image",
        "none missing, none altered",
        "deploying → active",
        "deploy.write_image done",
        "identical",
        "of demo-2",
        "2 machines deployed",
    ] {
        assert!(ended.out.contains(promised), "{promised}\n{}", ended.out);
    }
    let peak = ended.out.lines().find(|line| line.starts_with("demo-1 ")).unwrap();
    assert!(!peak.contains("  0 B  "), "the agent tells its memory: {peak}");
    assert!(ended.left_behind.is_empty(), "{:?}", ended.left_behind);
}

#[tokio::test]
async fn a_demo_that_cannot_work_says_why_and_where_its_log_is() {
    let ended = demo(&["--image", "/nonexistent/disk.qcow2"]).await;
    assert_eq!(ended.status.code(), Some(2), "{}\n{}", ended.out, ended.err);
    assert!(ended.err.contains("/nonexistent/disk.qcow2"), "{}", ended.err);
    let kept = ended.left_behind.first().unwrap();
    assert!(ended.err.contains(kept), "{}", ended.err);
    assert!(ended.err.contains("demo.log"), "{}", ended.err);
}
