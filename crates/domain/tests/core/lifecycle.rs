//! The life of a node through commands, as a conductor and a user would send them.

use crate::world::{World, deployment, inventory, node_id, raw_over_http, resolved};
use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::effects::{Effect, waiting_on};
use bessemer_domain::ids::{CommandId, ConductorId, Incarnation};
use bessemer_domain::node::{
    FieldChange, PowerState, PowerTarget, ProvisionState, Step, StepReport, StepResult, StepStatus,
};
use bessemer_domain::{Command, CommandBody, Event, Rejection, State, Timestamp};
use uuid::Uuid;

fn available() -> World {
    let mut world = World::new();
    world.verb(ProvisionVerb::Manage).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Provide).unwrap();
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Available);
    world
}

fn deploy(world: &mut World) {
    world.verb(ProvisionVerb::Deploy(Box::new(deployment()))).unwrap();
}

#[test]
fn from_enroll_to_active_and_back() {
    let mut world = available();
    deploy(&mut world);
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Active);
    assert_eq!(world.node().power.state, Some(PowerState::On));
    let held = world.node().deployment.clone().unwrap();
    assert_eq!(held.spec, deployment());
    assert_eq!(held.image.unwrap().raw_size_bytes, 1 << 30);
    assert!(held.write.is_some());

    world.verb(ProvisionVerb::Undeploy).unwrap();
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Available);
    assert_eq!(world.node().deployment, None);
    assert_eq!(world.node().power.state, Some(PowerState::Off));
}

#[test]
fn the_steps_of_a_deployment_are_in_irons_order() {
    let mut world = available();
    let mut spec = deployment();
    spec.config_drive = Some(bessemer_domain::node::ConfigDrive {
        meta_data: Default::default(),
        network_data: None,
        user_data: None,
        vendor_data: None,
    });
    world.verb(ProvisionVerb::Deploy(Box::new(spec))).unwrap();
    let plan = world.node().plan.as_ref().unwrap();
    let steps: Vec<_> = plan.steps.iter().map(|planned| planned.step.to_string()).collect();
    assert_eq!(
        steps,
        [
            "deploy.prepare_image",
            "deploy.deploy",
            "deploy.write_image",
            "deploy.write_configdrive",
            "deploy.prepare_instance_boot",
            "deploy.tear_down_agent",
            "deploy.boot_instance",
        ]
    );
}

#[test]
fn the_agents_turn_is_a_wait_state() {
    let mut world = available();
    deploy(&mut world);
    world.begin(Step::PrepareImage);
    assert_eq!(world.node().provision.state, ProvisionState::Deploying);
    world.report(StepReport::Completed(Box::new(StepResult::Image(resolved(1 << 30)))));
    world.begin(Step::WriteImage);
    assert_eq!(world.node().provision.state, ProvisionState::WaitCallBack);
    let waiting = waiting_on(&world.state, world.node()).unwrap();
    assert_eq!(waiting.what, "the agent to write the image");
    assert!(waiting.until.unwrap() > waiting.since);
}

#[test]
fn a_failed_step_ends_in_a_failed_state_that_leads_on() {
    let mut world = available();
    deploy(&mut world);
    world.begin(Step::WriteImage);
    world.report(StepReport::Failed {
        reason: "DISK_IO".to_owned(),
        message: "writing /dev/sda failed".to_owned(),
    });
    assert_eq!(world.node().provision.state, ProvisionState::DeployFailed);
    assert_eq!(world.node().last_error.as_deref(), Some("writing /dev/sda failed"));
    // Half a deployment does not stay powered on.
    assert!(matches!(
        world.effect_of("c1", 1),
        Some(Effect::SetPower { target: PowerTarget::Off, .. })
    ));
    world.settle();
    world.verb(ProvisionVerb::Rebuild(None)).unwrap();
    assert_eq!(world.node().last_error, None);
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Active);
}

