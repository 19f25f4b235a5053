//! A node as the map has it: as little as a cell and a line need.

use bessemer_domain::node::{Node, ProvisionState};
use bessemer_domain::{State, Timestamp, effects};
use serde_json::{Value, json};

use crate::dashboard::phase::Phase;

/// The states that rows refer to by their place, and every row.
pub(super) fn snapshot(state: &State) -> Value {
    let states: Vec<_> = ProvisionState::ALL
        .iter()
        .map(|state| {
            let phase = Phase::of(*state);
            json!({ "name": state.as_str(), "phase": phase.name(), "mark": phase.mark() })
        })
        .collect();
    let rows: Vec<_> = state.nodes().map(|node| row(state, node)).collect();
    json!({ "revision": state.tip().revision.0, "states": states, "rows": rows })
}

/// `[id, name, version, state, since, group, class, conductor, flags, what it waits for, since, until]`; times are
/// milliseconds since 1970, 0 for none. Flags: 1 in maintenance, 2 has an error.
pub(super) fn row(state: &State, node: &Node) -> Value {
    let wait = effects::waiting_on(state, node);
    let (what, since, until) = match &wait {
        Some(wait) => {
            (wait.what.as_str(), milliseconds(wait.since), wait.until.map_or(0, milliseconds))
        }
        None => ("", 0, 0),
    };
    let place = ProvisionState::ALL.iter().position(|known| *known == node.provision.state);
    let flags = u8::from(node.maintenance.is_some()) | u8::from(node.last_error.is_some()) << 1;
    json!([
        node.id.to_string(),
        node.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        node.version,
        place.unwrap_or_default(),
        milliseconds(node.provision.since),
        node.spec.conductor_group,
        node.spec.resource_class,
        state.owner(node).map(ToString::to_string).unwrap_or_default(),
        flags,
        what,
        since,
        until,
    ])
}

const fn milliseconds(at: Timestamp) -> u64 {
    at.as_micros() / 1000
}
