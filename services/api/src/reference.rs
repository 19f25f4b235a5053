//! How callers say which node or port they mean.

use std::fmt;
use std::str::FromStr;

use bessemer_domain::ids::{NodeId, NodeName, PortId};
use bessemer_domain::node::Node;
use bessemer_domain::port::{MacAddress, Port};
use bessemer_domain::{Invalid, State};
use bessemer_wire::Failure;

/// A node by what never changes, or by what does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeReference {
    Id(NodeId),
    Name(NodeName),
}

impl FromStr for NodeReference {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("node", text, "is required: the UUID or name of a node"));
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        NodeName::try_new(text)
            .map(Self::Name)
            .map_err(|invalid| Invalid { field: "node".to_owned(), ..invalid })
    }
}

impl fmt::Display for NodeReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl NodeReference {
    pub(crate) fn find<'a>(&self, state: &'a State) -> Result<&'a Node, Failure> {
        match self {
            Self::Id(id) => {
                state.node(*id).ok_or_else(|| Failure::not_found("node", &id.to_string()))
            }
            Self::Name(name) => {
                state.node_by_name(name).ok_or_else(|| Failure::not_found("node", name.as_str()))
            }
        }
    }

    /// The id, which needs no state when it was given.
    pub(crate) fn id(&self, state: &State) -> Result<NodeId, Failure> {
        match self {
            Self::Id(id) => Ok(*id),
            Self::Name(_) => Ok(self.find(state)?.id),
        }
    }
}

/// A port by its id, or by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortReference {
    Id(PortId),
    Address(MacAddress),
}

impl FromStr for PortReference {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let reason = "is neither a UUID nor a MAC address such as 52:54:00:12:34:56";
        text.parse().map(Self::Address).map_err(|_| Invalid::new("port", text, reason))
    }
}

impl PortReference {
    pub(crate) fn find<'a>(&self, state: &'a State) -> Result<&'a Port, Failure> {
        let (port, reference) = match self {
            Self::Id(id) => (state.port(*id), id.to_string()),
            Self::Address(address) => (state.port_by_address(*address), address.to_string()),
        };
        port.ok_or_else(|| Failure::not_found("port", &reference))
    }

    /// The id, which needs no state when it was given.
    pub(crate) fn id(&self, state: &State) -> Result<PortId, Failure> {
        match self {
            Self::Id(id) => Ok(*id),
            Self::Address(_) => Ok(self.find(state)?.id),
        }
    }
}

/// The identity for something new: as given, or drawn so that ids sort by their time.
pub(crate) fn new_id(given: &str) -> Result<uuid::Uuid, Invalid> {
    if given.is_empty() {
        return Ok(uuid::Uuid::now_v7());
    }
    given.parse().map_err(|_| Invalid::new("id", given, "is not a UUID"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_told_apart() {
        let id = "0192f1a6-0000-7000-8000-000000000001";
        assert_eq!(id.parse(), Ok(NodeReference::Id(id.parse().unwrap())));
        let name = NodeReference::Name(NodeName::try_new("rack-1.node_2").unwrap());
        assert_eq!("rack-1.node_2".parse(), Ok(name));
        for wrong in ["", "a b", "é"] {
            assert_eq!(wrong.parse::<NodeReference>().unwrap_err().field, "node");
        }
        assert!(matches!("52:54:00:00:00:01".parse(), Ok(PortReference::Address(_))));
        assert_eq!("eth0".parse::<PortReference>().unwrap_err().field, "port");
    }
}
