//! Conductors: their leases, their progress, their replicas.

use std::time::Duration;

use bessemer_domain::State;
use bessemer_proto::v1;
use bessemer_proto::v1::replicate_response::Update;
use tokio::time::{Instant, sleep};

use crate::member::{CONDUCTOR, Running, verb};

/// Short, so that a test need not wait long, and far longer than a heartbeat on loopback takes.
const LEASE_MILLISECONDS: u32 = 1_000;

async fn online(api: &Running) -> bool {
    let request = v1::ListConductorsRequest {};
    let conductors = api.client.list_conductors(request).await.unwrap().conductors;
    assert_eq!(conductors[0].id, CONDUCTOR);
    conductors[0].online
}

#[tokio::test]
async fn a_conductor_that_falls_silent_is_expired_and_one_that_speaks_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::start_with(dir.path(), LEASE_MILLISECONDS).await;
    assert!(!api.heartbeat(Vec::new()).await, "it must register first");
    api.register().await;
    let speaks_until = Instant::now() + Duration::from_millis(u64::from(LEASE_MILLISECONDS) * 3);
    while Instant::now() < speaks_until {
        assert!(api.heartbeat(Vec::new()).await, "it is heard and keeps its lease");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(online(&api).await);
    api.wait_for("its expiry", async || !online(&api).await).await;
    assert!(!api.heartbeat(Vec::new()).await, "it must register again");
    let lost = v1::EventFilter { types: vec!["conductor.lost".into()], ..Default::default() };
    let request = v1::ListEventsRequest { filter: Some(lost), ..Default::default() };
    let events = api.client.list_events(request).await.unwrap().events;
    assert_eq!((events.len(), events[0].actor.as_str()), (1, "member/1"));
    api.stop().await;
}

#[tokio::test]
async fn progress_is_shown_while_its_step_runs() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    let created = api.create("n").await;
    api.client.manage_node(verb("n")).await.unwrap();
    api.claim("n").await;
    api.start_step("n").await;
    let progress = v1::Progress {
        step: "power.verify".into(),
        done_bytes: 5,
        total_bytes: 9,
        ..Default::default()
    };
    let node_id = created.metadata.unwrap().id;
    api.heartbeat(vec![v1::NodeProgress { node_id, progress: Some(progress.clone()) }]).await;
    assert_eq!(api.get("n").await.status.unwrap().progress, Some(progress));
    api.client.abort_node(verb("n")).await.unwrap();
    assert_eq!(api.get("n").await.status.unwrap().progress, None);
    api.stop().await;
}

#[tokio::test]
async fn a_replica_is_the_state_and_then_every_event() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    api.create("n").await;
    let mut stream =
        api.client.replicate(v1::ReplicateRequest { after_revision: 0 }).await.unwrap();
    let mut encoded = Vec::new();
    let mut replica: State = loop {
        match stream.message().await.unwrap().unwrap().update.unwrap() {
            Update::StateSlice(slice) => encoded.extend_from_slice(&slice),
            Update::StateEnd(end) => {
                assert_eq!(end.revision, api.revision().await);
                break serde_json::from_slice(&encoded).unwrap();
            }
            Update::Events(batch) => panic!("{batch:?} came before the state's end"),
        }
    };
    api.client.manage_node(verb("n")).await.unwrap();
    let status = api.client.get_status(v1::GetStatusRequest {}).await.unwrap();
    let resumed_after = replica.tip().revision.0;
    while replica.tip().revision.0 < status.revision {
        let Some(Update::Events(batch)) = stream.message().await.unwrap().unwrap().update else {
            panic!("only events follow the state");
        };
        for event in batch.events {
            replica.evolve(&bessemer_wire::event::from_proto(&event).unwrap());
        }
    }
    assert_eq!(replica.tip().hash.0.to_vec(), status.hash);

    let request = v1::ReplicateRequest { after_revision: resumed_after };
    let mut stream = api.client.replicate(request).await.unwrap();
    let first = loop {
        let Some(Update::Events(batch)) = stream.message().await.unwrap().unwrap().update else {
            panic!("a replica that resumes needs no state");
        };
        // An empty batch is a sign of life.
        if let Some(first) = batch.events.first() {
            break first.revision;
        }
    };
    assert_eq!(first, resumed_after + 1);
    api.stop().await;
}
