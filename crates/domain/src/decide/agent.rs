//! Which agent may speak for a node.

use super::Decision;
use crate::Rejection;
use crate::event::{Event, Subject};
use crate::node::Node;

/// The first agent after a boot gets the node's token. A later one must show the token it replaces: whoever else is on
/// the provisioning network gets nothing.
pub(super) fn bind(node: &Node, token_digest: &str, held_digest: Option<&str>) -> Decision {
    if !node.expects_agent() {
        return Err(Rejection::AgentNotExpected {
            node: node.label(),
            state: node.provision.state,
        });
    }
    match &node.agent {
        Some(agent) if held_digest != Some(agent.token_digest.as_str()) => {
            Err(Rejection::AgentAlreadyBound { node: node.label() })
        }
        Some(_) | None => Ok(vec![(
            Subject::Node(node.id),
            Event::AgentBound { token_digest: token_digest.to_owned() },
        )]),
    }
}

pub(super) fn reset(node: &Node) -> Vec<(Subject, Event)> {
    match node.agent {
        Some(_) => vec![(Subject::Node(node.id), Event::AgentReset {})],
        None => Vec::new(),
    }
}
