//! Steps of the agent's plug-ins: done, done once whatever dies, refused before anything is written, stopped with all that
//! they started.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_proto::v1::prepare_image_response::Update;
use bessemer_proto::v1::{
    CleanNodeRequest, DeploymentSpec, Node, PrepareImageRequest, RequestedStep,
};
use bessemer_testkit::{Cluster, Options, prost_struct, verb, wait_for};
use futures::StreamExt;
use uuid::Uuid;

use crate::images::{LARGE_DISK_BYTES, RAW_DIGEST, assert_holds_image, deployment};

const NAME: &str = "stepper";

/// Small disks are enough for steps that write nothing.
const DISK_BYTES: u64 = 64 << 20;

const LIMIT: Duration = Duration::from_secs(60);

/// Writes a line to `log` when it begins, then waits for the file `gate`, with a process of its own beside it.
const WAITING_PLUGIN: &str = r#"#!/bin/sh
text() { printf '%s\n' "$input" | sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'; }
case $1 in
describe)
    args='{"log": {"type": "string", "required": true}, "gate": {"type": "string", "required": true}}'
    echo '{"steps": [{"name": "once", "args": '"$args"'},'
    echo '{"name": "again", "repeatable": true, "args": '"$args"'}]}'
    ;;
run)
    input=$(cat)
    sleep 1000 &
    echo "$! $(printf '%s\n' "$input" | sed 's/.*"was_interrupted":\([a-z]*\).*/\1/')" >> "$(text log)"
    echo '{"message": "waiting at the gate"}'
    while [ ! -e "$(text gate)" ]; do sleep 0.05; done
    [ -s "$(text gate)" ] && { cat "$(text gate)" >&2; exit 7; }
    echo '{"result": {"passed": true}}'
    ;;
esac
"#;

async fn start() -> Cluster {
    let cluster = Cluster::start(&Options { nats: false, ..Options::default() }).await.unwrap();
    install(&cluster, "waiting", WAITING_PLUGIN);
    cluster
}

