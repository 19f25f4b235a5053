//! Enrolling, reading, listing and changing nodes.

use bessemer_proto::v1;
use prost_types::{FieldMask, Struct, Value, value::Kind};

use crate::member::{Running, command_id, id_of, new_node, refusal, state_of, verb};

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.into())) }
}

fn update(node: &str, paths: &[&str], spec: v1::NodeSpec) -> v1::UpdateNodeRequest {
    v1::UpdateNodeRequest {
        node: node.into(),
        spec: Some(spec),
        update_mask: Some(FieldMask { paths: paths.iter().map(|path| (*path).into()).collect() }),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_node_is_found_by_name_and_by_id_with_its_ports() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    let mut request = new_node("web-1");
    request.port_addresses = vec!["52:54:00:AA:00:01".into(), "52-54-00-aa-00-02".into()];
    let created = api.client.create_node(request).await.unwrap();
    assert_eq!((created.version, state_of(&created)), (1, "enroll"));
    assert_eq!(created.status.as_ref().unwrap().conductor, "conductor-1");
    let id = id_of(&created).to_string();
    assert_eq!(api.get("web-1").await, created);
    assert_eq!(api.get(&id).await, created);

    let listed =
        api.client.list_ports(v1::ListPortsRequest { node: "web-1".into(), ..Default::default() });
    let ports = listed.await.unwrap().ports;
    let addresses: Vec<_> =
        ports.iter().map(|port| port.spec.as_ref().unwrap().address.as_str()).collect();
    assert_eq!(addresses, ["52:54:00:aa:00:01", "52:54:00:aa:00:02"]);
    let by_address = v1::GetPortRequest { port: "52:54:00:AA:00:02".into(), ..Default::default() };
    assert_eq!(api.client.get_port(by_address).await.unwrap(), ports[1]);
    api.stop().await;
}

#[tokio::test]
async fn lists_come_in_pages_and_filtered() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    for number in 0..7 {
        let mut request = new_node(&format!("n{number}"));
        request.spec.as_mut().unwrap().owner = if number % 2 == 0 { "even" } else { "odd" }.into();
        api.client.create_node(request).await.unwrap();
    }
    let (mut names, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = v1::ListNodesRequest { page_size: 3, page_token, ..Default::default() };
        let page = api.client.list_nodes(request).await.unwrap();
        pages += 1;
        assert!(page.nodes.len() <= 3);
        names.extend(page.nodes.into_iter().map(|node| node.metadata.unwrap().name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((pages, names.join(" ").as_str()), (3, "n0 n1 n2 n3 n4 n5 n6"));

    api.client.manage_node(verb("n3")).await.unwrap();
    let count = async |filter: v1::NodeFilter| {
        let request = v1::ListNodesRequest { filter: Some(filter), ..Default::default() };
        api.client.list_nodes(request).await.unwrap().nodes.len()
    };
    let odd = v1::NodeFilter { owner: "odd".into(), ..Default::default() };
    assert_eq!(count(odd.clone()).await, 3);
    assert_eq!(
        count(v1::NodeFilter { provision_states: vec!["verifying".into()], ..odd }).await,
        1
    );
    assert_eq!(count(v1::NodeFilter { conductor: "other".into(), ..Default::default() }).await, 0);

    let wrong = v1::ListNodesRequest { page_token: "nonsense".into(), ..Default::default() };
    let refused = refusal(api.client.list_nodes(wrong)).await;
    assert_eq!(
        (refused.reason.as_str(), refused.metadata["field"].as_str()),
        ("INVALID_FIELD", "page_token")
    );
    let filter = v1::NodeFilter { provision_states: vec!["lost".into()], ..Default::default() };
    let wrong = v1::ListNodesRequest { filter: Some(filter), ..Default::default() };
    assert_eq!(refusal(api.client.list_nodes(wrong)).await.metadata["value"], "lost");
    api.stop().await;
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names_and_no_secret_by_its_mask() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    let info = |fields: &[(&str, &str)]| {
        let fields = fields.iter().map(|(key, value)| ((*key).into(), text(value))).collect();
        Some(Struct { fields })
    };
    let mut request = new_node("n");
    request.spec.as_mut().unwrap().driver_info = info(&[("password", "hunter2"), ("address", "a")]);
    let created = api.client.create_node(request).await.unwrap();
    let shown = created.spec.unwrap().driver_info.unwrap().fields;
    assert_eq!((&shown["password"], &shown["address"]), (&text("******"), &text("a")));

    let spec = v1::NodeSpec {
        driver_info: info(&[("password", "******"), ("address", "b")]),
        owner: "ignored".into(),
        ..Default::default()
    };
    let updated = api.client.update_node(update("n", &["spec.driver_info"], spec)).await.unwrap();
    assert_eq!((updated.version, updated.spec.unwrap().owner.as_str()), (2, ""));
    let events = v1::ListEventsRequest {
        filter: Some(v1::EventFilter {
            node: "n".into(),
            types: vec!["node.updated".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let events = api.client.list_events(events).await.unwrap().events;
    let record: serde_json::Value = serde_json::from_slice(&events[0].record).unwrap();
    let stored = &record["event"]["data"]["spec"]["driver_info"];
    assert_eq!(*stored, serde_json::json!({"password": "hunter2", "address": "b"}));
    api.stop().await;
}

#[tokio::test]
async fn a_stale_version_is_refused_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    api.create("n").await;
    let spec = v1::NodeSpec { description: "first".into(), ..Default::default() };
    let request = v1::UpdateNodeRequest { version: 1, ..update("n", &["spec.description"], spec) };
    assert_eq!(api.client.update_node(request.clone()).await.unwrap().version, 2);
    let revision = api.revision().await;
    let refused = refusal(api.client.update_node(request)).await;
    assert_eq!((refused.reason.as_str(), refused.code), ("VERSION_CONFLICT", tonic::Code::Aborted));
    assert_eq!((&*refused.metadata["expected"], &*refused.metadata["current"]), ("1", "2"));
    assert_eq!(api.revision().await, revision);
    api.stop().await;
}

#[tokio::test]
async fn a_repeated_command_answers_with_the_first_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    let create = v1::CreateNodeRequest { command_id: command_id(), ..new_node("n") };
    let first = api.client.create_node(create.clone()).await.unwrap();
    let revision = api.revision().await;
    assert_eq!(api.client.create_node(create.clone()).await.unwrap(), first);
    assert_eq!(api.revision().await, revision, "a repeat has no second effect");

    // A rejection is an outcome too, and stays one when the reason for it is gone.
    let provide = v1::NodeVerbRequest { command_id: command_id(), ..verb("n") };
    assert_eq!(
        refusal(api.client.provide_node(provide.clone())).await.reason,
        "ILLEGAL_TRANSITION"
    );
    api.make_available("n").await;
    assert_eq!(refusal(api.client.provide_node(provide)).await.reason, "ILLEGAL_TRANSITION");

    // The same id for something else is a mistake of the caller.
    let other = v1::CreateNodeRequest { name: "m".into(), ..create };
    assert_eq!(refusal(api.client.create_node(other)).await.reason, "COMMAND_ID_REUSED");

    // The name that the first attempt used means nothing any more.
    let delete = v1::DeleteNodeRequest { command_id: command_id(), node: "n".into(), version: 0 };
    api.client.delete_node(delete.clone()).await.unwrap();
    api.client.delete_node(delete).await.unwrap();
    let get = v1::GetNodeRequest { node: "n".into(), ..v1::GetNodeRequest::default() };
    assert_eq!(refusal(api.client.get_node(get)).await.reason, "NODE_NOT_FOUND");
    api.stop().await;
}

#[tokio::test]
async fn power_and_maintenance_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    api.create("n").await;
    let power = v1::SetNodePowerRequest {
        node: "n".into(),
        target: v1::PowerTarget::Reboot.into(),
        ..Default::default()
    };
    let status = api.client.set_node_power(power).await.unwrap().status.unwrap();
    assert_eq!(status.target_power_state(), v1::PowerState::On);
    assert!(status.waiting_on.unwrap().what.contains("conductor-1"));
    let maintenance = v1::SetNodeMaintenanceRequest {
        node: "n".into(),
        maintenance: true,
        reason: "fan 3".into(),
        ..Default::default()
    };
    let status = api.client.set_node_maintenance(maintenance).await.unwrap().status.unwrap();
    assert_eq!((status.maintenance, status.maintenance_reason.as_str()), (true, "fan 3"));
    api.stop().await;
}

#[tokio::test]
async fn a_node_is_shown_as_it_was_at_every_revision() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    let before = api.revision().await;
    let id = api.create("n").await.metadata.unwrap().id;
    let mut as_seen = vec![(api.revision().await, api.get("n").await)];
    let rename = v1::UpdateNodeRequest {
        node: "n".into(),
        name: "m".into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["name".into()] }),
        ..Default::default()
    };
    api.client.update_node(rename).await.unwrap();
    as_seen.push((api.revision().await, api.get("m").await));
    api.make_available("m").await;
    as_seen.push((api.revision().await, api.get("m").await));
    let delete = v1::DeleteNodeRequest { node: "m".into(), ..Default::default() };
    api.client.delete_node(delete).await.unwrap();
    let deleted = api.revision().await;

    let at = |revision| v1::GetNodeRequest {
        node: id.clone(),
        at_revision: revision,
        ..Default::default()
    };
    for (revision, seen) in as_seen {
        assert_eq!(api.client.get_node(at(revision)).await.unwrap(), seen, "{revision}");
    }
    let gone = refusal(api.client.get_node(at(deleted))).await;
    assert_eq!(gone.reason, "INVALID_FIELD");
    assert!(gone.message.contains(&format!("was deleted, at revision {deleted}")), "{gone:?}");
    let unborn = refusal(api.client.get_node(at(before))).await;
    assert!(unborn.message.contains("was created, at revision"), "{unborn:?}");
    let beyond = refusal(api.client.get_node(at(deleted + 1))).await;
    assert!(beyond.message.contains("is beyond the newest revision"), "{beyond:?}");
    let other = v1::GetNodeRequest { node: uuid::Uuid::new_v4().to_string(), ..at(deleted) };
    assert_eq!(refusal(api.client.get_node(other)).await.reason, "NODE_NOT_FOUND");
    api.stop().await;
}
