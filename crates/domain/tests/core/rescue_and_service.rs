//! What is asked of a machine that holds a deployment: rescue, service, and holds in the middle of plans.

use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::effects::{Effect, waiting_on};
use bessemer_domain::node::{
    DeployInterface, DeploymentSpec, Fault, PowerState, ProvisionState, RequestedStep, Step,
    StepReport, Verb,
};
use bessemer_domain::{Event, Rejection};
use serde_json::json;

use crate::world::{World, deployment, plugin_step, ramdisk, requested};

const HASH: &str = "$6$rounds=20000$salt$hash";

fn deployed_with(spec: DeploymentSpec) -> World {
    let mut world = World::new();
    world.verb(ProvisionVerb::Manage).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Provide).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Deploy(Box::new(spec))).unwrap();
    world
}

fn active() -> World {
    let mut world = deployed_with(deployment());
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Active);
    world
}

fn rescue() -> ProvisionVerb {
    ProvisionVerb::Rescue { password_hash: HASH.to_owned() }
}

fn names(world: &World) -> Vec<String> {
    let plan = world.node().plan.as_ref().unwrap();
    plan.steps.iter().map(|planned| planned.step.name().to_owned()).collect()
}

fn fail(world: &mut World) {
    let (reason, message) = ("HARDWARE".to_owned(), "it smokes".to_owned());
    world.report(StepReport::Failed { reason, message });
}

/// Works until the node is held.
fn until_held(world: &mut World) {
    while !matches!(world.effect_of("c1", 1), Some(Effect::RunStep { step: Step::Hold(_), .. })) {
        assert!(world.work(), "at rest before the hold");
    }
    world.report(StepReport::Started);
}

#[test]
fn a_machine_is_rescued_and_back() {
    let mut world = active();
    world.verb(rescue()).unwrap();
    assert_eq!(world.node().provision.target, Some(ProvisionState::Rescue));
    world.begin(Step::PrepareRescue);
    assert_eq!(world.node().provision.state, ProvisionState::RescueWait);
    assert!(world.node().expects_agent());
    assert_eq!(world.node().rescue_password_hash.as_deref(), Some(HASH));
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Rescue);
    assert_eq!(world.node().rescue_password_hash, None, "the machine has it now");
    assert!(world.node().deployment.is_some());

    world.verb(ProvisionVerb::Unrescue).unwrap();
    assert_eq!(names(&world), ["tear_down_rescue", "prepare_instance_boot", "boot_instance"]);
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Active);
    assert_eq!(world.node().power.state, Some(PowerState::On));
}

#[test]
fn a_rescue_that_failed_leads_on_and_its_machine_is_off() {
    for stop_by_verb in [true, false] {
        let mut world = active();
        world.verb(rescue()).unwrap();
        world.begin(Step::PrepareRescue);
        if stop_by_verb {
            world.verb(ProvisionVerb::Abort).unwrap();
        } else {
            fail(&mut world);
        }
        world.settle();
        assert_eq!(world.node().provision.state, ProvisionState::RescueFailed);
        assert_eq!(world.node().power.state, Some(PowerState::Off));
        assert_eq!(world.node().rescue_password_hash, None);
        world.verb(ProvisionVerb::Unrescue).unwrap();
        world.settle();
        assert_eq!(world.node().provision.state, ProvisionState::Active);
    }
}

#[test]
fn a_machine_that_runs_from_an_iso_is_booted_from_it_again() {
    let mut world = deployed_with(ramdisk());
    world.settle();
    world.verb(rescue()).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Unrescue).unwrap();
    assert_eq!(names(&world), ["tear_down_rescue", "boot_ramdisk"]);
}

#[test]
fn a_service_boots_the_agent_only_if_a_step_needs_it() {
    let mut world = active();
    let steps = vec![requested("burn_in", 60), requested("reboot", 80)];
    world.verb(ProvisionVerb::Service(steps)).unwrap();
    let with_agent = [
        "prepare_service",
        "reboot",
        "burn_in",
        "tear_down_service",
        "prepare_instance_boot",
        "boot_instance",
    ];
    assert_eq!(names(&world), with_agent);
    world.begin(plugin_step("burn_in", 60));
    assert_eq!(world.node().provision.state, ProvisionState::ServiceWait);
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Active);

    world.verb(ProvisionVerb::Service(vec![requested("reboot", 50)])).unwrap();
    assert_eq!(names(&world), ["reboot"]);
    assert!(!world.node().expects_agent());
    world.begin(Step::asked_for(requested("reboot", 50)));
    fail(&mut world);
    assert_eq!(world.node().provision.state, ProvisionState::ServiceFailed);
    assert_eq!(world.node().fault, Some(Fault::Service));
    assert_eq!(world.effect_of("c1", 1), None, "its system is its user's, and stays on");
}

#[test]
fn a_failed_service_is_given_up_by_booting_the_machines_own_system() {
    let mut world = active();
    world.verb(ProvisionVerb::Service(vec![requested("burn_in", 60)])).unwrap();
    world.begin(plugin_step("burn_in", 60));
    world.verb(ProvisionVerb::Abort).unwrap();
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::ServiceFailed);
    assert_eq!(world.node().power.state, Some(PowerState::Off));
    world.verb(ProvisionVerb::Abort).unwrap();
    assert_eq!(world.node().provision.state, ProvisionState::Servicing);
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Active);
    assert_eq!(world.node().power.state, Some(PowerState::On));
}

