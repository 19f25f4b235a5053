//! What must be so of a node's fields beside one another, and of a change by the state that the node is in. The rules are
//! Ironic's.

use crate::ids::NodeId;
use crate::node::{Node, NodeSpec, ProvisionState, TRAITS_MAX};
use crate::{Invalid, Rejection, State};

/// Most machines above one another.
const DEPTH_MAX: usize = 8;

/// What must be so of a new node.
pub(super) fn check_new(state: &State, id: NodeId, spec: &NodeSpec) -> Result<(), Rejection> {
    check_together(state, id, spec)?;
    if spec.protected.is_some() {
        let reason = "can only be set once the node is `active` or `rescue`";
        return Err(Invalid::new("spec.protected", "true", reason).into());
    }
    Ok(())
}

/// What must be so of a change.
pub(super) fn check(state: &State, node: &Node, to: &NodeSpec) -> Result<(), Rejection> {
    use ProvisionState::{Active, Available, Enroll, InspectWait, Inspecting, Manageable, Rescue};
    check_together(state, node.id, to)?;
    let (from, at) = (&node.spec, node.provision.state);
    let refuse = |field: &str, value: &str, reason: &str| {
        let reason = format!("{reason}; node {} is `{at}`", node.label());
        Err(Invalid::new(field, value, reason).into())
    };
    if to.protected.is_some() && from.protected.is_none() && ![Active, Rescue].contains(&at) {
        return refuse("spec.protected", "true", "can only be set while `active` or `rescue`");
    }
    if to.retired.is_some() && from.retired.is_none() && at == Available {
        let reason = "cannot be set while the node is offered; `manage` it first";
        return refuse("spec.retired", "true", reason);
    }
    let is_loose = [Enroll, Inspecting, InspectWait, Manageable, Available].contains(&at);
    let changes_class = from.resource_class != to.resource_class && !from.resource_class.is_empty();
    if changes_class && !is_loose && node.maintenance.is_none() {
        let reason = "can only be changed while `enroll`, `inspecting`, `inspect wait`, `manageable`, `available`, or in maintenance";
        return refuse("spec.resource_class", &to.resource_class, reason);
    }
    Ok(())
}

fn check_together(state: &State, id: NodeId, spec: &NodeSpec) -> Result<(), Rejection> {
    let count = spec.traits.len();
    if count > TRAITS_MAX {
        let reason = format!("are more than {TRAITS_MAX}");
        return Err(Invalid::new("spec.traits", &count.to_string(), reason).into());
    }
    check_parents(state, id, spec.parent_node)
}

/// The machines above a node exist, and it is none of them.
fn check_parents(state: &State, id: NodeId, parent: Option<NodeId>) -> Result<(), Rejection> {
    let refuse = |parent: NodeId, reason: &str| {
        Err(Invalid::new("spec.parent_node", &parent.to_string(), reason).into())
    };
    let mut above = parent;
    for _ in 0..DEPTH_MAX {
        let Some(parent) = above else { return Ok(()) };
        if parent == id {
            return refuse(parent, "would make the node a part of itself");
        }
        let Some(node) = state.node(parent) else { return refuse(parent, "is no node") };
        above = node.spec.parent_node;
    }
    match above {
        None => Ok(()),
        Some(parent) => refuse(parent, "is above too many others"),
    }
}
