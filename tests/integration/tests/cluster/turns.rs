//! A conductor does so much at once and no more; what else is asked for waits in line and says so.

use std::collections::BTreeSet;
use std::time::Duration;

use bessemer_testkit::{Cluster, Options, settled_history, wait_for};
use serde_json::Value;

use crate::images::{IMAGE_BYTES, assert_holds_image, deployment};

#[tokio::test(flavor = "multi_thread")]
async fn deployments_wait_in_line_and_all_get_their_turn() {
    let options = Options {
        members: 1,
        conductors: 1,
        nats: false,
        deploys_at_once: 1,
        ..Options::default()
    };
    let cluster = Cluster::start(&options).await.unwrap();
    let names = ["first", "second", "third"];
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(cluster.available_node(name, IMAGE_BYTES).await.unwrap());
    }
    for name in names {
        cluster.deploy(name, deployment(&cluster)).await.unwrap();
    }
    wait_for("a place in line", Duration::from_secs(60), async || {
        let third = cluster.node("third").await.map_err(|error| error.to_string())?;
        let waits_for = third.status.unwrap_or_default().waiting_on.unwrap_or_default().what;
        let place = "its turn, place 2 of 2 in line: conductor c0 does 1 deploys at once";
        if waits_for == place { Ok(()) } else { Err(waits_for) }
    })
    .await
    .unwrap();
    for (name, node) in names.iter().zip(&nodes) {
        cluster.until_state(name, "active").await.unwrap();
        assert_holds_image(&cluster, node);
    }

    let mut deploying = BTreeSet::new();
    let mut deployed = 0;
    for event in settled_history(&cluster).await.unwrap() {
        let record: Value = serde_json::from_slice(&event.record).unwrap();
        let data = &record["event"]["data"];
        if event.r#type == "node.step_started" && data["step"] == "deploy.prepare_image" {
            deploying.insert(event.subject.clone());
        } else if data["to"] == "active" {
            deployed += usize::from(deploying.remove(&event.subject));
        }
        assert!(deploying.len() <= 1, "{deploying:?} at revision {}", event.revision);
    }
    assert_eq!(deployed, 3);
}
