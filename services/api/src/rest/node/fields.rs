//! The fields of a node, one line each: name, the version it came with, and where its value is.

use bessemer_domain::Timestamp;
use bessemer_domain::node::{
    Fault, Node, Plan, PlanKind, PowerState, PowerTarget, ProvisionState, StepStatus,
};
use bessemer_wire::{mask, time};
use serde_json::{Value, json};

use super::interfaces::{hardware_type, implementation};
use crate::rest::resource::{Context, Field, Resource, links};

/// Nodes.
pub(in crate::rest) const NODE: Resource<Node> =
    Resource::new("nodes", FIELDS, |node| node.id.to_string());

/// Fields that `GET …/states` shows.
pub(super) const STATES: &[&str] = &[
    "boot_mode",
    "console_enabled",
    "last_error",
    "power_state",
    "provision_state",
    "provision_updated_at",
    "raid_config",
    "secure_boot",
    "target_power_state",
    "target_provision_state",
    "target_raid_config",
];

type F = Field<Node>;

const FIELDS: &[F] = &[
    F::new("uuid", 1, |node, _| node.id.to_string().into()).summary(),
    F::new("name", 5, |node, _| optional(node.name.as_ref())).summary(),
    F::new("instance_uuid", 1, |node, _| optional(node.allocation)).summary(),
    F::new("maintenance", 1, |node, _| node.maintenance.is_some().into()).summary(),
    F::new("power_state", 1, |node, _| power_state(node.power.state)).summary(),
    F::new("provision_state", 1, |node, context| {
        provision_state(node.provision.state, context.asked.version.0)
    })
    .summary(),
    F::new("maintenance_reason", 1, |node, _| {
        optional(node.maintenance.as_ref().map(|maintenance| &maintenance.reason))
    }),
    F::new("target_power_state", 1, |node, _| target_power_state(node)),
    F::new("target_provision_state", 1, |node, _| optional(node.provision.target)),
    F::new("provision_updated_at", 1, |node, _| at(node.provision.since)),
    F::new("last_error", 1, |node, _| optional(node.last_error.as_ref())),
    F::new("fault", 42, |node, _| optional(node.fault.map(Fault::as_str))),
    F::new("reservation", 1, |node, context| {
        let busy = node.current_step().and_then(|_| context.state.claimant(node));
        optional(busy)
    }),
    F::new("conductor", 49, |node, context| optional(context.state.owner(node))).unsortable(),
    F::new("conductor_group", 46, |node, _| node.spec.conductor_group.as_str().into()),
    F::new("driver", 1, |node, _| hardware_type(&node.spec.driver).into()),
    F::new("driver_info", 1, |node, _| mask::masked(&node.spec.driver_info).into()).unsortable(),
    F::new("driver_internal_info", 3, |node, _| found_out(node)).unsortable(),
    F::new("instance_info", 1, |node, _| instance_info(node)).unsortable(),
    F::new("properties", 1, |node, _| node.spec.properties.clone().into()).unsortable(),
    F::new("extra", 1, |node, _| node.spec.extra.clone().into()).unsortable(),
    F::new("resource_class", 21, |node, _| text(&node.spec.resource_class)),
    F::new("description", 51, |node, _| text(&node.spec.description)),
    F::new("owner", 50, |node, _| text(&node.spec.owner)),
    F::new("lessee", 65, |node, _| text(&node.spec.lessee)),
    F::new("shard", 82, |node, _| text(&node.spec.shard)),
    F::new("parent_node", 83, |node, _| optional(node.spec.parent_node)),
    F::new("traits", 37, |node, _| traits(node)).unsortable(),
    F::new("allocation_uuid", 52, |node, _| optional(node.allocation)).unsortable(),
    F::new("protected", 48, |node, _| node.spec.protected.is_some().into()),
    F::new("protected_reason", 48, |node, _| reason(node.spec.protected.as_deref())),
    F::new("retired", 61, |node, _| node.spec.retired.is_some().into()),
    F::new("retired_reason", 61, |node, _| reason(node.spec.retired.as_deref())),
    F::new("automated_clean", 47, |node, _| node.spec.automated_clean.into()),
    F::new("deploy_interface", 31, |node, _| node.spec.deploy_interface().as_str().into()),
    F::new("bios_interface", 40, |node, _| interface(node, "bios_interface")),
    F::new("boot_interface", 31, |node, _| node.spec.boot_interface().as_str().into()),
    F::new("console_interface", 31, |node, _| interface(node, "console_interface")),
    F::new("firmware_interface", 86, |node, _| interface(node, "firmware_interface")),
    F::new("inspect_interface", 31, |node, _| interface(node, "inspect_interface")),
    F::new("management_interface", 31, |node, _| interface(node, "management_interface")),
    F::new("network_interface", 20, |node, _| interface(node, "network_interface")),
    F::new("power_interface", 31, |node, _| interface(node, "power_interface")),
    F::new("raid_interface", 31, |node, _| interface(node, "raid_interface")),
    F::new("rescue_interface", 38, |node, _| interface(node, "rescue_interface")),
    F::new("storage_interface", 33, |node, _| interface(node, "storage_interface")),
    F::new("vendor_interface", 31, |node, _| interface(node, "vendor_interface")),
    F::new("clean_step", 7, |node, _| step(node, &[PlanKind::Clean, PlanKind::ManualClean]))
        .unsortable(),
    F::new("deploy_step", 44, |node, _| step(node, &[PlanKind::Deploy])).unsortable(),
    F::new("service_step", 87, |node, _| step(node, &[PlanKind::Service])).unsortable(),
    F::new("inspection_started_at", 6, |node, _| inspected(node, |plan| plan.0)),
    F::new("inspection_finished_at", 6, |node, _| inspected(node, |plan| plan.1)),
    F::new("created_at", 1, |node, _| at(node.created_at)),
    F::new(
        "updated_at",
        1,
        |node, _| {
            if node.version > 1 { at(node.updated_at) } else { Value::Null }
        },
    ),
    // What a node of this cluster never has.
    F::new("chassis_uuid", 1, |_, _| Value::Null),
    F::new("instance_name", 104, |_, _| Value::Null),
    F::new("network_data", 66, |_, _| json!({})).unsortable(),
    F::new("boot_mode", 75, |_, _| Value::Null),
    F::new("secure_boot", 75, |_, _| Value::Null),
    F::new("disable_power_off", 95, |_, _| false.into()),
    F::new("health", 109, |_, _| Value::Null),
    F::new("console_enabled", 1, |_, _| false.into()),
    F::new("raid_config", 12, |_, _| json!({})).unsortable(),
    F::new("target_raid_config", 12, |_, _| json!({})).unsortable(),
    // Links to what belongs to it.
    F::new("ports", 1, |node, context| children(node, context, "ports")).unsortable(),
    F::new("states", 14, |node, context| children(node, context, "states")).unsortable(),
];