#[test]
fn every_hold_is_ended_by_a_person_or_by_its_deadline() {
    use ProvisionState::{
        Active, Available, CleanFailed, CleanHold, DeployFailed, DeployHold, Manageable,
        ServiceFailed, ServiceHold,
    };
    type Begin = fn() -> World;
    let deploy: Begin = || {
        let deploy_steps = vec![requested("hold", 50)];
        deployed_with(DeploymentSpec { deploy_steps, ..deployment() })
    };
    let clean: Begin = || {
        let mut world = World::new();
        world.verb(ProvisionVerb::Manage).unwrap();
        world.settle();
        let steps = vec![Step::EraseDevices, Step::asked_for(requested("hold", 50))];
        world.verb(ProvisionVerb::Clean(steps)).unwrap();
        world
    };
    let service: Begin = || {
        let mut world = active();
        world.verb(ProvisionVerb::Service(vec![requested("hold", 50)])).unwrap();
        world
    };
    for (begin, held, done, failed) in [
        (deploy, DeployHold, Active, DeployFailed),
        (clean, CleanHold, Manageable, CleanFailed),
        (service, ServiceHold, Active, ServiceFailed),
    ] {
        let mut world = begin();
        assert!(matches!(
            world.verb(ProvisionVerb::Unhold),
            Err(Rejection::IllegalTransition { .. })
        ));
        until_held(&mut world);
        assert_eq!(world.node().provision.state, held);
        assert_eq!(world.node().provision.target, Some(done));
        let waiting = waiting_on(&world.state, world.node()).unwrap();
        assert_eq!(waiting.what, "a person to end the hold with `unhold`");
        let seconds = waiting.until.unwrap().since(waiting.since).as_secs();
        assert_eq!(seconds, 24 * 60 * 60);
        // A conductor that takes over holds on.
        world.report(StepReport::Started);
        assert_eq!(world.node().provision.state, held);
        world.verb(ProvisionVerb::Unhold).unwrap();
        world.settle();
        assert_eq!(world.node().provision.state, done);

        let mut world = begin();
        until_held(&mut world);
        let (reason, message) = ("TIMED_OUT".to_owned(), "nobody came".to_owned());
        world.report(StepReport::Failed { reason, message });
        assert_eq!(world.node().provision.state, failed);

        let mut world = begin();
        until_held(&mut world);
        if held == CleanHold {
            world.verb(ProvisionVerb::Abort).unwrap();
            assert_eq!(world.node().provision.state, CleanFailed);
        } else {
            world.verb(ProvisionVerb::Undeploy).unwrap();
            world.settle();
            assert_eq!(world.node().provision.state, Available);
        }
    }
}

#[test]
fn universal_steps_are_checked_by_their_place() {
    let args = |value| json!({ "seconds": value }).as_object().unwrap().clone();
    let wait = |value| RequestedStep { args: args(value), ..requested("wait", 50) };
    let cases = [
        (wait(json!("long")), "service_steps[0].args.seconds"),
        (wait(json!(0)), "service_steps[0].args.seconds"),
        (
            RequestedStep { limit_seconds: Some(5), ..wait(json!(9)) },
            "service_steps[0].limit_seconds",
        ),
        (
            RequestedStep { args: args(json!(1)), ..requested("hold", 50) },
            "service_steps[0].args.seconds",
        ),
        (requested("reboot", 100), "service_steps[0].priority"),
    ];
    for (step, field) in cases {
        let mut world = active();
        let refused = world.verb(ProvisionVerb::Service(vec![step])).unwrap_err();
        let Rejection::Invalid(invalid) = refused else { panic!("{refused}") };
        assert_eq!(invalid.field, field, "{invalid}");
    }
    let mut world = active();
    assert!(world.verb(ProvisionVerb::Service(Vec::new())).is_err());
    // More than once is no mistake.
    let steps = vec![wait(json!(9)), requested("reboot", 40), requested("reboot", 30)];
    world.verb(ProvisionVerb::Service(steps)).unwrap();
    assert_eq!(names(&world), ["wait", "reboot", "reboot"]);
    assert_eq!(world.node().current_step().unwrap().2.step.limit().as_secs(), 69);
}

#[test]
fn noop_does_nothing_to_the_machine_and_autodetect_says_what_it_took() {
    let noop =
        DeploymentSpec { deploy_interface: DeployInterface::Noop, image: None, ..deployment() };
    let mut world = deployed_with(noop);
    assert_eq!(names(&world), ["verify"]);
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Active);
    let before = world.history.len();
    world.verb(ProvisionVerb::Undeploy).unwrap();
    assert_eq!(names(&world), ["verify"]);
    assert!(
        world.history[before..]
            .iter()
            .any(|it| matches!(it.record.event, Event::PlanStarted { .. }))
    );

    let auto = |spec| DeploymentSpec { deploy_interface: DeployInterface::Autodetect, ..spec };
    let steps = DeploymentSpec {
        image: None,
        deploy_steps: vec![requested("write_raw", 80)],
        ..deployment()
    };
    for (spec, taken) in [
        (deployment(), DeployInterface::Direct),
        (ramdisk(), DeployInterface::Ramdisk),
        (steps, DeployInterface::CustomAgent),
    ] {
        let world = deployed_with(auto(spec));
        assert_eq!(world.node().deployment.as_ref().unwrap().spec.deploy_interface, taken);
    }
    let nothing = DeploymentSpec { image: None, ..auto(deployment()) };
    assert_eq!(nothing.check().unwrap_err().field, "image");
}

#[test]
fn a_failed_cleaning_is_a_fault_until_other_work_begins() {
    let mut world = deployed_with(deployment());
    world.settle();
    world.verb(ProvisionVerb::Undeploy).unwrap();
    world.begin(Step::EraseDevicesMetadata);
    fail(&mut world);
    assert_eq!(world.node().fault, Some(Fault::Clean));
    world.settle();
    assert!(world.node().provision.state.verbs().contains(&Verb::Manage));
    world.verb(ProvisionVerb::Manage).unwrap();
    assert_eq!(world.node().fault, None);
}
