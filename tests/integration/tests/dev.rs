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
    dashboard: String,
}

impl Dev {
    async fn start(arguments: &[&str], data: &Path) -> Self {
        let mut child = Command::new(binary("bessemer"))
            .args(["dev", "--data", data.to_str().unwrap()])
            // The usual port would be looked at by several clusters at once, and be had by one.
            .args(["--dashboard", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut dev = Self { child, out, api: String::new(), dashboard: String::new() };
        dev.api = dev.until("  api ").await;
        dev.dashboard = dev.until("  dashboard ").await;
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
async fn one_command_is_for_many_nodes() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(&["--listen", "127.0.0.1:0", "--machines", "3"], data.path()).await;
    let states = async || -> Vec<String> {
        let nodes = dev.json("node list").await;
        let state = |node: &Value| node["status"]["provision_state"].as_str().unwrap().to_owned();
        nodes.as_array().unwrap().iter().map(state).collect()
    };
    let meant = dev.bessemer("node manage machine-[1-2] machine-2 --dry-run -o name").await;
    assert_eq!(String::from_utf8_lossy(&meant.stdout), "machine-1\nmachine-2\n");
    assert_eq!(states().await, ["enroll"; 3]);

    // One of them is not there: the others go on, and it is told which one failed.
    let output = dev.bessemer("node manage machine-[1-4] --wait --timeout 50s").await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let complaint = said(&output);
    assert!(complaint.contains("machine-4: error: no node `machine-4`"), "{complaint}");
    assert!(complaint.contains("1 of 4 nodes"), "{complaint}");
    assert_eq!(states().await, ["manageable"; 3]);

    let provided = dev.json("node provide --select state=manageable --wait --timeout 50s").await;
    assert_eq!(provided.as_array().unwrap().len(), 3);
    assert_eq!(states().await, ["available"; 3]);
    for (line, complaint) in [
        ("node manage machine-[1-2] --version 4", "--version is of one node, and 2 are meant"),
        ("node manage machine-[2-1]", "goes backwards"),
        ("node manage --select colour=red", "`colour` is none of"),
        ("node manage --select state=active", "no node matches --select"),
    ] {
        let output = dev.bessemer(line).await;
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(said(&output).contains(complaint), "{line}: {}", said(&output));
    }
    assert_eq!(states().await, ["available"; 3]);
    dev.interrupt().await;
}

#[tokio::test]
async fn a_doctor_tells_what_is_wrong() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(&["--listen", "127.0.0.1:0", "--members", "3"], data.path()).await;
    let output = dev.bessemer("doctor").await;
    let said_to_people = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(said_to_people.contains("ok       members     all 3 answer"), "{said_to_people}");
    // `dev` runs one conductor, which is worth a warning once there is a node.
    dev.json("node create --name m1 --driver fake").await;
    let findings = dev.json("doctor").await;
    let warnings = findings.as_array().unwrap().iter();
    let warnings: Vec<_> = warnings.filter(|finding| finding["severity"] == "warning").collect();
    assert_eq!(warnings.len(), 1, "{findings}");
    assert_eq!(warnings[0]["about"], "conductors");
    dev.interrupt().await;
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

#[tokio::test]
async fn a_machine_is_deployed_from_the_dashboard_and_followed_until_it_is_active() {
    rustls::crypto::ring::default_provider().install_default().ok();
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--listen", "127.0.0.1:0", "--machines", "1"];
    let dev = Dev::start(&arguments, data.path()).await;
    let image = data.path().join("disk.raw");
    let content: Vec<u8> = (0..1_u32 << 20).map(|at| (at % 251) as u8).collect();
    std::fs::write(&image, &content).unwrap();
    for verb in ["manage", "provide"] {
        let output = dev.bessemer(&format!("node {verb} machine-1 --wait --timeout 50s")).await;
        assert!(output.status.success(), "{output:?}");
    }
    let redirect = reqwest::redirect::Policy::none();
    let browser = reqwest::Client::builder().redirect(redirect).build().unwrap();
    let live = format!("{}/nodes/machine-1/live", dev.dashboard);
    let mut live = browser.get(live).send().await.unwrap();
    let form = format!("{}/nodes/machine-1/deploy", dev.dashboard);
    let page = browser.get(&form).send().await.unwrap().text().await.unwrap();
    let command = page.split("name=\"command_id\" value=\"").nth(1).unwrap();
    let command = command.split('"').next().unwrap();
    let source = format!("file://{}", image.display()).replace(':', "%3A").replace('/', "%2F");
    let answer = browser
        .post(&form)
        .header("origin", &dev.dashboard)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("command_id={command}&image={source}"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 303, "{}", answer.text().await.unwrap());
    let following = async {
        let mut heard = String::new();
        while !heard.contains("deploying → active (done)") {
            heard.push_str(&String::from_utf8_lossy(&live.chunk().await.unwrap().unwrap()));
        }
        heard
    };
    let heard = tokio::time::timeout(LIMIT, following).await.unwrap();
    assert!(heard.contains("deploy.write_image"), "{heard}");
    let history = dev.json("node history machine-1").await;
    let asked = history.as_array().unwrap().iter();
    let asked = asked.filter(|event| event["type"] == "node.deployment_requested");
    let actors: Vec<_> = asked.map(|event| event["actor"].as_str().unwrap()).collect();
    assert_eq!(actors, ["dashboard/127.0.0.1"]);
    dev.interrupt().await;
}

/// A cluster that makes its own authority: who has its files gets in, others do not, and it is the same at the next start.
#[tokio::test]
async fn by_tls_it_serves_who_has_its_certificates() {
    let data = tempfile::tempdir().unwrap();
    let first =
        Dev::start(&["--tls", "--listen", "127.0.0.1:0", "--machines", "1"], data.path()).await;
    assert!(first.api.starts_with("https://"), "{}", first.api);
    assert!(first.dashboard.starts_with("https://"), "{}", first.dashboard);
    let pki = data.path().join("pki");
    let list = async |api: &str, certificate: &str| {
        let mut command = Command::new(binary("bessemer"));
        command.args(["--api", api, "node", "list", "-o", "name"]);
        command.env("BESSEMER_CA_FILE", pki.join("ca.pem"));
        if !certificate.is_empty() {
            command.env("BESSEMER_CERTIFICATE_FILE", pki.join(format!("{certificate}.pem")));
            command.env("BESSEMER_KEY_FILE", pki.join(format!("{certificate}-key.pem")));
        }
        command.output().await.unwrap()
    };
    let seen = list(&first.api, "admin-dev").await;
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), "machine-1", "{seen:?}");
    let refused = list(&first.api, "").await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("show a client certificate or a token"), "{said}");
    let plain = bessemer(&first.api.replace("https", "http"), "node list").await;
    assert!(!plain.status.success());
    let authority = std::fs::read(pki.join("ca.pem")).unwrap();
    first.interrupt().await;
    let second = Dev::start(&["--tls"], data.path()).await;
    assert_eq!(std::fs::read(pki.join("ca.pem")).unwrap(), authority);
    assert!(list(&second.api, "admin-dev").await.status.success());
    second.interrupt().await;
}

/// Without certificates nobody could prove anything: other computers are not let in by mistake.
#[tokio::test]
async fn it_listens_for_others_by_tls_only() {
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary("bessemer"));
    command.args(["dev", "--listen", "0.0.0.0:0", "--data", data.path().to_str().unwrap()]);
    let output = command.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("--tls"), "{said}");
}
