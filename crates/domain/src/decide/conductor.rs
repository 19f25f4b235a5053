//! Conductors coming and going, and their claims.

use super::Decision;
use crate::conductor::Registration;
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

fn registered(state: &State, id: &ConductorId, incarnation: Incarnation) -> Result<(), Rejection> {
    let known = state
        .conductor(id)
        .is_some_and(|known| known.online && known.registration.incarnation == incarnation);
    if known { Ok(()) } else { Err(Rejection::NotRegistered { conductor: id.clone() }) }
}