fn optional(value: Option<impl ToString>) -> Value {
    value.map_or(Value::Null, |value| value.to_string().into())
}

/// Ironic has null where the core has an empty text.
fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

/// Why, where that was said.
fn reason(reason: Option<&str>) -> Value {
    text(reason.unwrap_or_default())
}

/// A node's traits, as a list.
pub(super) fn traits(node: &Node) -> Value {
    node.spec.traits.iter().map(ToString::to_string).collect()
}

fn interface(node: &Node, field: &str) -> Value {
    implementation(&node.spec.driver, field).into()
}

/// A point in time as Ironic writes it.
pub(in crate::rest) fn at(at: Timestamp) -> Value {
    time::to_proto(at).to_string().replace('Z', "+00:00").into()
}

/// A state's name: older versions of the API know some by others.
pub(super) fn provision_state(state: ProvisionState, version: u16) -> Value {
    match state {
        ProvisionState::Available if version < 2 => Value::Null,
        ProvisionState::InspectWait if version < 39 => ProvisionState::Inspecting.as_str().into(),
        state => state.as_str().into(),
    }
}

fn power_state(state: Option<PowerState>) -> Value {
    match state {
        None => Value::Null,
        Some(PowerState::On) => "power on".into(),
        Some(PowerState::Off) => "power off".into(),
    }
}

fn target_power_state(node: &Node) -> Value {
    match node.power.request.as_ref().map(|request| request.target) {
        None => Value::Null,
        Some(PowerTarget::Reboot) => "rebooting".into(),
        Some(PowerTarget::SoftOff) => "soft power off".into(),
        Some(PowerTarget::SoftReboot) => "soft rebooting".into(),
        Some(target) => power_state(Some(target.state())),
    }
}

/// What the client said, its config drive hidden.
fn instance_info(node: &Node) -> Value {
    let mut info = mask::masked(&node.spec.instance_info);
    if let Some(drive) = info.get_mut("configdrive") {
        *drive = mask::MASK.into();
    }
    info.into()
}

/// What was found out about the deployment: never mixed with what was asked for.
fn found_out(node: &Node) -> Value {
    let Some(deployment) = &node.deployment else { return json!({}) };
    let mut found = serde_json::Map::new();
    if deployment.spec.image.is_some() {
        found.insert("is_whole_disk_image".to_owned(), deployment.spec.partitions.is_none().into());
    }
    if let Some(uuid) = deployment.write.as_ref().and_then(|write| write.root_uuid.as_ref()) {
        found.insert("root_uuid_or_disk_id".to_owned(), uuid.as_str().into());
    }
    found.into()
}

/// The step in progress, if it is one of a plan of these kinds.
fn step(node: &Node, kinds: &[PlanKind]) -> Value {
    match node.current_step() {
        Some((plan, _, planned)) if kinds.contains(&plan.kind) => json!({
            "interface": planned.step.interface(),
            "step": planned.step.name(),
            "priority": planned.priority(),
        }),
        Some(_) | None => json!({}),
    }
}

/// When the last plan began and ended, if it was an inspection.
fn inspected(node: &Node, which: fn((Value, Value)) -> Value) -> Value {
    let times = |plan: &Plan| {
        let began = plan.steps.first().map_or(Value::Null, |first| match first.status {
            StepStatus::Pending => Value::Null,
            StepStatus::Running { started_at, .. }
            | StepStatus::Done { started_at, .. }
            | StepStatus::Failed { started_at, .. } => at(started_at),
        });
        let ended = plan.steps.last().map_or(Value::Null, |last| match last.status {
            StepStatus::Done { finished_at, .. } => at(finished_at),
            StepStatus::Pending | StepStatus::Running { .. } | StepStatus::Failed { .. } => {
                Value::Null
            }
        });
        (began, ended)
    };
    let plan = node.plan.as_ref().filter(|plan| plan.kind == PlanKind::Inspect);
    plan.map_or(Value::Null, |plan| which(times(plan)))
}

fn children(node: &Node, context: &Context<'_>, name: &str) -> Value {
    links(context.asked, &format!("nodes/{}/{name}", node.id))
}
