//! Verbs beside deploying: a machine is inspected, erased and adopted.

use bessemer_proto::v1::{CleanNodeRequest, DeployNodeRequest};
use bessemer_testkit::{Cluster, Options, verb};
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
