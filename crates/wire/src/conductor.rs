//! Conductors.

use bessemer_domain::State;
use bessemer_domain::conductor::Conductor;
use bessemer_proto::v1;

use crate::time;

/// All conductors that ever registered, each with the number of nodes that the ring gives it. Looks at every node.
#[must_use]
pub fn all_to_proto(state: &State) -> Vec<v1::Conductor> {
    let mut counts = std::collections::BTreeMap::<_, u64>::new();
    for owner in state.nodes().filter_map(|node| state.owner(node)) {
        *counts.entry(owner).or_default() += 1;
    }
    state
        .conductors()
        .map(|conductor| {
            to_proto(conductor, counts.get(&conductor.id).copied().unwrap_or_default())
        })
        .collect()
}

fn to_proto(conductor: &Conductor, node_count: u64) -> v1::Conductor {
    let registration = &conductor.registration;
    v1::Conductor {
        id: conductor.id.to_string(),
        conductor_group: registration.conductor_group.clone(),
        hardware_types: registration.hardware_types.iter().cloned().collect(),
        address: registration.address.clone(),
        online: conductor.online,
        since: Some(time::to_proto(conductor.since)),
        node_count,
    }
}
