//! A member is replaced and the leader killed while nodes are created and an image is written.

use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bessemer_client::Client;
use bessemer_proto::v1::{CreateNodeRequest, NodeSpec};
use bessemer_testkit::{Cluster, Options};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::images::{LARGE_DISK_BYTES, assert_holds_image, deployment};

/// A process that is told to go ends within this time.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Creates nodes one after the other until told to stop. None may fail.
struct Load {
    stop: Arc<AtomicBool>,
    creating: JoinHandle<usize>,
}

impl Load {
    fn start(client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let creating = tokio::spawn(async move {
            let mut created = 0;
            while !stopped.load(Ordering::Relaxed) {
                let spec = NodeSpec { driver: "fake".to_owned(), ..NodeSpec::default() };
                let request = CreateNodeRequest {
                    command_id: Uuid::new_v4().to_string(),
                    name: format!("load-{created}"),
                    spec: Some(spec),
                    ..CreateNodeRequest::default()
                };
                client.create_node(request).await.unwrap();
                created += 1;
            }
            created
        });
        Self { stop, creating }
    }

    /// How many were created.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.creating.await.unwrap()
    }
}

/// What a command said; it must have succeeded.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_replaced_and_the_leader_killed_under_load() {
    let options = Options { conductors: 1, nats: false, ..Options::default() };
    let mut cluster = Cluster::start(&options).await.unwrap();
    let node = cluster.available_node("busy", LARGE_DISK_BYTES).await.unwrap();
    let load = Load::start(cluster.client_of(&[1, 2, 3]).unwrap());
    cluster.deploy("busy", deployment(&cluster)).await.unwrap();

    let new = cluster.start_new_member().unwrap();
    let address = cluster.member_address(new);
    // Asked of whoever is there: a follower passes it on.
    for asked in [[2], [3]] {
        let output = cluster.bessemer(&asked, &["cluster", "add", "4", &address]).unwrap();
        assert!(said(&output).contains("learner"), "{output:?}");
    }
    let promote = ["cluster", "promote", "4", "--wait", "--timeout", "60s"];
    assert!(said(&cluster.bessemer(&[2], &promote).unwrap()).contains("member 4 votes"));
    let removed = cluster.bessemer(&[2, 3, 4], &["cluster", "remove", "1"]).unwrap();
    assert!(said(&removed).contains("member 1 was removed"), "{removed:?}");
    let status = cluster.members[0].ended(END_LIMIT).await.unwrap();
    assert!(!status.success());
    assert!(cluster.members[0].log().contains("was removed"), "{}", cluster.last_words());

    cluster.client = cluster.client_of(&[2, 3, 4]).unwrap();
    let leader = cluster.leader().await.unwrap();
    cluster.members[leader].kill();
    cluster.until_state("busy", "active").await.unwrap();
    assert_holds_image(&cluster, &node);
    let created = load.stop().await;
    assert!(created > 0);
    let events = cluster.events("").await.unwrap();
    let nodes = events.iter().filter(|event| event.r#type == "node.created").count();
    assert_eq!(nodes, created + 1, "every node that was acknowledged, once");
    for id in [2, 3, 4].into_iter().filter(|id| *id as usize != leader + 1) {
        said(&cluster.bessemer(&[id], &["event", "verify"]).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_cannot_be_is_refused_with_exit_code_2() {
    let options = Options { conductors: 0, nats: false, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    let address = cluster.member_address(2);
    let cases: [(&[&str], &str); 5] = [
        (&["cluster", "promote", "9"], "no member 9; the members are 1, 2, 3"),
        (&["cluster", "add", "2", "10.0.0.1:1"], "member 2 has address"),
        (&["cluster", "add", "9", &address], "member 2 has address"),
        (&["cluster", "add", "9", "10.0.0.1"], "HOST:PORT"),
        (&["cluster", "transfer-leader", "9"], "no member 9"),
    ];
    for (arguments, reason) in cases {
        let output = cluster.bessemer(&[1, 2, 3], arguments).unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(reason), "{arguments:?}: {error}");
    }
    let output = cluster.bessemer(&[1, 2, 3], &["cluster", "remove", "9"]).unwrap();
    assert!(said(&output).contains("nothing had to be done"));
    let output =
        cluster.bessemer(&[3], &["cluster", "transfer-leader", "3", "-o", "json"]).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&said(&output)).unwrap();
    assert_eq!(answer["members"][2]["leader"], true, "{answer}");
}
