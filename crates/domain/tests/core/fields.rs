//! Fields of nodes that forbid verbs, or that only some states let change.

use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::ids::NodeId;
use bessemer_domain::node::{FieldChange, NodeSpec, ProvisionState, Trait};
use bessemer_domain::{CommandBody, Outcome, Rejection};
use uuid::Uuid;

use crate::world::{World, deployment, node_id};

fn update(world: &mut World, changes: Vec<FieldChange>) -> Outcome {
    world.send(CommandBody::UpdateNode { node: node_id(), expected_version: None, changes })
}

fn refused_field(outcome: Outcome) -> String {
    match outcome.unwrap_err() {
        Rejection::Invalid(invalid) => invalid.field,
        other => panic!("{other}"),
    }
}

fn available() -> World {
    let mut world = World::new();
    world.verb(ProvisionVerb::Manage).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Provide).unwrap();
    world.settle();
    world
}

fn active() -> World {
    let mut world = available();
    world.verb(ProvisionVerb::Deploy(Box::new(deployment()))).unwrap();
    world.settle();
    world
}

#[test]
fn a_protected_node_stays_as_it_is() {
    let protect = || {
        vec![FieldChange::Protected(true), FieldChange::ProtectedReason("the database".to_owned())]
    };
    let mut world = available();
    assert_eq!(refused_field(update(&mut world, protect())), "spec.protected");

    let mut world = active();
    update(&mut world, protect()).unwrap();
    let delete = CommandBody::DeleteNode { node: node_id(), expected_version: None };
    for outcome in [
        world.verb(ProvisionVerb::Undeploy),
        world.verb(ProvisionVerb::Rebuild(None)),
        world.send(delete),
    ] {
        let refused = outcome.unwrap_err();
        assert!(matches!(refused, Rejection::Protected { .. }), "{refused}");
        assert!(refused.to_string().contains("is protected (the database)"), "{refused}");
    }
    update(&mut world, vec![FieldChange::Protected(false)]).unwrap();
    assert_eq!(world.node().spec.protected, None);
    world.verb(ProvisionVerb::Undeploy).unwrap();
}

#[test]
fn a_retired_node_is_not_offered_again() {
    let mut world = available();
    let retire = || vec![FieldChange::Retired(true), FieldChange::RetiredReason("old".to_owned())];
    assert_eq!(refused_field(update(&mut world, retire())), "spec.retired");

    let mut world = active();
    update(&mut world, retire()).unwrap();
    world.verb(ProvisionVerb::Undeploy).unwrap();
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Manageable);
    let refused = world.verb(ProvisionVerb::Provide).unwrap_err();
    assert!(refused.to_string().contains("is retired (old)"), "{refused}");

    // Also where nothing is cleaned.
    let mut world = active();
    update(&mut world, retire()).unwrap();
    update(&mut world, vec![FieldChange::AutomatedClean(Some(false))]).unwrap();
    world.verb(ProvisionVerb::Undeploy).unwrap();
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Manageable);
}

#[test]
fn a_resource_class_changes_only_while_nobody_counts_on_it() {
    let class = |name: &str| vec![FieldChange::ResourceClass(name.to_owned())];
    let mut world = active();
    update(&mut world, class("gold")).unwrap();
    assert_eq!(refused_field(update(&mut world, class("silver"))), "spec.resource_class");
    let reason = Some("moved".to_owned());
    let set = CommandBody::SetMaintenance { node: node_id(), expected_version: None, reason };
    world.expect(set);
    update(&mut world, class("silver")).unwrap();
}

#[test]
fn traits_are_set_one_by_one_and_are_not_too_many() {
    let named = |name: String| name.parse::<Trait>().unwrap();
    let mut world = World::new();
    update(&mut world, vec![FieldChange::Trait(named("CUSTOM_A".into()), true)]).unwrap();
    update(&mut world, vec![FieldChange::Trait(named("CUSTOM_B".into()), true)]).unwrap();
    update(&mut world, vec![FieldChange::Trait(named("CUSTOM_A".into()), false)]).unwrap();
    let held: Vec<_> = world.node().spec.traits.iter().map(Trait::as_str).collect();
    assert_eq!(held, ["CUSTOM_B"]);
    let many = (0..51).map(|number| named(format!("CUSTOM_{number}"))).collect();
    assert_eq!(refused_field(update(&mut world, vec![FieldChange::Traits(many)])), "spec.traits");
}

#[test]
fn a_parent_exists_is_another_one_and_is_not_deleted_before_its_parts() {
    let parent_of = |parent| vec![FieldChange::ParentNode(Some(parent))];
    let mut world = World::new();
    let nobody = NodeId::new(Uuid::from_u128(0xdead));
    assert_eq!(refused_field(update(&mut world, parent_of(nobody))), "spec.parent_node");
    assert_eq!(refused_field(update(&mut world, parent_of(node_id()))), "spec.parent_node");

    let child = NodeId::new(Uuid::from_u128(0x0b));
    let parent_node = Some(node_id());
    let spec = NodeSpec { driver: "fake".to_owned(), parent_node, ..NodeSpec::default() };
    let (name, ports, spec) = (None, Vec::new(), Box::new(spec));
    world.expect(CommandBody::CreateNode { node: child, name, spec, ports });
    let children: Vec<_> = world.state.children_of(node_id()).map(|node| node.id).collect();
    assert_eq!(children, [child]);
    assert_eq!(refused_field(update(&mut world, parent_of(child))), "spec.parent_node");
    let delete = |node| CommandBody::DeleteNode { node, expected_version: None };
    assert_eq!(refused_field(world.send(delete(node_id()))), "node");
    // A state that was stored knows its children too.
    let stored = serde_json::to_vec(&world.state).unwrap();
    let read: bessemer_domain::State = serde_json::from_slice(&stored).unwrap();
    assert_eq!(read.children_of(node_id()).count(), 1);
    world.expect(delete(child));
    assert_eq!(world.state.children_of(node_id()).count(), 0);
    world.expect(delete(node_id()));
}
