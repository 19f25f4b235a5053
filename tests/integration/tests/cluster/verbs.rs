//! Verbs beside deploying: a machine is inspected, erased and adopted.

use std::time::Duration;

use bessemer_proto::v1::{
    CleanNodeRequest, DeployNodeRequest, PowerState, PowerTarget, RequestedStep, RescueNodeRequest,
    ServiceNodeRequest, SetNodePowerRequest,
};
use bessemer_testkit::{Cluster, Options, verb, wait_for};
use uuid::Uuid;

use crate::images::deployment;

const DISK_BYTES: u64 = 64 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_inspected_erased_and_adopted() {
    let cluster = Cluster::start(&Options::default()).await.unwrap();
    let node = cluster.available_node("m", DISK_BYTES).await.unwrap();
    let disk = cluster.disk(&node);
    cluster.client.manage_node(verb("m")).await.unwrap();
    std::fs::write(&disk, vec![0xa5; DISK_BYTES as usize]).unwrap();

    cluster.client.inspect_node(verb("m")).await.unwrap();
    let inspected = cluster.until_state("m", "manageable").await.unwrap();
    let inventory = inspected.status.unwrap().inventory.unwrap();
    assert_eq!(inventory.disks[0].size_bytes, DISK_BYTES);
    assert!(std::fs::read(&disk).unwrap().iter().all(|byte| *byte == 0xa5), "it was touched");

    let clean = CleanNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: "m".into(),
        version: 0,
        clean_steps: vec!["erase_devices".into()],
        ..CleanNodeRequest::default()
    };
    cluster.client.clean_node(clean).await.unwrap();
    cluster.until_state("m", "manageable").await.unwrap();
    assert!(std::fs::read(&disk).unwrap().iter().all(|byte| *byte == 0), "something is left");

    let adopt = DeployNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: "m".into(),
        version: 0,
        deployment: Some(deployment(&cluster)),
    };
    cluster.client.adopt_node(adopt).await.unwrap();
    let adopted = cluster.until_state("m", "active").await.unwrap();
    let held = adopted.status.unwrap().deployment.unwrap();
    assert!(held.write.is_none(), "nothing was written");
    assert!(std::fs::read(&disk).unwrap().iter().all(|byte| *byte == 0), "it was touched");
}

/// Generous: the machine that runs the tests may be slow.
const LIMIT: Duration = Duration::from_secs(60);

fn step(step: &str) -> RequestedStep {
    RequestedStep { step: step.into(), ..RequestedStep::default() }
}

/// What the machine's BMC was told, or what its console shows.
fn record(disk: &std::path::Path, name: &str) -> String {
    std::fs::read_to_string(disk.with_file_name(name)).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_rescued_serviced_and_held_and_keeps_its_deployment() {
    let options = Options { nats: false, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    let node = cluster.available_node("m", crate::images::LARGE_DISK_BYTES).await.unwrap();
    let disk = cluster.disk(&node);
    cluster.deploy("m", deployment(&cluster)).await.unwrap();
    cluster.until_state("m", "active").await.unwrap();

    let rescue = RescueNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: "m".into(),
        version: 0,
        rescue_password: "correct horse battery".into(),
    };
    cluster.client.rescue_node(rescue).await.unwrap();
    cluster.until_state("m", "rescue").await.unwrap();
    let hash = record(&disk, "memory/rescue-password-hash");
    assert!(hash.starts_with("$6$rounds="), "{hash}");
    for event in cluster.events("m").await.unwrap() {
        let record = String::from_utf8_lossy(&event.record);
        assert!(!record.contains("correct horse"), "the password is in history: {record}");
    }
    cluster.client.unrescue_node(verb("m")).await.unwrap();
    cluster.until_state("m", "active").await.unwrap();

    let service = ServiceNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: "m".into(),
        version: 0,
        service_steps: vec![step("reboot"), step("hold"), step("wait")],
        runbook: String::new(),
    };
    cluster.client.service_node(service).await.unwrap();
    wait_for("the hold", LIMIT, async || {
        let node = cluster.node("m").await.map_err(|error| error.to_string())?;
        let status = node.status.unwrap();
        if status.provision_state == "service hold" { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await
    .unwrap();
    cluster.client.unhold_node(verb("m")).await.unwrap();
    let active = cluster.until_state("m", "active").await.unwrap();
    let status = active.status.unwrap();
    let steps: Vec<_> = status.plan.unwrap().steps.into_iter().map(|step| step.name).collect();
    let expected = [
        "prepare_service",
        "reboot",
        "hold",
        "wait",
        "tear_down_service",
        "prepare_instance_boot",
        "boot_instance",
    ];
    assert_eq!(steps, expected);
    assert!(status.deployment.is_some());
    crate::images::assert_holds_image(&cluster, &node);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operating_system_is_asked_to_shut_down_and_interrupted() {
    let options = Options { nats: false, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    let disk = cluster.disk(&cluster.available_node("m", DISK_BYTES).await.unwrap());
    let power = |target: PowerTarget, limit_seconds| SetNodePowerRequest {
        command_id: Uuid::new_v4().to_string(),
        node: "m".into(),
        version: 0,
        target: target.into(),
        limit_seconds,
    };
    cluster.client.set_node_power(power(PowerTarget::On, 0)).await.unwrap();
    until_power(&cluster, PowerState::On, "").await;
    cluster.client.set_node_power(power(PowerTarget::Nmi, 0)).await.unwrap();
    wait_for("the NMI", LIMIT, async || {
        let console = record(&disk, "console.log");
        if console.ends_with("NMI\n") { Ok(()) } else { Err(console) }
    })
    .await
    .unwrap();
    // One that does not listen to its button is given up in time, and says so; one that does is off.
    std::fs::write(disk.with_file_name("ignores_button"), "").unwrap();
    for (limit_seconds, state, said) in
        [(1, PowerState::On, "power soft off was given up"), (0, PowerState::Off, "")]
    {
        cluster.client.set_node_power(power(PowerTarget::SoftOff, limit_seconds)).await.unwrap();
        until_power(&cluster, state, said).await;
        std::fs::remove_file(disk.with_file_name("ignores_button")).ok();
    }
}

async fn until_power(cluster: &Cluster, state: PowerState, said: &str) {
    wait_for("end of the power change", LIMIT, async || {
        let node = cluster.node("m").await.map_err(|error| error.to_string())?;
        let status = node.status.unwrap();
        let is_over = status.target_power_state() == PowerState::Unspecified;
        let is_so = status.power_state() == state && status.last_error.contains(said);
        if is_over && is_so { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await
    .unwrap();
}