#[test]
fn a_deployment_that_could_not_be_prepared_leaves_the_machine_alone() {
    let mut world = available();
    deploy(&mut world);
    world.begin(Step::PrepareImage);
    world.report(StepReport::Failed { reason: "X".to_owned(), message: "y".to_owned() });
    assert_eq!(world.node().provision.state, ProvisionState::DeployFailed);
    assert_eq!(world.effect_of("c1", 1), None);
}

#[test]
fn an_image_larger_than_every_disk_fails_before_the_machine_is_touched() {
    let mut world = available();
    deploy(&mut world);
    world.begin(Step::PrepareImage);
    world.report(StepReport::Completed(Box::new(StepResult::Image(resolved(5 << 30)))));
    assert_eq!(world.node().provision.state, ProvisionState::DeployFailed);
    let error = world.node().last_error.clone().unwrap();
    assert!(error.contains("5368709120 bytes") && error.contains("/dev/sda with 4294967296"));
    assert_eq!(world.effect_of("c1", 1), None);
}

/// A node that was verified and is not offered.
fn manageable() -> World {
    let mut world = available();
    world.verb(ProvisionVerb::Manage).unwrap();
    assert_eq!(world.node().provision.state, ProvisionState::Manageable);
    world
}

#[test]
fn an_inspection_records_what_the_machine_is_made_of_and_leads_back() {
    let mut world = manageable();
    world.verb(ProvisionVerb::Inspect).unwrap();
    assert_eq!(world.node().provision.target, Some(ProvisionState::Manageable));
    world.begin(Step::PrepareInspection);
    assert_eq!(world.node().provision.state, ProvisionState::InspectWait);
    world.report(StepReport::Completed(Box::new(StepResult::Agent(inventory(7 << 30)))));
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Manageable);
    assert_eq!(world.node().inventory, Some(inventory(7 << 30)));
    assert_eq!(world.node().power.state, Some(PowerState::Off));

    world.verb(ProvisionVerb::Inspect).unwrap();
    world.begin(Step::PrepareInspection);
    world.verb(ProvisionVerb::Abort).unwrap();
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::InspectFailed);
    assert_eq!(world.node().power.state, Some(PowerState::Off));
    world.verb(ProvisionVerb::Manage).unwrap();
    assert_eq!(world.node().provision.state, ProvisionState::Manageable);
}

#[test]
fn a_cleaning_that_was_asked_for_does_its_steps_and_offers_nothing() {
    let mut world = manageable();
    assert!(world.verb(ProvisionVerb::Clean(Vec::new())).is_err());
    let steps = vec![Step::EraseDevices, Step::EraseDevicesMetadata];
    world.verb(ProvisionVerb::Clean(steps)).unwrap();
    assert_eq!(world.node().provision.target, Some(ProvisionState::Manageable));
    let planned: Vec<Step> =
        world.node().plan.as_ref().unwrap().steps.iter().map(|it| it.step.clone()).collect();
    let expected = [
        Step::PrepareCleaning,
        Step::EraseDevicesMetadata,
        Step::EraseDevices,
        Step::TearDownCleaning,
    ];
    assert_eq!(planned, expected);
    world.begin(Step::EraseDevices);
    assert_eq!(world.node().provision.state, ProvisionState::CleanWait);
    assert_eq!(world.node().provision.target, Some(ProvisionState::Manageable));
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Manageable);
    assert_eq!(world.node().provision.target, None);
}

#[test]
fn an_adopted_machine_is_active_and_was_not_touched() {
    let mut world = manageable();
    world.verb(ProvisionVerb::Adopt(Box::new(deployment()))).unwrap();
    assert_eq!(world.node().provision.state, ProvisionState::Adopting);
    world.settle();
    let node = world.node();
    assert_eq!(node.provision.state, ProvisionState::Active);
    assert_eq!(node.deployment.as_ref().unwrap().spec, deployment());
    assert!(node.deployment.as_ref().unwrap().write.is_none());

    let mut world = manageable();
    world.verb(ProvisionVerb::Adopt(Box::new(deployment()))).unwrap();
    world.begin(Step::VerifyPower);
    world.report(StepReport::Failed { reason: "HARDWARE".into(), message: "no answer".into() });
    assert_eq!(world.node().provision.state, ProvisionState::AdoptFailed);
    world.verb(ProvisionVerb::Manage).unwrap();
    assert_eq!(world.node().provision.state, ProvisionState::Manageable);
    assert!(world.node().deployment.is_none());
}

