//! What a member keeps when it is stopped and started, and what it tells of itself.

use bessemer_proto::v1;
use futures::StreamExt;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::member::{Running, command_id, new_node, refusal};

#[tokio::test]
async fn a_restarted_member_has_everything_and_repeats_outcomes() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    let create = v1::CreateNodeRequest { command_id: command_id(), ..new_node("n") };
    let created = api.client.create_node(create.clone()).await.unwrap();
    api.make_available("n").await;
    let (node, before) = (api.get("n").await, api.client.get_status(v1::GetStatusRequest {}).await);
    let before = before.unwrap();
    api.stop().await;

    let api = Running::start(dir.path()).await;
    let after = api.client.get_status(v1::GetStatusRequest {}).await.unwrap();
    assert_eq!((after.revision, &after.hash), (before.revision, &before.hash));
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(api.get("n").await, node);
    let again = api.client.create_node(create).await.unwrap();
    assert_eq!(again.metadata.unwrap().id, created.metadata.unwrap().id);
    assert_eq!(api.revision().await, before.revision);
    api.stop().await;
}

#[tokio::test]
async fn a_member_that_stops_ends_its_watches_and_does_not_wait_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::start(dir.path()).await;
    let client = api.client.clone().with_deadline(std::time::Duration::from_millis(500));
    let mut watch =
        client.watch(v1::WatchRequest { after_revision: Some(0), ..Default::default() });
    watch.next().await.unwrap().unwrap();
    api.stop().await;
    let ended = async {
        loop {
            if let Err(error) = watch.next().await.unwrap() {
                return error;
            }
        }
    };
    assert!(matches!(ended.await, bessemer_client::Error::Unreachable { .. }));
}

#[tokio::test]
async fn a_member_tells_its_health_and_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::start(dir.path()).await;
    let mut health = HealthClient::new(api.channel());
    let mut watch =
        health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    loop {
        let answer = watch.message().await.unwrap().unwrap();
        if answer.status() == ServingStatus::Serving {
            break;
        }
    }
    let members = api.client.list_members(v1::ListMembersRequest {}).await.unwrap().members;
    assert_eq!((members.len(), members[0].id), (1, 1));
    assert!(members[0].leader && members[0].voter);
    drop(watch);
    api.stop().await;
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let member = |id| bessemer_api::Member { id, address: "127.0.0.1:1".into() };
    let config = bessemer_api::Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..bessemer_api::Config::new(1, dir.path(), vec![member(2)])
    };
    let error = bessemer_api::start(config.clone(), shutdown.clone()).await.unwrap_err();
    assert!(matches!(error, bessemer_api::StartError::Ledger(_)), "{error}");
    let config = bessemer_api::Config {
        members: vec![member(1)],
        image_caches: vec!["not a url".into()],
        ..config
    };
    let error = bessemer_api::start(config, shutdown).await.unwrap_err();
    assert!(error.to_string().contains("not a url"), "{error}");
}

#[tokio::test]
async fn without_an_image_cache_a_wrong_image_is_still_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::start(dir.path()).await;
    let image = v1::ImageSpec { source: "https://images/a.qcow2".into(), ..Default::default() };
    let request =
        v1::PrepareImageRequest { image: Some(image), ..v1::PrepareImageRequest::default() };
    let mut stream = api.client.prepare_image(request);
    let refused = refusal(async { stream.next().await.unwrap() }).await;
    assert_eq!(refused.metadata["field"], "image.checksum");
    api.stop().await;
}
