//! Allocations: given once, found by what machines have, given back.

use std::collections::BTreeSet;
use std::time::Instant;

use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::ids::{CommandId, ConductorId, NodeId, NodeName};
use bessemer_domain::node::{NodeSpec, PowerState, StepReport, StepResult};
use bessemer_domain::{Command, CommandBody, Outcome, Timestamp};
use bessemer_proto::v1;
use futures::future::join_all;
use uuid::Uuid;

use crate::member::{CONDUCTOR, Running, command_id, id_of, new_node, refusal, verb};

const MACHINES: usize = 1000;

fn request(name: &str, resource_class: &str) -> v1::CreateAllocationRequest {
    let resource_class = resource_class.to_owned();
    v1::CreateAllocationRequest {
        command_id: command_id(),
        name: name.to_owned(),
        spec: Some(v1::AllocationSpec { resource_class, ..Default::default() }),
        ..Default::default()
    }
}

fn node_of(allocation: &v1::Allocation) -> &str {
    &allocation.status.as_ref().unwrap().node_id
}

/// What brings a machine from nothing to `available`, as its user and its conductor would send it.
fn life(api: &Running, number: usize) -> Vec<CommandBody> {
    let node = NodeId::new(Uuid::from_u128(0x1000 + number as u128));
    let spec = NodeSpec {
        driver: "fake".to_owned(),
        resource_class: "gold".to_owned(),
        automated_clean: Some(false),
        ..NodeSpec::default()
    };
    let name = Some(NodeName::try_new(&format!("n{number}")).unwrap());
    let provision = |verb| CommandBody::Provision { node, expected_version: None, verb };
    let plan = plan_of(number);
    let report = |report| CommandBody::ReportStep { node, epoch: 1, plan, index: 0, report };
    let conductor = ConductorId::try_new(CONDUCTOR).unwrap();
    vec![
        CommandBody::CreateNode { node, name, spec: Box::new(spec), ports: Vec::new() },
        provision(ProvisionVerb::Manage),
        CommandBody::ClaimNode { node, conductor, incarnation: api.incarnation },
        report(StepReport::Started),
        report(StepReport::Completed(Box::new(StepResult::Power(PowerState::Off)))),
        provision(ProvisionVerb::Provide),
    ]
}

/// A plan is named after the command that caused it.
fn plan_of(number: usize) -> CommandId {
    CommandId::new(Uuid::from_u128(0x9000_0000 + number as u128))
}

async fn fleet(api: &Running) {
    let numbers: Vec<_> = (0..MACHINES).collect();
    for some in numbers.chunks(100) {
        let commands = some.iter().flat_map(|number| {
            life(api, *number).into_iter().map(|body| {
                let is_manage =
                    matches!(body, CommandBody::Provision { verb: ProvisionVerb::Manage, .. });
                let id = if is_manage { plan_of(*number) } else { CommandId::new(Uuid::new_v4()) };
                let at = Timestamp::from_micros(1_700_000_000_000_000);
                let actor = CONDUCTOR.to_owned();
                serde_json::to_vec(&Command { id, fingerprint: 0, actor, at, body }).unwrap()
            })
        });
        let request = v1::ProposeRequest { commands: commands.collect() };
        for outcome in api.client.propose(request).await.unwrap().outcomes {
            serde_json::from_slice::<Outcome>(&outcome).unwrap().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_machines_are_given_to_a_thousand_at_once_and_none_twice() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    fleet(&api).await;
    let began = Instant::now();
    let given = join_all((0..MACHINES).map(async |number| {
        let name = format!("a{number}");
        api.client.create_allocation(request(&name, "gold")).await.unwrap()
    }))
    .await;
    eprintln!("{MACHINES} allocations of {MACHINES} nodes took {:?}", began.elapsed());
    let nodes: BTreeSet<_> = given.iter().map(node_of).collect();
    assert!(!nodes.contains(""), "one was left without though all fit");
    assert_eq!(nodes.len(), MACHINES, "one was given twice");

    let late = api.client.create_allocation(request("late", "gold")).await.unwrap();
    let status = late.status.unwrap();
    assert_eq!(status.state, "error");
    assert!(status.last_error.starts_with("no node fits: 0 of resource class `gold`"));
    let errors = v1::ListAllocationsRequest { state: "error".into(), ..Default::default() };
    let errors = api.client.list_allocations(errors).await.unwrap().allocations;
    assert_eq!(errors.len(), 1);
    api.stop().await;
}

#[tokio::test]
async fn an_allocation_gets_what_it_asks_for_and_gives_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    for (name, traits, owner) in [
        ("plain", vec![], ""),
        ("fast", vec!["CUSTOM_GPU".to_owned()], ""),
        ("theirs", vec!["CUSTOM_GPU".to_owned()], "them"),
    ] {
        let mut node = new_node(name);
        let spec = node.spec.as_mut().unwrap();
        spec.resource_class = "gold".into();
        spec.traits = traits;
        spec.owner = owner.into();
        api.client.create_node(node).await.unwrap();
        api.make_available(name).await;
    }
    let id = async |name: &str| id_of(&api.get(name).await).to_string();

    let mut by_trait = request("web", "gold");
    by_trait.spec.as_mut().unwrap().traits = vec!["CUSTOM_GPU".into()];
    let web = api.client.create_allocation(by_trait.clone()).await.unwrap();
    assert_eq!(node_of(&web), id("fast").await);
    let again = api.client.create_allocation(by_trait.clone()).await.unwrap();
    assert_eq!(web, again, "a repeat has no second effect");
    let shown = api.get("fast").await.status.unwrap();
    assert_eq!(shown.allocation_id, web.metadata.as_ref().unwrap().id);
    by_trait.command_id = command_id();
    let taken = refusal(api.client.create_allocation(by_trait)).await;
    assert_eq!(taken.reason, "ALREADY_EXISTS");

    let mut of_owner = request("theirs-too", "gold");
    let spec = of_owner.spec.as_mut().unwrap();
    spec.owner = "them".into();
    spec.candidate_nodes = vec!["fast".into(), "theirs".into()];
    let candidate = api.client.create_allocation(of_owner).await.unwrap();
    assert_eq!(node_of(&candidate), id("theirs").await);
    let unknown =
        v1::AllocationSpec { candidate_nodes: vec!["nobody".into()], ..Default::default() };
    let unknown = v1::CreateAllocationRequest { spec: Some(unknown), ..request("x", "gold") };
    assert_eq!(refusal(api.client.create_allocation(unknown)).await.reason, "NODE_NOT_FOUND");
    // A node of the allocation's name comes before one that has been offered longer.
    let named = api.client.create_allocation(request("plain", "gold")).await.unwrap();
    assert_eq!(node_of(&named), id("plain").await);

    let delete = |allocation: &str| v1::DeleteAllocationRequest {
        command_id: command_id(),
        allocation: allocation.into(),
    };
    let node = v1::DeleteNodeRequest { node: "plain".into(), ..Default::default() };
    assert_eq!(refusal(api.client.delete_node(node)).await.reason, "INVALID_FIELD");
    api.client.delete_allocation(delete("plain")).await.unwrap();
    assert_eq!(api.get("plain").await.status.unwrap().allocation_id, "");
    let gone = v1::GetAllocationRequest { allocation: "plain".into(), stale_ok: false };
    assert_eq!(refusal(api.client.get_allocation(gone)).await.reason, "RESOURCE_NOT_FOUND");
    api.client.manage_node(verb("plain")).await.unwrap();
    let none = api.client.create_allocation(request("", "gold")).await.unwrap();
    assert_eq!(none.status.unwrap().state, "error");
    api.stop().await;
}