#[test]
fn abort_stops_every_working_state() {
    for (step, state) in [
        (Step::PrepareImage, ProvisionState::Deploying),
        (Step::WriteImage, ProvisionState::WaitCallBack),
    ] {
        let mut world = available();
        deploy(&mut world);
        world.begin(step.clone());
        assert_eq!(world.node().provision.state, state);
        world.verb(ProvisionVerb::Abort).unwrap();
        assert_eq!(world.node().provision.state, ProvisionState::DeployFailed);
        assert_eq!(world.node().current_step(), None);
        let told = world.node().last_error.clone().unwrap();
        assert_eq!(told, format!("deploy was ended by `abort` at step {step}"));
        world.settle();
        assert_eq!(world.node().power.state, Some(PowerState::Off));
    }
}

/// A conductor whose place on the ring is before `c1`'s for the test's node.
fn joined(world: &mut World) -> String {
    for number in 2.. {
        let name = format!("c{number}");
        world.register(&name, number);
        if world.state.owner(world.node()).unwrap().as_str() == name {
            return name;
        }
    }
    unreachable!("sooner or later one is")
}

#[test]
fn a_conductor_that_is_online_lets_go_before_the_next_one_claims() {
    let mut world = available();
    deploy(&mut world);
    world.begin(Step::WriteImage);
    let epoch = world.node().epoch();
    let name = joined(&mut world);
    let number = name[1..].parse().unwrap();
    let claim = CommandBody::ClaimNode {
        node: node_id(),
        conductor: ConductorId::try_new(&name).unwrap(),
        incarnation: Incarnation::new(Uuid::from_u128(number)),
    };
    // A BMC knows no epochs: two claims in force would be two at the machine.
    assert_eq!(world.effect_of(&name, number), None);
    assert!(matches!(world.send(claim.clone()), Err(Rejection::StillClaimed { .. })));
    let waiting = bessemer_domain::effects::waiting_on(&world.state, world.node()).unwrap();
    assert_eq!(waiting.what, format!("conductor c1 to let go of it for {name}"));

    assert_eq!(world.effect_of("c1", 1), Some(Effect::Release { epoch }));
    world.expect(CommandBody::ReleaseNode { node: node_id(), epoch });
    assert_eq!(world.effect_of("c1", 1), None);
    let late = CommandBody::ReleaseNode { node: node_id(), epoch };
    assert_eq!(
        world.send(late).unwrap_err(),
        Rejection::StaleEpoch { given: epoch, held: epoch + 1 }
    );
    assert_eq!(world.effect_of(&name, number), Some(Effect::Claim));
    world.expect(claim);
    assert_eq!(world.node().epoch(), epoch + 2);
}

#[test]
fn another_conductor_takes_over_where_the_lost_one_was() {
    let mut world = available();
    deploy(&mut world);
    world.begin(Step::WriteImage);
    let epoch = world.node().epoch();
    let (plan, index, planned) = world.node().current_step().unwrap();
    let (plan, StepStatus::Running { until, .. }) = (plan.id, planned.status.clone()) else {
        panic!("not running")
    };

    world.register("c2", 2);
    world.expect(CommandBody::ExpireConductor {
        conductor: ConductorId::try_new("c1").unwrap(),
        incarnation: Incarnation::new(Uuid::from_u128(1)),
    });
    assert_eq!(world.effect_of("c1", 1), None);
    assert_eq!(world.effect_of("c2", 2), Some(Effect::Claim));
    world.expect(CommandBody::ClaimNode {
        node: node_id(),
        conductor: ConductorId::try_new("c2").unwrap(),
        incarnation: Incarnation::new(Uuid::from_u128(2)),
    });
    let next = Effect::RunStep { epoch: epoch + 1, plan, index, step: Step::WriteImage };
    assert_eq!(world.effect_of("c2", 2), Some(next));

    // The lost one, still alive somewhere, is refused.
    let stale = CommandBody::ReportStep {
        node: node_id(),
        epoch,
        plan,
        index,
        report: StepReport::Failed { reason: "X".to_owned(), message: "y".to_owned() },
    };
    let refused = world.send(stale).unwrap_err();
    assert_eq!(refused, Rejection::StaleEpoch { given: epoch, held: epoch + 1 });

    world.report(StepReport::Started);
    let (.., planned) = world.node().current_step().unwrap();
    let StepStatus::Running { attempt, until: still, .. } = planned.status else { panic!() };
    assert_eq!((attempt, still), (2, until), "a take-over does not move the deadline");
}

