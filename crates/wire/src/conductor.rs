//! Conductors.

use std::collections::BTreeMap;

use bessemer_domain::conductor::Conductor;
use bessemer_domain::ids::ConductorId;
use bessemer_domain::{State, effects};
use bessemer_proto::v1;

use crate::time;

/// All conductors that ever registered, each with its numbers of nodes. Looks at every node.
#[must_use]
pub fn all_to_proto(state: &State) -> Vec<v1::Conductor> {
    let mut owned = BTreeMap::<_, u64>::new();
    let mut let_go = BTreeMap::<_, u64>::new();
    for node in state.nodes() {
        if let Some(owner) = state.owner(node) {
            *owned.entry(owner).or_default() += 1;
        }
        if let Some(holder) = effects::must_let_go(state, node) {
            *let_go.entry(holder).or_default() += 1;
        }
    }
    let count = |counts: &BTreeMap<&ConductorId, u64>, id| counts.get(id).copied().unwrap_or(0);
    state
        .conductors()
        .map(|conductor| v1::Conductor {
            node_count: count(&owned, &conductor.id),
            handing_over_count: count(&let_go, &conductor.id),
            ..to_proto(conductor)
        })
        .collect()
}

fn to_proto(conductor: &Conductor) -> v1::Conductor {
    let registration = &conductor.registration;
    v1::Conductor {
        id: conductor.id.to_string(),
        conductor_group: registration.conductor_group.clone(),
        hardware_types: registration.hardware_types.iter().cloned().collect(),
        address: registration.address.clone(),
        online: conductor.online,
        since: Some(time::to_proto(conductor.since)),
        draining: conductor.draining,
        ..v1::Conductor::default()
    }
}
