//! People who are held to a project: its nodes are those whose owner or lessee it is, as in Ironic's policies. An owner works
//! with its nodes as others do with all; a lessee uses them, and does not change what they are.

use bessemer_domain::ids::NodeId;
use bessemer_domain::node::{FieldChange, Node};
use bessemer_domain::{CommandBody, State};
use bessemer_wire::Failure;

/// Whether a node is shown to somebody who is held to `project`, if to any.
pub(crate) fn is_seen(project: Option<&str>, node: &Node) -> bool {
    project.is_none_or(|project| node.spec.owner == project || node.spec.lessee == project)
}

/// Refuses a look at a node of others as if there were none: not even that it is there is told.
pub(crate) fn check_look(project: Option<&str>, node: &Node) -> Result<(), Failure> {
    if is_seen(project, node) { Ok(()) } else { Err(Failure::not_found("node", &node.label())) }
}

/// Refuses what somebody who is held to `project` may not do with a node.
pub(crate) fn check_change(
    project: Option<&str>,
    state: &State,
    node: NodeId,
    body: &CommandBody,
) -> Result<(), Failure> {
    let Some(project) = project else { return Ok(()) };
    let missing = || Failure::not_found("node", &node.to_string());
    let known = state.node(node).ok_or_else(missing)?;
    check_look(Some(project), known)?;
    let denied = |what: &str, needed: &str| Failure::PermissionDenied {
        who: format!("project {project}"),
        what: what.to_owned(),
        message: format!("project {project} may not {what} node {}: {needed}", known.label()),
    };
    let is_owner = known.spec.owner == project;
    match body {
        CommandBody::Provision { .. } | CommandBody::SetPower { .. } => Ok(()),
        CommandBody::SetMaintenance { .. } if is_owner => Ok(()),
        CommandBody::UpdateNode { changes, .. } if is_owner => {
            if changes.iter().any(|change| matches!(change, FieldChange::Owner(_))) {
                return Err(denied("change the owner of", "that is for who sees all nodes"));
            }
            Ok(())
        }
        CommandBody::UpdateNode { .. } => Err(denied("change", "it is its lessee, not its owner")),
        CommandBody::SetMaintenance { .. } => {
            Err(denied("set the maintenance of", "it is its lessee, not its owner"))
        }
        _ => Err(denied(body.name(), "that is for who sees all nodes")),
    }
}
