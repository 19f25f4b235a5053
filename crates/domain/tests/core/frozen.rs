//! What clusters have stored stays readable, and means the same: commands of a log, the events they led to, the state.
//!
//! Members of two versions apply one log during an upgrade, and a new version applies what an old one left behind: the same
//! commands must give the same events, byte for byte. A new kind of command or event gets a life of its own, in a directory of
//! its own: `BESSEMER_FREEZE=NAME cargo test --test core frozen` writes the files of life NAME. Those that are there stay as
//! they are.

use std::collections::BTreeSet;
use std::path::PathBuf;

use bessemer_domain::allocation::AllocationSpec;
use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::ids::{AllocationId, ConductorId, Incarnation, NodeName, PortId, TemplateId};
use bessemer_domain::node::{DeploymentSpec, FieldChange, PowerTarget, Step, StepReport};
use bessemer_domain::port::PortSpec;
use bessemer_domain::template::{TemplateKind, TemplateSpec};
use bessemer_domain::{Command, CommandBody, EventRecord, State};
use uuid::Uuid;

use crate::world::{World, deployment, node_id, requested};

/// Kinds of events to which no command leads.
const NOT_BY_COMMAND: [&str; 1] = ["cluster.restored"];

/// A life and the directory that holds it.
type Life = (&'static str, fn() -> World);

const LIVES: [Life; 4] = [
    ("first", life),
    ("rescue", rescued_life),
    ("allocation", allocated_life),
    ("template", life_with_templates),
];

fn file(life: &str, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/core/frozen").join(life).join(name)
}

fn read(life: &str, name: &str) -> String {
    std::fs::read_to_string(file(life, name)).unwrap()
}

fn conductor(name: &str) -> ConductorId {
    ConductorId::try_new(name).unwrap()
}

fn incarnation(number: u128) -> Incarnation {
    Incarnation::new(Uuid::from_u128(number))
}

fn power(target: PowerTarget) -> CommandBody {
    CommandBody::SetPower { node: node_id(), expected_version: None, target, limit_seconds: None }
}

fn maintenance(reason: Option<&str>) -> CommandBody {
    let reason = reason.map(str::to_owned);
    CommandBody::SetMaintenance { node: node_id(), expected_version: None, reason }
}

/// A life in which everything happens that can.
fn life() -> World {
    let mut world = World::new();
    let changes = vec![FieldChange::Description("rack 7".to_owned())];
    world.expect(CommandBody::UpdateNode { node: node_id(), expected_version: None, changes });
    let port = PortId::new(Uuid::from_u128(77));
    let spec = PortSpec {
        node: node_id(),
        address: "52:54:00:00:00:07".parse().unwrap(),
        pxe_enabled: true,
        physical_network: "provisioning".to_owned(),
        extra: serde_json::Map::new(),
    };
    world.expect(CommandBody::CreatePort { port, spec: Box::new(spec) });
    world.verb(ProvisionVerb::Manage).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Provide).unwrap();
    world.settle();
    world.expect(maintenance(Some("fan")));
    world.verb(ProvisionVerb::Rebuild(None)).unwrap_err();
    world.expect(maintenance(None));

    world.verb(ProvisionVerb::Deploy(Box::new(deployment()))).unwrap();
    world.register("c2", 2);
    world.expect(CommandBody::DrainConductor { conductor: conductor("c1"), force: true });
    assert!(world.work(), "c1 lets go");
    world.expect(CommandBody::ResumeConductor { conductor: conductor("c1") });
    let (lost, life) = (conductor("c2"), incarnation(2));
    world.expect(CommandBody::ExpireConductor { conductor: lost, incarnation: life });
    world.begin(Step::Deploy);
    let bind = || {
        let token_digest = "ab".repeat(32);
        CommandBody::BindAgent { node: node_id(), token_digest, held_digest: None }
    };
    world.expect(bind());
    let epoch = world.node().epoch();
    world.expect(CommandBody::ResetAgent { node: node_id(), epoch });
    world.expect(bind());
    world.settle();
    world.expect(power(PowerTarget::Off));
    world.settle();
    world.expect(power(PowerTarget::On));
    let (epoch, result) = (world.node().epoch(), Err("the BMC is silent".to_owned()));
    world.expect(CommandBody::ReportPower { node: node_id(), epoch, result });
    world.verb(ProvisionVerb::Rebuild(None)).unwrap();
    world.begin(Step::WriteImage);
    let (reason, message) = ("DISK_FAILED".to_owned(), "no space".to_owned());
    world.report(StepReport::Failed { reason, message });
    world.verb(ProvisionVerb::Undeploy).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Manage).unwrap();
    world.verb(ProvisionVerb::Provide).unwrap();
    world.begin(Step::EraseDevicesMetadata);
    world.verb(ProvisionVerb::Abort).unwrap();
    world.verb(ProvisionVerb::Manage).unwrap();
    world.expect(CommandBody::DeletePort { port });
    world.expect(CommandBody::DeleteNode { node: node_id(), expected_version: None });
    let (gone, life) = (conductor("c1"), incarnation(1));
    world.expect(CommandBody::UnregisterConductor { conductor: gone, incarnation: life });
    world
}

