//! Agents looking up their node.

use bessemer_domain::node::StepResult;
use bessemer_proto::v1;
use bessemer_proto::v1::agent_lookup_service_client::AgentLookupServiceClient;
use sha2::{Digest, Sha256};
use tonic::Status;
use tonic_types::StatusExt;

use crate::member::{CONDUCTOR_ADDRESS, Running, id_of, new_node, verb};

const MAC: &str = "52:54:00:00:00:01";

async fn lookup(api: &Running, request: v1::LookupRequest) -> Result<v1::LookupResponse, Status> {
    let mut service = AgentLookupServiceClient::new(api.channel());
    service.lookup(request).await.map(tonic::Response::into_inner)
}

fn by_mac(token: &str) -> v1::LookupRequest {
    v1::LookupRequest {
        mac_addresses: vec!["not an address".into(), MAC.into()],
        token: token.into(),
        ..Default::default()
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("our errors carry their reason").reason
}

/// A node whose cleaning boots the agent now.
async fn expecting_agent(api: &Running) -> v1::Node {
    let mut request = new_node("n");
    request.port_addresses = vec![MAC.into()];
    request.spec.as_mut().unwrap().automated_clean = None;
    let node = api.client.create_node(request).await.unwrap();
    api.client.manage_node(verb("n")).await.unwrap();
    api.claim("n").await;
    api.run_step("n", StepResult::Done).await;
    node
}

#[tokio::test]
async fn an_agent_gets_the_token_of_its_boot_and_nobody_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    let node = expecting_agent(&api).await;
    let revision = api.revision().await;
    assert_eq!(reason(&lookup(&api, by_mac("")).await.unwrap_err()), "AGENT_NOT_EXPECTED");
    assert_eq!(api.revision().await, revision);

    api.client.provide_node(verb("n")).await.unwrap();
    let found = lookup(&api, by_mac("")).await.unwrap();
    assert_eq!(found.node_id, id_of(&node).to_string());
    assert_eq!((found.node_name.as_str(), found.token.len()), ("n", 64));
    assert_eq!(found.conductor_address, CONDUCTOR_ADDRESS);

    let revision = api.revision().await;
    assert_eq!(lookup(&api, by_mac(&found.token)).await.unwrap(), found);
    assert_eq!(api.revision().await, revision, "the same token is no news");
    for stranger in ["", "guess", &"0".repeat(64)] {
        let refused = lookup(&api, by_mac(stranger)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
        assert_eq!(reason(&refused), "AGENT_ALREADY_BOUND");
    }
    let events = v1::EventFilter {
        node: "n".into(),
        types: vec!["node.agent_bound".into()],
        ..Default::default()
    };
    let request = v1::ListEventsRequest { filter: Some(events), ..Default::default() };
    let events = api.client.list_events(request).await.unwrap().events;
    let record: serde_json::Value = serde_json::from_slice(&events[0].record).unwrap();
    let digest = hex::encode(Sha256::digest(&found.token));
    assert_eq!((events.len(), &record["event"]["data"]["token_digest"]), (1, &digest.into()));
    api.stop().await;
}

#[tokio::test]
async fn an_agent_that_draws_its_token_can_repeat_a_lookup_whose_answer_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    expecting_agent(&api).await;
    api.client.provide_node(verb("n")).await.unwrap();
    let drawn = "5a".repeat(32);
    for _attempt in 0..2 {
        assert_eq!(lookup(&api, by_mac(&drawn)).await.unwrap().token, drawn);
    }
    api.stop().await;
}

#[tokio::test]
async fn a_machine_that_is_not_known_or_ambiguous_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    let unknown = v1::LookupRequest { mac_addresses: vec![MAC.into()], ..Default::default() };
    assert_eq!(reason(&lookup(&api, unknown).await.unwrap_err()), "NODE_NOT_FOUND");
    let nothing = v1::LookupRequest::default();
    assert_eq!(reason(&lookup(&api, nothing).await.unwrap_err()), "INVALID_FIELD");
    let macs = ["52:54:00:00:00:01", "52:54:00:00:00:02"];
    for (name, mac) in ["a", "b"].into_iter().zip(macs) {
        let request = v1::CreateNodeRequest { port_addresses: vec![mac.into()], ..new_node(name) };
        api.client.create_node(request).await.unwrap();
    }
    let both =
        v1::LookupRequest { mac_addresses: macs.map(Into::into).to_vec(), ..Default::default() };
    let refused = lookup(&api, both).await.unwrap_err();
    assert!(refused.message().contains("a and b") || refused.message().contains("b and a"));
    api.stop().await;
}
