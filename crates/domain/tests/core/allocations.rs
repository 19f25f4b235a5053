//! Allocations beside the lives of nodes: whose a node is, it says; nobody's node is anybody's.

use std::collections::BTreeMap;

use bessemer_domain::allocation::{AllocationOutcome, AllocationSpec};
use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::ids::{AllocationId, NodeId};
use bessemer_domain::node::{NodeSpec, ProvisionState};
use bessemer_domain::{CommandBody, Rejection, State};
use proptest::prelude::*;
use uuid::Uuid;

use crate::world::{World, deployment};

fn node(number: u128) -> NodeId {
    NodeId::new(Uuid::from_u128(0x100 + number))
}

fn allocation(number: u128) -> AllocationId {
    AllocationId::new(Uuid::from_u128(0x200 + number))
}

/// Nodes of class `gold`, offered in this order.
fn offered(count: u128) -> World {
    let mut world = World::new();
    for number in 0..count {
        let spec = NodeSpec {
            driver: "fake".to_owned(),
            resource_class: "gold".to_owned(),
            automated_clean: Some(false),
            ..NodeSpec::default()
        };
        let (node, name, ports, spec) = (node(number), None, Vec::new(), Box::new(spec));
        world.expect(CommandBody::CreateNode { node, name, spec, ports });
        world.subject = node;
        world.verb(ProvisionVerb::Manage).unwrap();
        world.settle();
        world.verb(ProvisionVerb::Provide).unwrap();
    }
    world
}

fn ask(world: &mut World, number: u128) -> Option<NodeId> {
    let spec = AllocationSpec { resource_class: "gold".to_owned(), ..AllocationSpec::default() };
    let (allocation, spec, node) = (allocation(number), Box::new(spec), None);
    world.expect(CommandBody::CreateAllocation { allocation, spec, node });
    world.state.allocation(allocation).unwrap().outcome.node()
}

fn delete(world: &mut World, number: u128) -> Result<(), Rejection> {
    world.send(CommandBody::DeleteAllocation { allocation: allocation(number) }).map(drop)
}

fn backfill(world: &mut World, number: u128, of: NodeId) -> Result<(), Rejection> {
    let (allocation, spec) = (allocation(number), Box::new(AllocationSpec::default()));
    world.send(CommandBody::CreateAllocation { allocation, spec, node: Some(of) }).map(drop)
}

#[test]
fn who_was_offered_first_is_given_first_and_comes_back_last() {
    let mut world = offered(2);
    assert_eq!(ask(&mut world, 1), Some(node(0)));
    assert_eq!(ask(&mut world, 2), Some(node(1)));
    assert_eq!(ask(&mut world, 3), None);
    let AllocationOutcome::Error(why) = &world.state.allocation(allocation(3)).unwrap().outcome
    else {
        panic!("it has a node")
    };
    assert!(why.starts_with("no node fits: 0 of resource class `gold`"), "{why}");
    // Forgotten, it gives nothing back.
    delete(&mut world, 3).unwrap();
    delete(&mut world, 1).unwrap();
    assert_eq!(ask(&mut world, 4), Some(node(0)));
    assert!(delete(&mut world, 1).is_err(), "it is no more");
}

#[test]
fn undeploy_gives_back_and_a_running_deployment_does_not() {
    let mut world = offered(1);
    ask(&mut world, 1);
    world.subject = node(0);
    world.verb(ProvisionVerb::Deploy(Box::new(deployment()))).unwrap();
    world.settle();
    assert!(matches!(delete(&mut world, 1), Err(Rejection::IllegalTransition { .. })));
    world.verb(ProvisionVerb::Undeploy).unwrap();
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Available);
    assert_eq!(world.node().allocation, None);
    assert!(world.state.allocation(allocation(1)).is_none());
    assert_eq!(ask(&mut world, 2), Some(node(0)));
}

#[test]
fn a_node_that_is_active_already_is_named() {
    let mut world = offered(1);
    world.subject = node(0);
    assert!(backfill(&mut world, 1, node(0)).is_err(), "it is not active");
    world.verb(ProvisionVerb::Deploy(Box::new(deployment()))).unwrap();
    world.settle();
    backfill(&mut world, 1, node(0)).unwrap();
    assert_eq!(world.node().allocation, Some(allocation(1)));
    assert!(backfill(&mut world, 2, node(0)).is_err(), "it is given already");
}

/// What an allocation says of its node, the node says of itself, and nobody else has it.
fn check(state: &State) {
    let mut holders = BTreeMap::new();
    for allocation in state.allocations_after(None) {
        if let Some(node) = allocation.outcome.node() {
            assert_eq!(holders.insert(node, allocation.id), None, "given twice");
        }
    }
    for node in state.nodes() {
        assert_eq!(node.allocation, holders.get(&node.id).copied(), "{node:?}");
    }
    let in_line: Vec<_> = state.offered("gold").map(|node| node.id).collect();
    let mut free: Vec<_> = state.nodes().filter(|it| it.spec.resource_class == "gold").collect();
    free.retain(|node| node.is_offered());
    free.sort_by_key(|node| (node.provision.since, node.id));
    assert_eq!(in_line, free.iter().map(|node| node.id).collect::<Vec<_>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_given_twice_whatever_is_asked(
        moves in prop::collection::vec((0_u8..9, 0_u128..3), 0..80),
    ) {
        let mut world = offered(3);
        let mut asked = 0;
        for (what, which) in moves {
            world.subject = node(which);
            let alive = world.state.node(world.subject).is_some();
            match what {
                0 | 1 => {
                    asked += 1;
                    let free = world.state.offered("gold").count();
                    let given = ask(&mut world, asked);
                    prop_assert_eq!(given.is_some(), free > 0);
                }
                2 => drop(delete(&mut world, which + asked.saturating_sub(3))),
                3 => drop(world.verb(ProvisionVerb::Deploy(Box::new(deployment())))),
                4 => drop(world.verb(ProvisionVerb::Undeploy)),
                5 => drop(world.verb(ProvisionVerb::Manage)),
                6 => drop(world.verb(ProvisionVerb::Provide)),
                7 => {
                    let reason = (asked % 2 == 0).then(|| "a look".to_owned());
                    let (node, expected_version) = (world.subject, None);
                    drop(world.send(CommandBody::SetMaintenance { node, expected_version, reason }));
                }
                _ if alive => world.settle(),
                _ => {}
            }
            check(&world.state);
        }
        let stored = serde_json::to_vec(&world.state).unwrap();
        let read: State = serde_json::from_slice(&stored).unwrap();
        check(&read);
        prop_assert_eq!(serde_json::to_vec(&read).unwrap(), stored);
    }
}