/// What came with rescue, service and holds.
fn rescued_life() -> World {
    let mut world = World::new();
    world.verb(ProvisionVerb::Manage).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Provide).unwrap();
    world.settle();
    let deploy_steps = vec![requested("hold", 50), requested("reboot", 45)];
    let spec = DeploymentSpec { deploy_steps, ..deployment() };
    world.verb(ProvisionVerb::Deploy(Box::new(spec))).unwrap();
    world.begin(Step::asked_for(requested("hold", 50)));
    world.verb(ProvisionVerb::Unhold).unwrap();
    world.settle();
    let changes = vec![
        FieldChange::Protected(true),
        FieldChange::ProtectedReason("the database".to_owned()),
        FieldChange::Trait("CUSTOM_GPU".parse().unwrap(), true),
        FieldChange::Lessee("p".to_owned()),
        FieldChange::Shard("s".to_owned()),
        FieldChange::RetiredReason(String::new()),
    ];
    world.expect(CommandBody::UpdateNode { node: node_id(), expected_version: None, changes });
    world.verb(ProvisionVerb::Rescue { password_hash: "$6$salt$hash".to_owned() }).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Unrescue).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Service(vec![requested("burn_in", 90)])).unwrap();
    world.begin(Step::PrepareService);
    world.verb(ProvisionVerb::Abort).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Abort).unwrap();
    world.settle();
    world.expect(CommandBody::SetPower {
        node: node_id(),
        expected_version: None,
        target: PowerTarget::SoftReboot,
        limit_seconds: Some(60),
    });
    world
}

/// What came with allocations.
fn allocated_life() -> World {
    let mut world = World::new();
    let changes = vec![
        FieldChange::ResourceClass("gold".to_owned()),
        FieldChange::AutomatedClean(Some(false)),
    ];
    world.expect(CommandBody::UpdateNode { node: node_id(), expected_version: None, changes });
    world.verb(ProvisionVerb::Manage).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Provide).unwrap();
    let mut ask = |number, name: &str, node| {
        let allocation = AllocationId::new(Uuid::from_u128(number));
        let spec = AllocationSpec {
            name: Some(NodeName::try_new(name).unwrap()),
            resource_class: "gold".to_owned(),
            ..AllocationSpec::default()
        };
        let spec = Box::new(spec);
        world.expect(CommandBody::CreateAllocation { allocation, spec, node });
        allocation
    };
    let first = ask(0x501, "first", None);
    ask(0x502, "none-left", None);
    world.expect(CommandBody::DeleteAllocation { allocation: first });
    world.verb(ProvisionVerb::Deploy(Box::new(deployment()))).unwrap();
    world.settle();
    let spec = Box::new(AllocationSpec::default());
    let (allocation, node) = (AllocationId::new(Uuid::from_u128(0x503)), Some(node_id()));
    world.expect(CommandBody::CreateAllocation { allocation, spec, node });
    world.verb(ProvisionVerb::Undeploy).unwrap();
    world.settle();
    world
}

