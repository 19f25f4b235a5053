//! `bessemer dev` and the commands around it, as a person at two terminals uses them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use bessemer_testkit::binary;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Longest wait for anything: a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A cluster in a process.
struct Dev {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    api: String,
}

impl Dev {
    async fn start(arguments: &[&str], data: &Path) -> Self {
        let mut child = Command::new(binary("bessemer"))
            .args(["dev", "--data", data.to_str().unwrap()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut dev = Self { child, out, api: String::new() };
        dev.api = dev.until("  api ").await;
        dev
    }

    /// What follows on the first line that begins so.
    async fn until(&mut self, beginning: &str) -> String {
        let found = async {
            while let Some(line) = self.out.next_line().await.unwrap() {
                if let Some(rest) = line.strip_prefix(beginning) {
                    return rest.trim().to_owned();
                }
            }
            panic!("it ended without a line that begins with `{beginning}`")
        };
        tokio::time::timeout(LIMIT, found).await.unwrap()
    }

    async fn bessemer(&self, line: &str) -> Output {
        bessemer(&self.api, line).await
    }

    async fn json(&self, line: &str) -> Value {
        let output = self.bessemer(&format!("{line} -o json")).await;
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// As Ctrl-C does it.
    async fn interrupt(mut self) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        self.until("stopped").await;
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
    }
}

async fn bessemer(api: &str, line: &str) -> Output {
    let output = Command::new(binary("bessemer"))
        .env("BESSEMER_API", api)
        .env("BESSEMER_ACTOR", "ada")
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(LIMIT, output).await.unwrap().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_cluster_goes_on_where_it_was_with_the_same_history() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(&["--listen", "127.0.0.1:0", "--members", "3"], data.path()).await;
    dev.json("node create --name m1 --driver fake --property memory_mb=4096").await;
    let output = dev.bessemer("node manage m1 --wait --timeout 50s").await;
    assert!(output.status.success(), "{output:?}");
    let before = dev.json("event verify").await;
    let history = dev.json("node history m1").await;
    assert_eq!(history[0]["actor"], "ada");
    let api = dev.api.clone();
    dev.interrupt().await;

    let dev = Dev::start(&[], data.path()).await;
    assert_eq!(dev.api, api);
    let node = dev.json("node show m1").await;
    assert_eq!(node["status"]["provision_state"], "manageable");
    assert_eq!(node["spec"]["properties"]["memory_mb"], 4096);
    // What was there is there still, and what came after is chained to it.
    let hash = before["hash"].as_str().unwrap();
    dev.json(&format!("event verify --against {hash}@{}", before["events"])).await;
    let again = dev.json("node history m1").await;
    assert_eq!(again.as_array().unwrap()[..], history.as_array().unwrap()[..]);
    dev.interrupt().await;
}

#[tokio::test]
async fn history_is_exported_checked_and_replayed_without_the_cluster() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(&["--listen", "127.0.0.1:0", "--machines", "1"], data.path()).await;
    let born = dev.json("node history machine-1").await[0]["revision"].as_u64().unwrap();
    let output = dev.bessemer("node manage machine-1 --wait --timeout 50s").await;
    assert!(output.status.success(), "{output:?}");
    let file = data.path().join("history.jsonl");
    let path = file.to_str().unwrap();
    let exported = dev.json(&format!("event export {path}")).await;
    let shown = dev.json("node show machine-1").await;
    let enrolled = dev.json(&format!("node show machine-1 --at {born}")).await;
    assert_eq!(enrolled["status"]["provision_state"], "enroll");
    dev.interrupt().await;

    // Nobody listens there any more.
    let nobody = "http://127.0.0.1:1";
    let json = async |line: String| -> Value {
        let output = bessemer(nobody, &format!("{line} -o json")).await;
        assert!(output.status.success(), "{line}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let verified = json(format!("event verify --file {path}")).await;
    assert_eq!((&verified["events"], &verified["hash"]), (&exported["events"], &exported["hash"]));
    let replayed = json(format!("event replay {path} --node machine-1")).await;
    assert_eq!(replayed, shown);
    let replayed = json(format!("event replay {path} --node machine-1 --at {born}")).await;
    assert_eq!(replayed, enrolled);
    assert_eq!(json(format!("event replay {path}")).await[0], shown);

    let history = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, history.replace("\"driver\":\"fake\"", "\"driver\":\"fame\"")).unwrap();
    let output = bessemer(nobody, &format!("event verify --file {path}")).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains(&format!("is broken at revision {born}: the hash is")));
    std::fs::write(&file, &history[..history.len() - 10]).unwrap();
    let output = bessemer(nobody, &format!("event replay {path}")).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("it is cut off"), "{}", said(&output));
}

#[tokio::test]
async fn exit_codes_tell_refusals_from_timeouts_and_silence() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--listen", "127.0.0.1:0", "--machines", "1"];
    let dev = Dev::start(&arguments, data.path()).await;
    for (line, code, complaint) in [
        ("node show nobody", 2, "error: no node `nobody`\nhint: `bessemer node list`"),
        ("node deploy machine-1 --image http://h/a.qcow2", 2, "checksum"),
        ("node provide machine-1", 2, "`enroll`, which does not allow `provide`"),
        ("node set machine-1 --owner a --version 99", 2, "has version"),
        ("node set machine-1", 2, "nothing to change"),
        ("event verify --against nonsense", 2, "HASH@REVISION"),
        ("node list --state asleep", 2, "asleep"),
    ] {
        let output = dev.bessemer(line).await;
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        assert!(said(&output).contains(complaint), "{line}: {}", said(&output));
    }
    dev.bessemer("node maintenance on machine-1 --reason fan").await;
    let output = dev.bessemer("node power on machine-1 --wait --timeout 1s").await;
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(said(&output).contains("the end of maintenance (fan)"), "{}", said(&output));
    let api = dev.api.clone();
    dev.interrupt().await;
    let output = bessemer(&api, "node list").await;
    assert_eq!(output.status.code(), Some(4), "{output:?}");
}
