//! Which machine an allocation gets. The log orders requests, so none is given twice and nobody has to try again.

use super::{Decision, known};
use crate::allocation::{Allocation, AllocationOutcome, AllocationSpec};
use crate::event::{Event, Subject};
use crate::ids::{AllocationId, NodeId};
use crate::node::{Node, ProvisionState};
use crate::{Invalid, Rejection, State};

/// Gives it a node that fits: the one of its name, else the one that has been offered longest. With `backfill` it gets that
/// node, on which a deployment runs already.
pub(super) fn create(
    state: &State,
    id: AllocationId,
    spec: &AllocationSpec,
    backfill: Option<NodeId>,
) -> Decision {
    check_free(state, id, spec)?;
    spec.check(backfill.is_some())?;
    let created = |outcome: AllocationOutcome| {
        let spec = Box::new(spec.clone());
        (Subject::Allocation(id), Event::AllocationCreated { spec, outcome })
    };
    let chosen = match backfill {
        Some(node) => Some(check_backfill(known(state, node)?, spec)?),
        None => choose(state, spec)?,
    };
    Ok(match chosen {
        Some(node) => vec![
            created(AllocationOutcome::Active(node.id)),
            (Subject::Node(node.id), Event::NodeAllocated { allocation: id }),
        ],
        None => vec![created(AllocationOutcome::Error(why_none(state, spec)))],
    })
}

/// Gives the node back. One that holds a deployment is given back by `undeploy`.
pub(super) fn delete(state: &State, id: AllocationId) -> Decision {
    let allocation = state.allocation(id).ok_or_else(|| Rejection::NotFound {
        kind: "allocation".to_owned(),
        reference: id.to_string(),
    })?;
    let node = allocation.outcome.node().and_then(|node| state.node(node));
    let Some(node) = node.filter(|node| node.allocation == Some(id)) else {
        return Ok(vec![(Subject::Allocation(id), Event::AllocationDeleted {})]);
    };
    if !is_idle(node.provision.state) && node.maintenance.is_none() {
        return Err(Rejection::IllegalTransition {
            node: node.label(),
            state: node.provision.state,
            verb: "delete of its allocation".to_owned(),
            allowed: node.provision.state.verbs(),
        });
    }
    Ok(released(node))
}

/// What ends a node's allocation, if it has one.
pub(super) fn released(node: &Node) -> Vec<(Subject, Event)> {
    let Some(id) = node.allocation else { return Vec::new() };
    vec![
        (Subject::Allocation(id), Event::AllocationDeleted {}),
        (Subject::Node(node.id), Event::NodeReturned {}),
    ]
}

/// Whether nothing of its user's is on a node in that state.
const fn is_idle(state: ProvisionState) -> bool {
    matches!(
        state,
        ProvisionState::Enroll
            | ProvisionState::Manageable
            | ProvisionState::Available
            | ProvisionState::InspectFailed
            | ProvisionState::AdoptFailed
            | ProvisionState::CleanFailed
    )
}

fn check_free(state: &State, id: AllocationId, spec: &AllocationSpec) -> Result<(), Rejection> {
    let taken = |field: &str, value: String, holder: String| {
        Err(Rejection::AlreadyExists { field: field.to_owned(), value, holder })
    };
    if state.allocation(id).is_some() || state.deleted_allocations.contains_key(&id) {
        return taken("id", id.to_string(), "an allocation; ids are not reused".to_owned());
    }
    match spec.name.as_ref().and_then(|name| Some((name, state.allocation_by_name(name)?))) {
        Some((name, Allocation { id, .. })) => {
            taken("name", name.to_string(), format!("allocation {id}"))
        }
        None => Ok(()),
    }
}

fn check_backfill<'a>(node: &'a Node, spec: &AllocationSpec) -> Result<&'a Node, Rejection> {
    let refuse = |reason: String| Err(Invalid::new("node", &node.label(), reason).into());
    if let Some(held) = node.allocation {
        return refuse(format!("has allocation {held} already"));
    }
    if node.provision.state != ProvisionState::Active {
        let state = node.provision.state;
        return refuse(format!("is `{state}`; only an `active` node can be named"));
    }
    let class = &node.spec.resource_class;
    if !spec.resource_class.is_empty() && spec.resource_class != *class {
        return refuse(format!("has resource class `{class}`, not `{}`", spec.resource_class));
    }
    if !spec.traits.is_subset(&node.spec.traits) {
        return refuse("does not have all the traits".to_owned());
    }
    Ok(node)
}

fn choose<'a>(state: &'a State, spec: &'a AllocationSpec) -> Result<Option<&'a Node>, Rejection> {
    let named = spec.name.as_ref().and_then(|name| state.node_by_name(name));
    if spec.candidate_nodes.is_empty() {
        let others = state.offered(&spec.resource_class);
        return Ok(named.into_iter().chain(others).find(|node| fits(node, spec)));
    }
    let mut candidates = Vec::new();
    for id in &spec.candidate_nodes {
        candidates.push(known(state, *id)?);
    }
    candidates.sort_by_key(|node| Some(node.id) != named.map(|named| named.id));
    Ok(candidates.into_iter().find(|node| fits(node, spec)))
}

fn fits(node: &Node, spec: &AllocationSpec) -> bool {
    node.is_offered()
        && node.spec.resource_class == spec.resource_class
        && spec.traits.is_subset(&node.spec.traits)
        && (node.spec.owner.is_empty() || node.spec.owner == spec.owner)
}

/// What is missing, so that somebody can see to it.
fn why_none(state: &State, spec: &AllocationSpec) -> String {
    let offered = state.offered(&spec.resource_class).count();
    let among = match spec.candidate_nodes.len() {
        0 => String::new(),
        count => format!(" and is among the {count} candidates"),
    };
    let traits: Vec<_> = spec.traits.iter().map(ToString::to_string).collect();
    let traits = if traits.is_empty() { "none".to_owned() } else { traits.join(", ") };
    format!(
        "no node fits: {offered} of resource class `{}` are `available`, not in maintenance and not allocated; none of them has the \
         traits asked for ({traits}), is nobody's or owner `{}`'s{among}",
        spec.resource_class, spec.owner
    )
}