/// What came with deploy templates and runbooks.
fn life_with_templates() -> World {
    let mut world = World::new();
    let template = TemplateId::new(Uuid::from_u128(0x601));
    let spec = TemplateSpec {
        kind: TemplateKind::Runbook,
        name: "CUSTOM_BURN_IN".parse().unwrap(),
        description: "two days".to_owned(),
        steps: vec![requested("burn_in", 90)],
        traits: BTreeSet::from(["CUSTOM_GPU".parse().unwrap()]),
        owner: "ops".to_owned(),
        extra: serde_json::Map::new(),
    };
    world.expect(CommandBody::CreateTemplate { template, spec: Box::new(spec.clone()) });
    let spec = Box::new(TemplateSpec { description: "three days".to_owned(), ..spec });
    let expected_version = Some(1);
    world.expect(CommandBody::UpdateTemplate { template, expected_version, spec });
    world.expect(CommandBody::DeleteTemplate { template });
    world
}

fn freeze(name: &str, world: &World) {
    let lines = |lines: Vec<String>| lines.join("\n") + "\n";
    let commands = world.commands.iter().map(|command| serde_json::to_string(command).unwrap());
    let events = world.history.iter().map(|event| String::from_utf8(event.bytes.clone()).unwrap());
    std::fs::create_dir_all(file(name, "")).unwrap();
    std::fs::write(file(name, "commands.jsonl"), lines(commands.collect())).unwrap();
    std::fs::write(file(name, "events.jsonl"), lines(events.collect())).unwrap();
    std::fs::write(file(name, "state.json"), serde_json::to_string(&world.state).unwrap()).unwrap();
}

#[test]
fn frozen_commands_give_the_frozen_events_and_state() {
    for (name, life) in LIVES {
        if std::env::var_os("BESSEMER_FREEZE").is_some_and(|wanted| wanted == name) {
            freeze(name, &life());
        }
        let mut state = State::default();
        let mut events = Vec::new();
        for line in read(name, "commands.jsonl").lines() {
            let command: Command = serde_json::from_str(line).unwrap();
            let (_, sealed) = state.apply(&command);
            events.extend(sealed.into_iter().map(|event| String::from_utf8(event.bytes).unwrap()));
        }
        let frozen = read(name, "events.jsonl");
        for (given, frozen) in events.iter().zip(frozen.lines()) {
            assert_eq!(given, frozen);
        }
        assert_eq!(events.len(), frozen.lines().count());
        assert_eq!(serde_json::to_string(&state).unwrap(), read(name, "state.json"));
    }
}

#[test]
fn frozen_events_and_state_are_read_and_written_again_as_they_were() {
    for (name, _) in LIVES {
        for line in read(name, "events.jsonl").lines() {
            let record = EventRecord::decode(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(record.encode()).unwrap(), line);
        }
        let state: State = serde_json::from_str(&read(name, "state.json")).unwrap();
        assert_eq!(serde_json::to_string(&state).unwrap(), read(name, "state.json"));
    }
}

/// A kind that is not frozen would be free to change.
#[test]
fn every_kind_of_event_is_frozen() {
    let source = include_str!("../../src/event.rs");
    let kinds = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("#[serde(rename = \"")?.strip_suffix("\")]"));
    let events = LIVES.map(|(name, _)| read(name, "events.jsonl"));
    let frozen: BTreeSet<_> = events
        .iter()
        .flat_map(|events| events.lines())
        .map(|line| EventRecord::decode(line.as_bytes()).unwrap().event.name())
        .collect();
    let missing: Vec<_> =
        kinds.filter(|kind| !frozen.contains(kind) && !NOT_BY_COMMAND.contains(kind)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
