//! Conductors coming and going, and their claims.

use super::Decision;
use crate::conductor::{Conductor, Registration};
use crate::event::{Event, Subject};
use crate::ids::{ConductorId, Incarnation};
use crate::node::Node;
use crate::{Rejection, State};

pub(super) fn register(
    state: &State,
    id: &ConductorId,
    registration: &Registration,
) -> Vec<(Subject, Event)> {
    let same = state
        .conductor(id)
        .is_some_and(|known| known.online && known.registration == *registration);
    if same {
        return Vec::new();
    }
    let registration = Box::new(registration.clone());
    vec![(Subject::Conductor(id.clone()), Event::ConductorRegistered { registration })]
}

pub(super) fn leave(
    state: &State,
    id: &ConductorId,
    incarnation: Incarnation,
    event: Event,
) -> Decision {
    registered(state, id, incarnation)?;
    Ok(vec![(Subject::Conductor(id.clone()), event)])
}

pub(super) fn drain(state: &State, id: &ConductorId, force: bool) -> Decision {
    if known(state, id)?.draining {
        return Ok(Vec::new());
    }
    if !force {
        check_successors(state, id)?;
    }
    Ok(vec![(Subject::Conductor(id.clone()), Event::ConductorDrainStarted {})])
}

pub(super) fn resume(state: &State, id: &ConductorId) -> Decision {
    if !known(state, id)?.draining {
        return Ok(Vec::new());
    }
    Ok(vec![(Subject::Conductor(id.clone()), Event::ConductorDrainEnded {})])
}

/// Each of its nodes must have somewhere to go.
fn check_successors(state: &State, id: &ConductorId) -> Result<(), Rejection> {
    let has_successor = |node: &Node| {
        state.conductors().any(|other| {
            other.id != *id
                && other.takes_nodes()
                && other.drives(&node.spec.conductor_group, &node.spec.driver)
        })
    };
    let mut stranded = state
        .nodes()
        .filter(|node| state.owner(node) == Some(id))
        .filter(|node| !has_successor(node));
    let Some(first) = stranded.next() else { return Ok(()) };
    Err(Rejection::NoSuccessor {
        conductor: id.clone(),
        nodes: 1 + stranded.count() as u64,
        group: first.spec.conductor_group.clone(),
        driver: first.spec.driver.clone(),
    })
}

/// The ring decides who may claim. Whoever held the node before is fenced by the higher epoch, except at the BMC, which
/// knows no epochs: so a conductor that is online lets go of the node first, and one that is not has lost its lease.
pub(super) fn claim(
    state: &State,
    node: &Node,
    id: &ConductorId,
    incarnation: Incarnation,
) -> Decision {
    registered(state, id, incarnation)?;
    let owner = state.owner(node);
    if owner != Some(id) {
        return Err(Rejection::NotOwner {
            conductor: id.clone(),
            owner: owner.map_or_else(|| "nobody".to_owned(), ToString::to_string),
        });
    }
    if let Some(holder) = state.claimant(node).filter(|holder| *holder != id) {
        return Err(Rejection::StillClaimed { conductor: id.clone(), holder: holder.clone() });
    }
    let held = node.claim.as_ref().is_some_and(|claim| claim.is_held_by(id, incarnation));
    if held {
        return Ok(Vec::new());
    }
    let epoch = node.epoch() + 1;
    let event = Event::NodeClaimed { conductor: id.clone(), incarnation, epoch };
    Ok(vec![(Subject::Node(node.id), event)])
}

/// The epoch grows here too: what the conductor had under way when it let go must not be taken for new.
pub(super) fn release(node: &Node) -> Vec<(Subject, Event)> {
    vec![(Subject::Node(node.id), Event::NodeReleased { epoch: node.epoch() + 1 })]
}

fn known<'a>(state: &'a State, id: &ConductorId) -> Result<&'a Conductor, Rejection> {
    state.conductor(id).ok_or_else(|| Rejection::NotFound {
        kind: "conductor".to_owned(),
        reference: id.to_string(),
    })
}

fn registered(state: &State, id: &ConductorId, incarnation: Incarnation) -> Result<(), Rejection> {
    let known = state
        .conductor(id)
        .is_some_and(|known| known.online && known.registration.incarnation == incarnation);
    if known { Ok(()) } else { Err(Rejection::NotRegistered { conductor: id.clone() }) }
}
