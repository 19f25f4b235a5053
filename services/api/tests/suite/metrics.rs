//! What monitoring asks a member for.

use crate::member::Running;

async fn get(url: String) -> (u16, String) {
    bessemer_runtime::install_tls_provider();
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn commands_and_nodes_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_conductor(dir.path()).await;
    running.create("m1").await;
    running.create("m2").await;
    running.client.create_node(crate::member::new_node("m1")).await.unwrap_err();
    let (status, metrics) = get(format!("{}/metrics", running.metrics)).await;
    assert_eq!(status, 200);
    for line in [
        "bessemer_api_commands_total{kind=\"create_node\",outcome=\"accepted\"} 2",
        "bessemer_api_commands_total{kind=\"create_node\",outcome=\"rejected\"} 1",
        "bessemer_api_commit_seconds_count 4",
        "bessemer_api_nodes{provision_state=\"enroll\"} 2",
        "bessemer_api_nodes{provision_state=\"active\"} 0",
        "bessemer_api_conductors{state=\"online\"} 1",
        "bessemer_api_raft_is_leader 1",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    let revision = format!("bessemer_api_revision {}\n", running.revision().await);
    assert!(metrics.contains(&revision), "{revision} is not in\n{metrics}");
    assert_eq!(get(format!("{}/healthz", running.metrics)).await, (200, "ok\n".to_owned()));
    assert_eq!(get(format!("{}/readyz", running.metrics)).await, (200, "ready\n".to_owned()));
    running.stop().await;
}