#[test]
fn a_restarted_conductor_must_claim_anew() {
    let mut world = available();
    deploy(&mut world);
    world.begin(Step::PrepareImage);
    world.register("c1", 7);
    assert_eq!(world.effect_of("c1", 7), Some(Effect::Claim));
}

#[test]
fn maintenance_stops_work_and_forbids_deploying() {
    let mut world = available();
    let reason = Some("fan 3".to_owned());
    let set = CommandBody::SetMaintenance { node: node_id(), expected_version: None, reason };
    world.expect(set.clone());
    let refused = world.verb(ProvisionVerb::Deploy(Box::new(deployment()))).unwrap_err();
    assert!(refused.to_string().contains("in maintenance (fan 3)"), "{refused}");

    world.expect(CommandBody::SetMaintenance {
        node: node_id(),
        expected_version: None,
        reason: None,
    });
    deploy(&mut world);
    world.expect(set);
    assert_eq!(world.effect_of("c1", 1), None);
    let waiting = waiting_on(&world.state, world.node()).unwrap();
    assert_eq!(waiting.what, "the end of maintenance (fan 3)");
}

#[test]
fn a_token_is_given_once_for_each_boot() {
    let mut world = available();
    let bind = |token: &str, held: Option<&str>| CommandBody::BindAgent {
        node: node_id(),
        token_digest: token.to_owned(),
        held_digest: held.map(ToOwned::to_owned),
    };
    let refused = world.send(bind("t0", None)).unwrap_err();
    assert!(matches!(refused, Rejection::AgentNotExpected { .. }));
    deploy(&mut world);
    world.begin(Step::Deploy);
    world.send(bind("t1", None)).unwrap();
    assert!(matches!(world.send(bind("t2", None)), Err(Rejection::AgentAlreadyBound { .. })));
    assert!(matches!(world.send(bind("t2", Some("t0"))), Err(Rejection::AgentAlreadyBound { .. })));
    world.send(bind("t2", Some("t1"))).unwrap();
    let epoch = world.node().epoch();
    world.expect(CommandBody::ResetAgent { node: node_id(), epoch });
    world.send(bind("t3", None)).unwrap();
}

#[test]
fn updates_of_different_keys_do_not_undo_one_another() {
    let mut world = World::new();
    let set = |key: &str| CommandBody::UpdateNode {
        node: node_id(),
        expected_version: None,
        changes: vec![FieldChange::PropertiesKey(key.to_owned(), Some(1.into()))],
    };
    world.expect(set("a"));
    world.expect(set("b"));
    let version = world.node().version;
    assert_eq!(world.node().spec.properties.len(), 2);
    world.expect(set("b"));
    assert_eq!(world.node().version, version, "what changes nothing leaves no event");
    let stale = CommandBody::UpdateNode {
        node: node_id(),
        expected_version: Some(version - 1),
        changes: vec![FieldChange::Description("x".to_owned())],
    };
    assert!(matches!(world.send(stale), Err(Rejection::VersionConflict { .. })));
}

