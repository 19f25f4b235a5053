//! Random lives: whatever is sent, in whatever order, the node keeps its invariants and history stays whole.

use crate::world::{World, custom_agent, deployment, node_id, plugin_step, ramdisk, requested};
use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::effects::waiting_on;
use bessemer_domain::ids::{ConductorId, Incarnation};
use bessemer_domain::node::{PowerTarget, Step, StepReport, StepStatus};
use bessemer_domain::{CommandBody, State};
use proptest::prelude::*;
use uuid::Uuid;

#[derive(Debug, Clone)]
enum Move {
    Verb(u8),
    Work,
    BeginStep,
    FailStep,
    Power(u8),
    Maintenance(bool),
    LoseConductor,
    ReturnConductor,
    Delete,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (0_u8..17).prop_map(Move::Verb),
        8 => Just(Move::Work),
        2 => Just(Move::BeginStep),
        1 => Just(Move::FailStep),
        1 => (0_u8..3).prop_map(Move::Power),
        1 => any::<bool>().prop_map(Move::Maintenance),
        1 => Just(Move::LoseConductor),
        2 => Just(Move::ReturnConductor),
        1 => Just(Move::Delete),
    ];
    prop::collection::vec(one, 0..120)
}

fn verb(number: u8) -> ProvisionVerb {
    match number {
        0 => ProvisionVerb::Manage,
        1 => ProvisionVerb::Provide,
        2 => ProvisionVerb::Deploy(Box::new(deployment())),
        3 => ProvisionVerb::Rebuild(None),
        4 => ProvisionVerb::Undeploy,
        5 => ProvisionVerb::Inspect,
        6 => ProvisionVerb::Adopt(Box::new(deployment())),
        7 => ProvisionVerb::Clean(vec![Step::EraseDevices, plugin_step("burn_in", 50)]),
        8 => ProvisionVerb::Deploy(Box::new(custom_agent())),
        9 => ProvisionVerb::Rebuild(Some(Box::new(ramdisk()))),
        10 => ProvisionVerb::Rescue { password_hash: "$6$salt$hash".to_owned() },
        11 => ProvisionVerb::Unrescue,
        12 => ProvisionVerb::Service(vec![requested("burn_in", 90), requested("hold", 50)]),
        13 => ProvisionVerb::Unhold,
        14 => ProvisionVerb::Clean(vec![Step::asked_for(requested("hold", 50))]),
        15 => ProvisionVerb::Service(vec![requested("reboot", 90)]),
        _ => ProvisionVerb::Abort,
    }
}

fn take(world: &mut World, one: &Move) {
    let alive = world.state.node(node_id()).is_some();
    let step_under_claim = alive
        && matches!(
            world.effect_of("c1", 1),
            Some(bessemer_domain::effects::Effect::RunStep { .. })
        );
    match one {
        Move::Verb(number) => drop(world.verb(verb(*number))),
        Move::Work if alive => drop(world.work()),
        Move::BeginStep if step_under_claim => world.report(StepReport::Started),
        Move::FailStep if step_under_claim => world.report(StepReport::Failed {
            reason: "RANDOM".to_owned(),
            message: "it just failed".to_owned(),
        }),
        Move::Power(number) => drop(world.send(CommandBody::SetPower {
            node: node_id(),
            expected_version: None,
            target: [PowerTarget::On, PowerTarget::SoftOff, PowerTarget::Reboot]
                [usize::from(*number)],
            limit_seconds: None,
        })),
        Move::Maintenance(on) => drop(world.send(CommandBody::SetMaintenance {
            node: node_id(),
            expected_version: None,
            reason: on.then(|| "random".to_owned()),
        })),
        Move::LoseConductor => drop(world.send(CommandBody::ExpireConductor {
            conductor: ConductorId::try_new("c1").unwrap(),
            incarnation: Incarnation::new(Uuid::from_u128(1)),
        })),
        Move::ReturnConductor => world.register("c1", 1),
        Move::Delete => {
            drop(world.send(CommandBody::DeleteNode { node: node_id(), expected_version: None }))
        }
        Move::Work | Move::BeginStep | Move::FailStep => {}
    }
}

/// What must be so of a node at any time.
fn check(world: &World) {
    let Some(node) = world.state.node(node_id()) else { return };
    let working = node.provision.state.is_transient();
    assert_eq!(node.current_step().is_some(), working, "work has a step: {node:?}");
    if working {
        let waiting = waiting_on(&world.state, node);
        assert!(
            waiting.is_some_and(|waiting| !waiting.what.is_empty()),
            "work says what it waits for"
        );
        let is_held = node.current_step().is_some_and(|(.., planned)| {
            matches!(planned.step, Step::Hold(_))
                && matches!(planned.status, StepStatus::Running { .. })
        });
        let says_so = node.provision.state.as_str().ends_with("hold");
        assert_eq!(is_held, says_so, "a hold is a state: {node:?}");
    } else {
        assert_eq!(node.provision.target, None);
        assert_eq!(node.rescue_password_hash, None, "the hash goes with its plan");
        assert!(!node.provision.state.verbs().is_empty(), "a resting node has a way on");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_and_history_is_whole(moves in moves()) {
        let mut world = World::new();
        for one in &moves {
            take(&mut world, one);
            check(&world);
        }
        let mut replayed = State::default();
        for event in &world.history {
            prop_assert_eq!(event.hash, replayed.tip().hash.chain(&event.bytes));
            replayed.evolve(event);
        }
        prop_assert_eq!(replayed.node(node_id()), world.state.node(node_id()));
        prop_assert_eq!(replayed.tip(), world.state.tip());
    }
}
