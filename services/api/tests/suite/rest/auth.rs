//! Who is let in.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bessemer_api::AuthStrategy;
use reqwest::Method;
use serde_json::{Value, json};

use super::Ironic;
use crate::member::Running;

#[tokio::test]
async fn a_password_is_asked_for_and_its_owner_is_in_history() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("htpasswd");
    std::fs::write(&file, format!("admin:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let running = Running::start_by(&directory.path().join("data"), |config| {
        config.rest_auth_strategy = Some(AuthStrategy::HttpBasic);
        config.rest_htpasswd_file = Some(file);
    })
    .await;
    running.register().await;
    let ironic = Ironic::of(running, directory);

    // What is served may be asked by anybody.
    ironic.get("/v1").await.expect(200);
    let stranger = ironic.get("/v1/nodes").await.expect(401);
    assert!(stranger.header("www-authenticate").starts_with("Basic "));
    assert_eq!(stranger.fault()["reason"], "UNAUTHENTICATED");
    let wrong = [("authorization", &*format!("Basic {}", BASE64.encode("admin:guess")))];
    ironic.ask(Method::GET, "/v1/nodes", &wrong, &Value::Null).await.expect(401);

    let right = [("authorization", &*format!("Basic {}", BASE64.encode("admin:secret")))];
    let node = json!({"driver": "fake-hardware", "name": "n1"});
    ironic.ask(Method::POST, "/v1/nodes", &right, &node).await.expect(201);
    let manage = json!({"target": "manage"});
    ironic.ask(Method::PUT, "/v1/nodes/n1/states/provision", &right, &manage).await.expect(202);
    let path = "/v1/nodes/n1/history?detail=true";
    let history = ironic.ask(Method::GET, path, &right, &Value::Null).await.expect(200).body;
    assert_eq!(history["history"][0]["user"], "admin");
}
