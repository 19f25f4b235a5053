//! Deploy templates and runbooks.

use std::collections::BTreeSet;

use bessemer_domain::ids::TemplateId;
use bessemer_domain::node::{RequestedStep, Trait};
use bessemer_domain::template::{TemplateKind, TemplateSpec, add_steps};
use bessemer_domain::{CommandBody, Outcome, Rejection, State};
use uuid::Uuid;

use crate::world::{World, requested};

fn named(name: &str) -> Trait {
    name.parse().unwrap()
}

fn spec(kind: TemplateKind, name: &str, steps: Vec<RequestedStep>) -> TemplateSpec {
    TemplateSpec {
        kind,
        name: named(name),
        description: String::new(),
        steps,
        traits: BTreeSet::new(),
        owner: String::new(),
        extra: serde_json::Map::new(),
    }
}

fn create(world: &mut World, number: u128, spec: TemplateSpec) -> Outcome {
    let template = TemplateId::new(Uuid::from_u128(number));
    world.send(CommandBody::CreateTemplate { template, spec: Box::new(spec) })
}

#[test]
fn a_name_is_unique_among_its_kind_and_free_again_afterwards() {
    let mut world = World::new();
    let of = |kind| spec(kind, "CUSTOM_HT", vec![requested("ht", 90)]);
    create(&mut world, 1, of(TemplateKind::Runbook)).unwrap();
    create(&mut world, 2, of(TemplateKind::DeployTemplate)).unwrap();
    let taken = create(&mut world, 3, of(TemplateKind::Runbook)).unwrap_err();
    assert!(matches!(taken, Rejection::AlreadyExists { .. }), "{taken}");

    let template = TemplateId::new(Uuid::from_u128(1));
    let renamed = spec(TemplateKind::Runbook, "CUSTOM_OTHER", vec![requested("ht", 90)]);
    let update = |expected_version, spec: &TemplateSpec| CommandBody::UpdateTemplate {
        template,
        expected_version,
        spec: Box::new(spec.clone()),
    };
    let stale = world.send(update(Some(7), &renamed)).unwrap_err();
    assert!(matches!(stale, Rejection::VersionConflict { .. }), "{stale}");
    assert!(world.send(update(None, &of(TemplateKind::DeployTemplate))).is_err());
    world.expect(update(Some(1), &renamed));
    create(&mut world, 4, of(TemplateKind::Runbook)).unwrap();
    world.expect(CommandBody::DeleteTemplate { template });
    assert!(world.state.template(template).is_none());
    assert!(create(&mut world, 1, renamed).is_err(), "ids are not used again");
    // A state that was stored knows the names too.
    let stored = serde_json::to_vec(&world.state).unwrap();
    let read: State = serde_json::from_slice(&stored).unwrap();
    let found = read.template_by_name(TemplateKind::Runbook, &named("CUSTOM_HT")).unwrap();
    assert_eq!(found.id, TemplateId::new(Uuid::from_u128(4)));
}

#[test]
fn what_cannot_be_done_is_refused_by_its_place() {
    let runbook = |steps| spec(TemplateKind::Runbook, "CUSTOM_A", steps);
    assert_eq!(runbook(Vec::new()).check().unwrap_err().field, "spec.steps");
    let wrong = runbook(vec![requested("burn_in", 200)]).check().unwrap_err();
    assert_eq!(wrong.field, "spec.steps[0].priority");
    let with_traits = TemplateSpec {
        traits: BTreeSet::from([named("CUSTOM_B")]),
        ..spec(TemplateKind::DeployTemplate, "CUSTOM_A", vec![requested("burn_in", 90)])
    };
    assert_eq!(with_traits.check().unwrap_err().field, "spec.traits");
    runbook(vec![requested("erase_devices", 1), requested("hold", 50)]).check().unwrap();
    // What a deployment does with its interface's own steps is judged with the deployment.
    let moved = vec![requested("write_image", 0)];
    spec(TemplateKind::DeployTemplate, "CUSTOM_A", moved).check().unwrap();
}

#[test]
fn a_runbook_suits_nodes_with_its_name_or_one_of_its_traits() {
    let mut runbook = spec(TemplateKind::Runbook, "CUSTOM_A", vec![requested("burn_in", 90)]);
    let has = |name: &str| BTreeSet::from([named(name)]);
    assert!(runbook.suits(&has("CUSTOM_A")) && !runbook.suits(&has("CUSTOM_B")));
    runbook.traits = has("CUSTOM_B");
    assert!(!runbook.suits(&has("CUSTOM_A")) && runbook.suits(&has("CUSTOM_B")));
}

#[test]
fn a_requests_own_steps_win_over_those_of_templates() {
    let template = spec(
        TemplateKind::DeployTemplate,
        "CUSTOM_A",
        vec![requested("burn_in", 90), requested("flash_nic", 85)],
    );
    let mut asked = vec![requested("burn_in", 50)];
    add_steps(&mut asked, [&template]);
    assert_eq!(asked, [requested("burn_in", 50), requested("flash_nic", 85)]);
}
