//! Wrong input: each answered with an error that names field and value, and nothing changed.

use bessemer_proto::v1;

use crate::member::{Running, new_node, refusal, state_of, verb};

const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn deploy(image: v1::ImageSpec) -> v1::DeployNodeRequest {
    v1::DeployNodeRequest {
        node: "n".into(),
        deployment: Some(v1::DeploymentSpec { image: Some(image), ..Default::default() }),
        ..Default::default()
    }
}

fn image() -> v1::ImageSpec {
    v1::ImageSpec { source: "https://images/a.qcow2".into(), ..Default::default() }
}

#[tokio::test]
async fn an_image_that_cannot_be_verified_is_refused_before_anything_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    api.create("n").await;
    api.make_available("n").await;
    let revision = api.revision().await;
    let cases = [
        (image(), "checksum", ""),
        (v1::ImageSpec { checksum: "abc".into(), ..image() }, "checksum", "abc"),
        (v1::ImageSpec { checksum: "z".repeat(64), ..image() }, "checksum", &*"z".repeat(64)),
        (v1::ImageSpec { os_hash_algo: "sha256".into(), ..image() }, "os_hash_value", ""),
        (v1::ImageSpec { os_hash_value: SHA256.into(), ..image() }, "os_hash_algo", ""),
        (
            v1::ImageSpec {
                os_hash_algo: "sha512".into(),
                os_hash_value: SHA256.into(),
                ..image()
            },
            "os_hash_value",
            SHA256,
        ),
        (
            v1::ImageSpec { os_hash_algo: "sha3".into(), os_hash_value: SHA256.into(), ..image() },
            "os_hash_algo",
            "sha3",
        ),
        (v1::ImageSpec { source: "images/a.qcow2".into(), ..image() }, "source", "images/a.qcow2"),
    ];
    for (image, field, value) in cases {
        let refused = Box::pin(refusal(api.client.deploy_node(deploy(image)))).await;
        assert_eq!(refused.reason, "INVALID_FIELD", "{refused}");
        assert_eq!(refused.metadata["field"], format!("deployment.image.{field}"));
        assert_eq!(refused.metadata["value"], value);
        assert!(refused.message.contains(field), "{refused}");
    }
    let nothing = v1::DeployNodeRequest { deployment: None, ..deploy(image()) };
    let refused = Box::pin(refusal(api.client.deploy_node(nothing))).await;
    assert_eq!(refused.metadata["field"], "deployment");
    assert_eq!(api.revision().await, revision);
    assert_eq!(state_of(&api.get("n").await), "available");

    let good = v1::ImageSpec { checksum: SHA256.into(), ..image() };
    assert_eq!(state_of(&api.client.deploy_node(deploy(good)).await.unwrap()), "deploying");
    api.stop().await;
}

#[tokio::test]
async fn an_illegal_verb_says_what_would_be_legal() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    api.create("n").await;
    let refused = refusal(api.client.undeploy_node(verb("n"))).await;
    assert_eq!(refused.code, tonic::Code::FailedPrecondition);
    assert_eq!(refused.reason, "ILLEGAL_TRANSITION");
    assert_eq!(refused.metadata["state"], "enroll");
    assert_eq!(refused.metadata["allowed"], "manage");
    api.stop().await;
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    let id = "0192f1a6-0000-7000-8000-000000000001";
    for node in ["nobody", id] {
        let refused = refusal(api.client.manage_node(verb(node))).await;
        assert_eq!(refused.reason, "NODE_NOT_FOUND");
        assert_eq!(refused.metadata["reference"], node);
        let get = v1::GetNodeRequest { node: node.into(), stale_ok: true, at_revision: 0 };
        assert_eq!(refusal(api.client.get_node(get)).await.reason, "NODE_NOT_FOUND");
    }
    let port = v1::DeletePortRequest { port: "52:54:00:00:00:01".into(), ..Default::default() };
    assert_eq!(refusal(api.client.delete_port(port)).await.reason, "PORT_NOT_FOUND");
    let image = v1::GetImageRequest { image: "debian".into() };
    let client = api.client.clone().with_deadline(std::time::Duration::from_secs(2));
    let error = client.get_image(image).await.unwrap_err();
    assert!(error.to_string().contains("image caches"), "{error}");
    api.stop().await;
}

#[tokio::test]
async fn a_node_that_cannot_be_made_is_refused_by_its_field() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    api.create("taken").await;
    let revision = api.revision().await;
    type Change = fn(&mut v1::CreateNodeRequest);
    let cases: [(Change, &str, &str); 7] = [
        (|node| node.name = "a b".into(), "INVALID_FIELD", "name"),
        (|node| node.id = "7".into(), "INVALID_FIELD", "id"),
        (|node| node.command_id = "7".into(), "INVALID_FIELD", "command_id"),
        (|node| node.port_addresses = vec!["x".into()], "INVALID_FIELD", "port_addresses"),
        (|node| node.spec = None, "INVALID_FIELD", "spec"),
        (|node| node.name = "taken".into(), "ALREADY_EXISTS", "name"),
        (|node| node.spec.as_mut().unwrap().driver = "ilo".into(), "NO_CONDUCTOR_FOR_DRIVER", ""),
    ];
    for (change, reason, field) in cases {
        let mut request = new_node("n");
        change(&mut request);
        let refused = refusal(api.client.create_node(request)).await;
        assert_eq!(refused.reason, reason, "{refused}");
        assert_eq!(refused.metadata.get("field").map_or("", String::as_str), field);
    }
    assert_eq!(api.revision().await, revision);
    api.stop().await;
}
