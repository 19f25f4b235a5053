//! Deploy interface `ramdisk`: a machine runs from an ISO, whichever conductor boots it, and its disk is left alone.

use std::process::Command;

use bessemer_proto::v1::{ConfigDrive, DeploymentSpec, Node};
use bessemer_testkit::{Cluster, Options, prost_struct, verb};

use crate::images::deployment;
use crate::refusal::assert_refused;

const NAME: &str = "diskless";

const DISK_BYTES: u64 = 64 << 20;

const ISO: &str = "http://images.example/live.iso";

fn from_iso() -> DeploymentSpec {
    DeploymentSpec {
        deploy_interface: "ramdisk".to_owned(),
        boot_iso: ISO.to_owned(),
        ..DeploymentSpec::default()
    }
}

async fn start() -> (Cluster, Node) {
    let conductor_config = "[http]\nlisten = \"127.0.0.1:0\"\n".to_owned();
    let options = Options { nats: false, conductor_config, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    let node = cluster.available_node(NAME, DISK_BYTES).await.unwrap();
    std::fs::write(cluster.disk(&node), vec![0xa5; DISK_BYTES as usize]).unwrap();
    (cluster, node)
}

fn record(cluster: &Cluster, node: &Node, name: &str) -> String {
    std::fs::read_to_string(cluster.disk(node).with_file_name(name)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_runs_from_an_iso_and_its_disk_is_left_alone() {
    let (mut cluster, node) = start().await;
    cluster.deploy(NAME, from_iso()).await.unwrap();
    // Whoever is at it: the other one goes on.
    cluster.conductors[0].kill();
    let active = cluster.until_state(NAME, "active").await.unwrap().status.unwrap();
    let held = active.deployment.unwrap().spec.unwrap();
    assert_eq!((held.deploy_interface.as_str(), held.boot_iso.as_str()), ("ramdisk", ISO));
    let console = record(&cluster, &node, "console.log");
    assert!(console.ends_with(&format!("booted from {ISO}\n")), "{console}");
    assert!(std::fs::read(cluster.disk(&node)).unwrap().iter().all(|byte| *byte == 0xa5));
    let steps: Vec<_> = active.plan.unwrap().steps.into_iter().map(|step| step.name).collect();
    assert_eq!(steps, ["boot_ramdisk"]);

    cluster.client.undeploy_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "available").await.unwrap();
    let orders = record(&cluster, &node, "orders.log");
    let ejected =
        orders.lines().skip_while(|line| !line.ends_with(ISO)).find(|line| line.ends_with("Disk"));
    assert!(ejected.is_some(), "{orders}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_ramdisk_cannot_use_is_refused_by_name() {
    let (cluster, _) = start().await;
    let image = deployment(&cluster).image;
    let kernel = || DeploymentSpec {
        boot_iso: String::new(),
        kernel: "http://k".into(),
        ramdisk: "http://r".into(),
        ..from_iso()
    };
    let cases = [
        (DeploymentSpec { boot_iso: String::new(), ..from_iso() }, "boot_iso", "is required"),
        (
            DeploymentSpec { image, ..from_iso() },
            "image",
            "nothing that deploy_interface `ramdisk` uses",
        ),
        (kernel(), "kernel", "needs boot_interface `ipxe`, and the node's is `fake`"),
        (DeploymentSpec { boot_iso: ISO.into(), ..kernel() }, "kernel", "together with boot_iso"),
        (
            DeploymentSpec { deploy_interface: "iscsi".into(), ..from_iso() },
            "deploy_interface",
            "is none of: direct, custom-agent, ramdisk, ansible",
        ),
    ];
    for (spec, field, reason) in cases {
        let error = cluster.deploy(NAME, spec).await.unwrap_err();
        assert_refused(&error, "INVALID_FIELD", &[&format!("deployment.{field} "), reason]);
    }
    assert_eq!(cluster.node(NAME).await.unwrap().status.unwrap().provision_state, "available");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_drive_is_beside_the_iso_and_served_in_parts_too() {
    let (cluster, node) = start().await;
    let config_drive = ConfigDrive {
        meta_data: Some(prost_struct([("hostname", "runs-from-memory")])),
        ..ConfigDrive::default()
    };
    let spec = DeploymentSpec { config_drive: Some(config_drive), ..from_iso() };
    cluster.deploy(NAME, spec).await.unwrap();
    cluster.until_state(NAME, "active").await.unwrap();
    let url = record(&cluster, &node, "config_drive");
    let get = |more: &[&str]| {
        let output = Command::new("curl").args(["-sSf"]).args(more).arg(&url).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let whole = get(&[]);
    let text = String::from_utf8_lossy(&whole).into_owned();
    assert!(text.contains("config-2") && text.contains("runs-from-memory"));
    assert_eq!(get(&["--range", "2048-4095"]), whole[2048..4096]);
    assert_eq!(get(&["--range", "-10"]), whole[whole.len() - 10..]);
    let other = url.replace(".iso", "0.iso");
    let status = Command::new("curl").args(["-sSf", &other]).output().unwrap().status;
    assert!(!status.success());

    cluster.client.undeploy_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "available").await.unwrap();
    assert_eq!(record(&cluster, &node, "config_drive"), "");
}