#[test]
fn what_the_next_deployment_is_made_of_goes_with_the_last_one() {
    let mut world = available();
    let set = |key: &str, value: Option<&str>| CommandBody::UpdateNode {
        node: node_id(),
        expected_version: None,
        changes: vec![FieldChange::InstanceInfoKey(key.to_owned(), value.map(Into::into))],
    };
    world.expect(set("image_source", Some("http://a/b")));
    world.expect(set("colour", Some("red")));
    world.expect(set("colour", None));
    deploy(&mut world);
    world.settle();
    assert_eq!(world.node().spec.instance_info.len(), 1, "it is the user's until then");
    world.verb(ProvisionVerb::Undeploy).unwrap();
    world.settle();
    assert!(world.node().spec.instance_info.is_empty());
    assert_eq!(world.node().provision.state, ProvisionState::Available);
}

#[test]
fn a_command_id_belongs_to_one_request() {
    let mut world = World::new();
    let command = |fingerprint, target| Command {
        id: CommandId::new(Uuid::from_u128(77)),
        fingerprint,
        actor: "test".to_owned(),
        at: Timestamp::from_micros(1),
        body: CommandBody::SetPower {
            node: node_id(),
            expected_version: None,
            target,
            limit_seconds: None,
        },
    };
    world.state.apply(&command(1, PowerTarget::On)).0.unwrap();
    let (outcome, events) = world.state.apply(&command(2, PowerTarget::Off));
    assert!(matches!(outcome, Err(Rejection::CommandIdReused { .. })));
    assert!(events.is_empty());
}

#[test]
fn an_id_is_not_used_twice_in_history() {
    let mut world = World::new();
    let delete = CommandBody::DeleteNode { node: node_id(), expected_version: None };
    world.expect(delete);
    let refused = world
        .send(CommandBody::CreateNode {
            node: node_id(),
            name: None,
            spec: Box::new(bessemer_domain::node::NodeSpec {
                driver: "fake".to_owned(),
                ..Default::default()
            }),
            ports: Vec::new(),
        })
        .unwrap_err();
    assert!(refused.to_string().contains("deleted; ids are not reused"), "{refused}");
}

#[test]
fn http_takes_only_what_the_agent_can_read_from_its_source() {
    let mut world = available();
    let mut local = raw_over_http();
    local.image.as_mut().unwrap().source = "file:///srv/disk.raw".to_owned();
    let refused = world.verb(ProvisionVerb::Deploy(Box::new(local))).unwrap_err();
    assert!(
        refused.to_string().starts_with("deployment.image.source `file:///srv/disk.raw` cannot be"),
        "{refused}"
    );
    world.verb(ProvisionVerb::Deploy(Box::new(raw_over_http()))).unwrap();
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Active);
    assert!(!world.events().any(|event| matches!(
        event,
        Event::StepStarted { step, .. } if step == "deploy.prepare_image"
    )));
}

#[test]
fn without_cleaning_a_node_is_available_at_once() {
    let mut world = World::new();
    world.expect(CommandBody::UpdateNode {
        node: node_id(),
        expected_version: None,
        changes: vec![FieldChange::AutomatedClean(Some(false))],
    });
    world.verb(ProvisionVerb::Manage).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Provide).unwrap();
    assert_eq!(world.node().provision.state, ProvisionState::Available);
    deploy(&mut world);
    world.settle();
    world.verb(ProvisionVerb::Undeploy).unwrap();
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Available);
}

#[test]
fn the_state_is_its_history() {
    let mut world = available();
    deploy(&mut world);
    world.settle();
    let mut replayed = State::default();
    for event in &world.history {
        assert_eq!(event.hash, replayed.tip().hash.chain(&event.bytes));
        replayed.evolve(event);
    }
    let (before, after) = (world.node(), replayed.node(node_id()).unwrap());
    assert_eq!(before, after);
    assert_eq!(world.state.tip(), replayed.tip());
    // And a stored state reads back as it was, with what is derived from it.
    let stored = serde_json::to_vec(&world.state).unwrap();
    let read: State = serde_json::from_slice(&stored).unwrap();
    assert_eq!(serde_json::to_vec(&read).unwrap(), stored);
    assert_eq!(read.node_by_name(before.name.as_ref().unwrap()), Some(before));
    assert_eq!(read.owner(before), world.state.owner(before));
}
