//! Enrolling, changing and forgetting machines, and maintenance.

use std::collections::BTreeSet;

use super::{Decision, port, rules};
use crate::event::{Event, Subject};
use crate::ids::{NodeId, NodeName, PortId};
use crate::node::{FieldChange, Node, NodeSpec, ProvisionState};
use crate::port::{MacAddress, PortSpec};
use crate::{Invalid, Rejection, State};

pub(super) fn create(
    state: &State,
    id: NodeId,
    name: Option<&NodeName>,
    spec: &NodeSpec,
    ports: &[(PortId, MacAddress)],
) -> Decision {
    if let Some(node) = state.node(id) {
        return Err(taken("id", &id.to_string(), &format!("node {}", node.label())));
    }
    if state.deleted_nodes.contains_key(&id) {
        return Err(taken("id", &id.to_string(), "a node that was deleted; ids are not reused"));
    }
    check_name(state, id, name)?;
    check_spec(state, spec)?;
    rules::check_new(state, id, spec)?;

    let mut events = vec![(
        Subject::Node(id),
        Event::NodeCreated { name: name.cloned(), spec: Box::new(spec.clone()) },
    )];
    let mut addresses = BTreeSet::new();
    for (port, address) in ports {
        if !addresses.insert(*address) {
            return Err(
                Invalid::new("port_addresses", &address.to_string(), "is there twice").into()
            );
        }
        port::check_free(state, *port, *address)?;
        let spec = PortSpec {
            node: id,
            address: *address,
            pxe_enabled: true,
            physical_network: String::new(),
            extra: serde_json::Map::new(),
        };
        events.push((Subject::Port(*port), Event::PortCreated { spec: Box::new(spec) }));
    }
    Ok(events)
}

pub(super) fn update(state: &State, node: &Node, changes: &[FieldChange]) -> Decision {
    let mut name = node.name.clone();
    let mut spec = node.spec.clone();
    for change in changes {
        change.apply(&mut name, &mut spec);
    }
    if name == node.name && spec == node.spec {
        return Ok(Vec::new());
    }
    check_name(state, node.id, name.as_ref())?;
    check_spec(state, &spec)?;
    rules::check(state, node, &spec)?;
    let moves = spec.driver != node.spec.driver
        || spec.conductor_group != node.spec.conductor_group
        || spec.driver_info != node.spec.driver_info;
    if moves && node.provision.state.is_transient() {
        return Err(Rejection::Busy {
            node: node.label(),
            work: node.provision.state.to_string(),
            verb: "update of driver, driver_info or conductor_group".to_owned(),
        });
    }
    Ok(vec![(Subject::Node(node.id), Event::NodeUpdated { name, spec: Box::new(spec) })])
}

/// Ironic's rule: a node that rests without a deployment can go; any resting one in maintenance.
pub(super) fn delete(state: &State, node: &Node) -> Decision {
    use ProvisionState::{
        Active, AdoptFailed, Adopting, Available, CleanFailed, CleanHold, CleanWait, Cleaning,
        Deleting, DeployFailed, DeployHold, Deploying, Enroll, Error, InspectFailed, InspectWait,
        Inspecting, Manageable, Rescue, RescueFailed, RescueWait, Rescuing, ServiceFailed,
        ServiceHold, ServiceWait, Servicing, UnrescueFailed, Unrescuing, Verifying, WaitCallBack,
    };
    refuse_protected(node, "delete")?;
    if let Some(child) = state.children_of(node.id).next() {
        let reason = format!("is the parent_node of {}; change that first", child.label());
        return Err(Invalid::new("node", &node.label(), reason).into());
    }
    let allowed = match node.provision.state {
        Enroll | Manageable | Available | CleanFailed | InspectFailed | AdoptFailed => true,
        DeployFailed | Active | Error | Rescue | RescueFailed | UnrescueFailed | ServiceFailed => {
            node.maintenance.is_some()
        }
        Verifying | Cleaning | CleanWait | CleanHold | Inspecting | InspectWait | Adopting
        | Deploying | WaitCallBack | DeployHold | Deleting | Rescuing | RescueWait | Unrescuing
        | Servicing | ServiceWait | ServiceHold => false,
    };
    if !allowed {
        return Err(Rejection::IllegalTransition {
            node: node.label(),
            state: node.provision.state,
            verb: "delete".to_owned(),
            allowed: node.provision.state.verbs(),
        });
    }
    if let Some(allocation) = node.allocation.filter(|_| node.maintenance.is_none()) {
        let reason = format!("has allocation {allocation}; delete that, or set maintenance, first");
        return Err(Invalid::new("node", &node.label(), reason).into());
    }
    let mut events: Vec<_> = state
        .ports_of(node.id)
        .map(|port| (Subject::Port(port.id), Event::PortDeleted {}))
        .collect();
    // First, so that the outcome speaks of the node.
    events.insert(0, (Subject::Node(node.id), Event::NodeDeleted {}));
    events.extend(node.allocation.map(|id| (Subject::Allocation(id), Event::AllocationDeleted {})));
    Ok(events)
}

pub(super) fn maintenance(node: &Node, reason: Option<&str>) -> Vec<(Subject, Event)> {
    let held = node.maintenance.as_ref().map(|maintenance| maintenance.reason.as_str());
    let event = match reason {
        _ if held == reason => return Vec::new(),
        Some(reason) => Event::MaintenanceSet { reason: reason.to_owned() },
        None => Event::MaintenanceCleared {},
    };
    vec![(Subject::Node(node.id), event)]
}

/// What a node that must stay as it is cannot be asked.
pub(super) fn refuse_protected(node: &Node, verb: &str) -> Result<(), Rejection> {
    match &node.spec.protected {
        Some(reason) => Err(Rejection::Protected {
            node: node.label(),
            reason: reason.clone(),
            verb: verb.to_owned(),
        }),
        None => Ok(()),
    }
}

fn check_name(state: &State, id: NodeId, name: Option<&NodeName>) -> Result<(), Rejection> {
    let holder = name.and_then(|name| state.node_by_name(name)).filter(|holder| holder.id != id);
    match (name, holder) {
        (Some(name), Some(holder)) => {
            Err(taken("name", name.as_str(), &format!("node {}", holder.id)))
        }
        (_, _) => Ok(()),
    }
}

/// The hardware type must be one that some conductor of the group has, or nothing could ever drive the node, and must
/// have the boot interface.
fn check_spec(state: &State, spec: &NodeSpec) -> Result<(), Rejection> {
    let known: BTreeSet<_> = state
        .conductors()
        .filter(|conductor| conductor.registration.conductor_group == spec.conductor_group)
        .flat_map(|conductor| conductor.registration.hardware_types.iter())
        .collect();
    if known.contains(&spec.driver) {
        return Ok(spec
            .boot_interface()
            .check_supported_by(&spec.driver)
            .map_err(|it| it.under("spec"))?);
    }
    Err(Rejection::NoConductor {
        group: spec.conductor_group.clone(),
        driver: spec.driver.clone(),
        known: known.into_iter().cloned().collect(),
    })
}

fn taken(field: &str, value: &str, holder: &str) -> Rejection {
    Rejection::AlreadyExists {
        field: field.to_owned(),
        value: value.to_owned(),
        holder: holder.to_owned(),
    }
}
