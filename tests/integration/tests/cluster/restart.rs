//! All members end at once and come back from their disks.

use std::time::Duration;

use bessemer_proto::v1::GetStatusRequest;
use bessemer_testkit::{Cluster, Options, Process, binary, settled_history, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn the_state_is_what_it_was() {
    let options = Options { conductors: 1, nats: false, ..Options::default() };
    let mut cluster = Cluster::start(&options).await.unwrap();
    for name in ["a", "b", "c"] {
        cluster.available_node(name, 64 << 20).await.unwrap();
    }
    // A conductor would go on making history.
    cluster.conductors[0].kill();
    wait_for("lost conductor", Duration::from_secs(30), async || {
        let events = cluster.events("").await.map_err(|error| error.to_string())?;
        let last = events.last().map(|event| event.r#type.clone()).unwrap_or_default();
        if last == "conductor.lost" { Ok(()) } else { Err(last) }
    })
    .await
    .unwrap();
    let before = cluster.client.get_status(GetStatusRequest {}).await.unwrap();
    let history = settled_history(&cluster).await.unwrap();
    let mut nodes = Vec::new();
    for name in ["a", "b", "c"] {
        nodes.push(cluster.node(name).await.unwrap());
    }

    cluster.members.iter_mut().for_each(Process::kill);
    for member in &mut cluster.members {
        member.restart().unwrap();
    }
    cluster.ready(0).await.unwrap();

    let after = cluster.client.get_status(GetStatusRequest {}).await.unwrap();
    assert_eq!((after.revision, after.hash), (before.revision, before.hash));
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(settled_history(&cluster).await.unwrap(), history);
    for node in nodes {
        let name = node.metadata.as_ref().unwrap().name.clone();
        assert_eq!(cluster.node(&name).await.unwrap(), node);
    }
    assert_verified(&cluster, after.revision);
}

/// `bessemer event verify` recomputes the chain and finds it whole.
fn assert_verified(cluster: &Cluster, revision: u64) {
    let output = std::process::Command::new(binary("bessemer"))
        .args(["--api", &cluster.api_urls()[0], "event", "verify"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(&revision.to_string()), "{said}");
}
