//! Adding and removing network interfaces.

use super::{Decision, known};
use crate::event::{Event, Subject};
use crate::ids::PortId;
use crate::port::{MacAddress, PortSpec};
use crate::{Rejection, State};

pub(super) fn create(state: &State, id: PortId, spec: &PortSpec) -> Decision {
    known(state, spec.node)?;
    check_free(state, id, spec.address)?;
    Ok(vec![(Subject::Port(id), Event::PortCreated { spec: Box::new(spec.clone()) })])
}

pub(super) fn delete(state: &State, id: PortId) -> Decision {
    if state.port(id).is_none() {
        return Err(Rejection::NotFound { kind: "port".to_owned(), reference: id.to_string() });
    }
    Ok(vec![(Subject::Port(id), Event::PortDeleted {})])
}

/// Neither the id nor the address may be in use.
pub(super) fn check_free(state: &State, id: PortId, address: MacAddress) -> Result<(), Rejection> {
    let taken = |field: &str, value: String, holder: String| {
        Err(Rejection::AlreadyExists { field: field.to_owned(), value, holder })
    };
    if state.port(id).is_some() || state.deleted_ports.contains_key(&id) {
        return taken("id", id.to_string(), "a port; ids are not reused".to_owned());
    }
    if let Some(port) = state.port_by_address(address) {
        return taken("address", address.to_string(), format!("a port of node {}", port.spec.node));
    }
    Ok(())
}
