//! Every member and every disk is lost; what a backup holds comes back, and the work goes on.

use std::time::Duration;

use bessemer_proto::v1::{GetStatusRequest, Node};
use bessemer_testkit::{Cluster, Options, Process, wait_for};

use crate::images::{LARGE_DISK_BYTES, assert_holds_image, deployment};
use crate::members::said;

/// Ids of the members.
const MEMBERS: [u64; 3] = [1, 2, 3];

/// What is asked of a member on the way up may take so long.
const UP_LIMIT: Duration = Duration::from_secs(60);

/// What must be the same after the restoration: who drives the node, and its power, may have moved on.
fn kept(node: &Node) -> impl PartialEq + std::fmt::Debug + use<> {
    let status = node.status.clone().unwrap();
    (node.metadata.clone(), node.spec.clone(), status.provision_state, status.deployment)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_comes_back_from_a_backup_and_goes_on() {
    let options = Options { conductors: 1, nats: false, ..Options::default() };
    let mut cluster = Cluster::start(&options).await.unwrap();
    cluster.available_node("idle", LARGE_DISK_BYTES).await.unwrap();
    let deployed = cluster.available_node("deployed", LARGE_DISK_BYTES).await.unwrap();
    cluster.deploy("deployed", deployment(&cluster)).await.unwrap();
    cluster.until_state("deployed", "active").await.unwrap();

    let file = cluster.home().join("cluster.backup");
    let file = file.to_str().unwrap().to_owned();
    said(&cluster.bessemer(&[2], &["cluster", "snapshot"]).unwrap());
    let output = cluster.bessemer(&[3], &["cluster", "backup", &file, "-o", "json"]).unwrap();
    let backup: serde_json::Value = serde_json::from_str(&said(&output)).unwrap();
    let revision = backup["backup"]["revision"].as_u64().unwrap();
    let mut before = Vec::new();
    for name in ["idle", "deployed"] {
        before.push(cluster.node(name).await.unwrap());
    }
    let id = cluster.client.get_status(GetStatusRequest {}).await.unwrap().cluster_id;
    assert_eq!(backup["backup"]["cluster_id"], id);
    cluster.enrol("too-late", LARGE_DISK_BYTES).await.unwrap();

    cluster.members.iter_mut().chain(&mut cluster.conductors).for_each(Process::kill);
    for id in MEMBERS {
        std::fs::remove_dir_all(cluster.member_directory(id)).unwrap();
    }
    restore_and_join(&mut cluster, &file).await;

    let status = cluster.client.get_status(GetStatusRequest {}).await.unwrap();
    assert_eq!(status.cluster_id, id);
    assert!(status.revision > revision);
    let gone = cluster.node("too-late").await.unwrap_err().to_string();
    assert!(gone.contains("no node"), "{gone}");
    cluster.conductors[0].restart().unwrap();
    cluster.ready(1).await.unwrap();
    for node in &before {
        let name = &node.metadata.as_ref().unwrap().name;
        assert_eq!(kept(&cluster.node(name).await.unwrap()), kept(node));
    }
    assert_holds_image(&cluster, &deployed);
    let node = cluster.node("idle").await.unwrap();
    cluster.deploy("idle", deployment(&cluster)).await.unwrap();
    cluster.until_state("idle", "active").await.unwrap();
    assert_holds_image(&cluster, &node);
    let restored = cluster.events("").await.unwrap().remove(revision as usize);
    assert_eq!((restored.revision, restored.r#type.as_str()), (revision + 1, "cluster.restored"));
    for id in MEMBERS {
        said(&cluster.bessemer(&[id], &["event", "verify"]).unwrap());
    }
}

/// Makes the first member's directory from the backup, starts all three, and makes voters of the others.
async fn restore_and_join(cluster: &mut Cluster, file: &str) {
    let directory = cluster.member_directory(1);
    let (directory, address) = (directory.to_str().unwrap(), cluster.member_address(1));
    let restore = [
        &["cluster", "restore", file, "--data-dir", directory],
        &["--member-id", "1", "--address", &address][..],
    ]
    .concat();
    let told = said(&cluster.bessemer(&[1], &restore).unwrap());
    assert!(told.contains("Lost: every event after revision"), "{told}");
    let again = cluster.bessemer(&[1], &restore).unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is not empty"), "{again:?}");

    for member in &mut cluster.members {
        member.restart().unwrap();
    }
    for id in [2, 3] {
        let (number, address) = (id.to_string(), cluster.member_address(id));
        for command in [
            &["cluster", "add", &number, &address][..],
            &["cluster", "promote", &number, "--wait", "--timeout", "60s"],
        ] {
            wait_for("change of members", UP_LIMIT, async || {
                let output = cluster.bessemer(&[1], command).map_err(|error| error.to_string())?;
                let error = String::from_utf8_lossy(&output.stderr).into_owned();
                output.status.success().then_some(()).ok_or(error)
            })
            .await
            .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_before_anything_is_written() {
    let options = Options { members: 1, conductors: 0, nats: false, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    let (file, directory) = (cluster.home().join("backup"), cluster.home().join("restored"));
    let (file, to) = (file.to_str().unwrap(), directory.to_str().unwrap());
    said(&cluster.bessemer(&[1], &["cluster", "backup", file]).unwrap());
    let mut bytes = std::fs::read(file).unwrap();
    let place = bytes.windows(4).position(|bytes| bytes == b"\"at\"").unwrap();
    bytes[place + 8] ^= 1;
    std::fs::write(file, bytes).unwrap();
    let restore = ["cluster", "restore", file, "--data-dir", to, "--member-id", "1"];
    let restore = [&restore[..], &["--address", "127.0.0.1:1"]].concat();
    let output = cluster.bessemer(&[1], &restore).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("backup: "), "{error}");
    assert!(!directory.exists());

    let nowhere = ["cluster", "backup", "/nonexistent/backup"];
    let output = cluster.bessemer(&[1], &nowhere).unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