pub(crate) fn install(cluster: &Cluster, name: &str, script: &str) {
    let path = cluster.home().join("steps.d").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn log(cluster: &Cluster) -> PathBuf {
    cluster.home().join("log")
}

fn gate(cluster: &Cluster) -> PathBuf {
    cluster.home().join("gate")
}

/// One step of the plug-in that waits.
fn waiting_step(cluster: &Cluster, step: &str) -> RequestedStep {
    let (log, gate) = (log(cluster), gate(cluster));
    let args = [("log", log.to_str().unwrap()), ("gate", gate.to_str().unwrap())];
    RequestedStep {
        step: step.to_owned(),
        args: Some(prost_struct(args)),
        priority: Some(90),
        ..RequestedStep::default()
    }
}

fn by_steps(steps: Vec<RequestedStep>) -> DeploymentSpec {
    DeploymentSpec {
        deploy_interface: "custom-agent".to_owned(),
        deploy_steps: steps,
        ..DeploymentSpec::default()
    }
}

/// What each beginning of a step said.
fn beginnings(cluster: &Cluster) -> Vec<String> {
    let log = std::fs::read_to_string(log(cluster)).unwrap_or_default();
    log.lines().map(str::to_owned).collect()
}

async fn until_begun(cluster: &Cluster, times: usize) {
    wait_for("step that has begun", LIMIT, async || {
        let begun = beginnings(cluster).len();
        if begun == times { Ok(()) } else { Err(format!("begun {begun} times")) }
    })
    .await
    .unwrap();
}

/// A machine that does one step and is in the middle of it.
async fn in_the_middle_of(step: &str) -> (Cluster, Node) {
    let cluster = start().await;
    let node = cluster.available_node(NAME, DISK_BYTES).await.unwrap();
    cluster.deploy(NAME, by_steps(vec![waiting_step(&cluster, step)])).await.unwrap();
    until_begun(&cluster, 1).await;
    (cluster, node)
}

fn is_running(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

async fn until_gone(beginning: &str) {
    let pid = beginning.split(' ').next().unwrap();
    wait_for("end of what the plug-in started", LIMIT, async || {
        if is_running(pid) { Err(format!("{pid} runs")) } else { Ok(()) }
    })
    .await
    .unwrap();
}

/// The example of the documentation.
fn documented_plugin() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/step-plugins.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (_, code) = page.split_once("```sh\n").unwrap();
    code.split_once("```").unwrap().0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_plugin_deploys_a_machine_by_itself() {
    let cluster = start().await;
    install(&cluster, "write_raw", &documented_plugin());
    let node = cluster.available_node(NAME, LARGE_DISK_BYTES).await.unwrap();
    let request =
        PrepareImageRequest { image: deployment(&cluster).image, ..PrepareImageRequest::default() };
    let mut updates = cluster.client.prepare_image(request);
    let mut prepared = None;
    while let Some(update) = updates.next().await {
        if let Some(Update::Image(image)) = update.unwrap().update {
            prepared = Some(image);
        }
    }
    let url = format!("{}/raw", prepared.unwrap().urls[0]);
    let step = RequestedStep {
        step: "write_raw".to_owned(),
        args: Some(prost_struct([("url", url.as_str()), ("sha256", RAW_DIGEST.as_str())])),
        priority: Some(80),
        ..RequestedStep::default()
    };
    cluster.deploy(NAME, by_steps(vec![step])).await.unwrap();
    cluster.until_state(NAME, "active").await.unwrap();
    let written = std::process::Command::new("cmp")
        .args(["-n", &crate::images::IMAGE_BYTES.to_string()])
        .args([&crate::images::IMAGE.raw, &cluster.disk(&node)])
        .status();
    assert!(written.unwrap().success(), "the disk does not hold the image");
    let events = cluster.events(NAME).await.unwrap();
    let done = events.iter().filter(|event| event.r#type == "node.step_completed");
    let mut results = done.map(|event| String::from_utf8_lossy(&event.record).into_owned());
    let result = format!(r#""sha256":"{}""#, *RAW_DIGEST);
    assert!(results.any(|record| record.contains(&result)), "the step's result is not kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_among_those_of_direct_is_done_once_though_its_conductor_dies() {
    let mut cluster = start().await;
    let node = cluster.available_node(NAME, LARGE_DISK_BYTES).await.unwrap();
    let spec = DeploymentSpec {
        deploy_steps: vec![waiting_step(&cluster, "once")],
        ..deployment(&cluster)
    };
    cluster.deploy(NAME, spec).await.unwrap();
    until_begun(&cluster, 1).await;
    wait_for("message of the step", LIMIT, async || {
        let progress =
            cluster.node(NAME).await.map_err(|error| error.to_string())?.status.unwrap().progress;
        let message = progress.unwrap_or_default().message;
        if message == "waiting at the gate" { Ok(()) } else { Err(message) }
    })
    .await
    .unwrap();
    let claim = cluster.node(NAME).await.unwrap().status.unwrap().claim.unwrap();
    let owner: usize = claim.conductor_id.trim_start_matches('c').parse().unwrap();
    cluster.conductors[owner].kill();
    std::fs::write(gate(&cluster), "").unwrap();
    let active = cluster.until_state(NAME, "active").await.unwrap();
    assert_holds_image(&cluster, &node);
    assert_eq!(beginnings(&cluster).len(), 1);
    let plan = active.status.unwrap().plan.unwrap();
    let steps: Vec<_> = plan.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps[2..4], ["once", "write_image"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_agent_does_not_offer_fails_before_anything_is_written() {
    let cluster = start().await;
    install(&cluster, "broken", "#!/bin/sh\nexit 3\n");
    let node = cluster.available_node(NAME, LARGE_DISK_BYTES).await.unwrap();
    // Where the image would be, and where cleaning erases nothing.
    let disk = std::fs::File::options().read(true).write(true).open(cluster.disk(&node)).unwrap();
    let mut found = vec![0xa5; 32 << 20];
    disk.write_all_at(&found, 16 << 20).unwrap();
    let mut wrong_type = waiting_step(&cluster, "once");
    wrong_type.args = Some(prost_struct([("log", "/tmp/log"), ("speed", "high")]));
    let unknown = RequestedStep { step: "flash".into(), priority: Some(90), ..Default::default() };
    let cases = [
        (wrong_type, "it takes no argument `speed`"),
        (
            unknown.clone(),
            "the agent has no step `flash`; its plug-ins offer: once (gate: string; log: string), again",
        ),
        (unknown, "broken: `describe` ended with exit status: 3"),
    ];
    for (step, said) in cases {
        let spec = DeploymentSpec { deploy_steps: vec![step], ..deployment(&cluster) };
        cluster.deploy(NAME, spec).await.unwrap();
        let failed = cluster.until_state(NAME, "deploy failed").await.unwrap();
        let error = failed.status.unwrap().last_error;
        assert!(error.contains(said), "{error}");
        cluster.client.undeploy_node(verb(NAME)).await.unwrap();
        cluster.until_state(NAME, "available").await.unwrap();
        disk.read_exact_at(&mut found, 16 << 20).unwrap();
        assert!(found.iter().all(|byte| *byte == 0xa5), "it was written to");
    }
    assert!(beginnings(&cluster).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_step_is_stopped_with_all_that_it_started() {
    let (cluster, _) = in_the_middle_of("again").await;
    cluster.client.abort_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "deploy failed").await.unwrap();
    until_gone(&beginnings(&cluster)[0]).await;
    assert_eq!(beginnings(&cluster).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_over_its_limit_fails_by_name() {
    let cluster = start().await;
    cluster.available_node(NAME, DISK_BYTES).await.unwrap();
    let step = RequestedStep { limit_seconds: 2, ..waiting_step(&cluster, "once") };
    cluster.deploy(NAME, by_steps(vec![step])).await.unwrap();
    let failed = cluster.until_state(NAME, "deploy failed").await.unwrap();
    let error = failed.status.unwrap().last_error;
    assert!(error.contains("once") && error.contains(" after 2 s"), "{error}");
    until_gone(&beginnings(&cluster)[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_dies_repeats_only_what_may_be_repeated() {
    let (cluster, node) = in_the_middle_of("once").await;
    cluster.agent_of(&node).unwrap().kill().unwrap();
    let failed = cluster.until_state(NAME, "deploy failed").await.unwrap();
    let error = failed.status.unwrap().last_error;
    assert!(error.contains("step `once` was cut off half way"), "{error}");
    until_gone(&beginnings(&cluster)[0]).await;
    assert_eq!(beginnings(&cluster).len(), 1);

    std::fs::remove_file(log(&cluster)).unwrap();
    cluster.client.undeploy_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "available").await.unwrap();
    cluster.deploy(NAME, by_steps(vec![waiting_step(&cluster, "again")])).await.unwrap();
    until_begun(&cluster, 1).await;
    cluster.agent_of(&node).unwrap().kill().unwrap();
    until_begun(&cluster, 2).await;
    let begun = beginnings(&cluster);
    assert!(begun[0].ends_with(" false") && begun[1].ends_with(" true"), "{begun:?}");
    until_gone(&begun[0]).await;
    std::fs::write(gate(&cluster), "").unwrap();
    cluster.until_state(NAME, "active").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_step_says_what_it_said_and_a_cleaning_does_steps_too() {
    let (cluster, _) = in_the_middle_of("once").await;
    std::fs::write(gate(&cluster), "the card is too hot\n").unwrap();
    let failed = cluster.until_state(NAME, "deploy failed").await.unwrap();
    let error = failed.status.unwrap().last_error;
    assert!(error.ends_with("ended with exit status: 7: the card is too hot"), "{error}");

    std::fs::write(gate(&cluster), "").unwrap();
    cluster.client.undeploy_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "available").await.unwrap();
    cluster.client.manage_node(verb(NAME)).await.unwrap();
    let clean = CleanNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: NAME.into(),
        plugin_steps: vec![waiting_step(&cluster, "once")],
        ..CleanNodeRequest::default()
    };
    cluster.client.clean_node(clean).await.unwrap();
    wait_for("end of the cleaning", LIMIT, async || {
        let status = cluster.node(NAME).await.map_err(|error| error.to_string())?.status.unwrap();
        if status.provision_state == "manageable" { Ok(()) } else { Err(status.last_error) }
    })
    .await
    .unwrap();
    assert_eq!(beginnings(&cluster).len(), 2);
}
