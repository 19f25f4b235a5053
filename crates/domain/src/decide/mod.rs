//! From a command to events, or to a rejection. One file for each subject of commands; this one only dispatches.

mod agent;
mod allocation;
mod conductor;
mod node;
mod port;
mod power;
mod provision;
mod rules;
mod step;
mod template;

use crate::event::{Event, Subject};
use crate::ids::NodeId;
use crate::node::Node;
use crate::{Command, CommandBody, Rejection, State};

/// What a command leads to, in order.
pub(crate) type Decision = Result<Vec<(Subject, Event)>, Rejection>;

/// Decides a command against a state. Does not change it.
pub(crate) fn decide(state: &State, command: &Command) -> Decision {
    use CommandBody as Body;
    match &command.body {
        Body::InitialiseCluster { cluster_id } => match state.cluster_id {
            Some(_) => Err(Rejection::AlreadyInitialised { revision: state.tip.revision }),
            None => {
                Ok(vec![(Subject::Cluster, Event::ClusterInitialised { cluster_id: *cluster_id })])
            }
        },
        Body::CreateNode { node, name, spec, ports } => {
            node::create(state, *node, name.as_ref(), spec, ports)
        }
        Body::UpdateNode { node, expected_version, changes } => {
            node::update(state, versioned(state, *node, *expected_version)?, changes)
        }
        Body::DeleteNode { node, expected_version } => {
            node::delete(state, versioned(state, *node, *expected_version)?)
        }
        Body::SetMaintenance { node, expected_version, reason } => {
            Ok(node::maintenance(versioned(state, *node, *expected_version)?, reason.as_deref()))
        }
        Body::Provision { node, expected_version, verb } => {
            provision::decide(state, command, versioned(state, *node, *expected_version)?, verb)
        }
        Body::SetPower { node, expected_version, target, limit_seconds } => {
            let node = versioned(state, *node, *expected_version)?;
            power::request(state, node, *target, *limit_seconds)
        }
        Body::ReportPower { node, epoch, result } => {
            Ok(power::report(claimed(state, *node, *epoch)?, result))
        }
        Body::CreatePort { port, spec } => port::create(state, *port, spec),
        Body::DeletePort { port } => port::delete(state, *port),
        Body::CreateAllocation { allocation, spec, node } => {
            allocation::create(state, *allocation, spec, *node)
        }
        Body::DeleteAllocation { allocation } => allocation::delete(state, *allocation),
        Body::CreateTemplate { template, spec } => template::create(state, *template, spec),
        Body::UpdateTemplate { template, expected_version, spec } => {
            template::update(state, *template, *expected_version, spec)
        }
        Body::DeleteTemplate { template } => template::delete(state, *template),
        Body::RegisterConductor { conductor, registration } => {
            Ok(conductor::register(state, conductor, registration))
        }
        Body::UnregisterConductor { conductor, incarnation } => {
            conductor::leave(state, conductor, *incarnation, Event::ConductorUnregistered {})
        }
        Body::ExpireConductor { conductor, incarnation } => {
            conductor::leave(state, conductor, *incarnation, Event::ConductorLost {})
        }
        Body::DrainConductor { conductor, force } => conductor::drain(state, conductor, *force),
        Body::ResumeConductor { conductor } => conductor::resume(state, conductor),
        Body::ClaimNode { node, conductor, incarnation } => {
            conductor::claim(state, known(state, *node)?, conductor, *incarnation)
        }
        Body::ReleaseNode { node, epoch } => Ok(conductor::release(claimed(state, *node, *epoch)?)),
        Body::ReportStep { node, epoch, plan, index, report } => {
            step::report(state, command, claimed(state, *node, *epoch)?, *plan, *index, report)
        }
        Body::ResetAgent { node, epoch } => Ok(agent::reset(claimed(state, *node, *epoch)?)),
        Body::BindAgent { node, token_digest, held_digest } => {
            agent::bind(known(state, *node)?, token_digest, held_digest.as_deref())
        }
    }
}

fn known(state: &State, id: NodeId) -> Result<&Node, Rejection> {
    state
        .node(id)
        .ok_or_else(|| Rejection::NotFound { kind: "node".to_owned(), reference: id.to_string() })
}

/// The node, if it still has the version that the caller read.
fn versioned(state: &State, id: NodeId, expected: Option<u64>) -> Result<&Node, Rejection> {
    let node = known(state, id)?;
    match expected {
        Some(expected) if expected != node.version => {
            Err(Rejection::VersionConflict { node: node.label(), expected, current: node.version })
        }
        Some(_) | None => Ok(node),
    }
}

/// The node, if the epoch is that of its claim.
fn claimed(state: &State, id: NodeId, epoch: u64) -> Result<&Node, Rejection> {
    let node = known(state, id)?;
    if node.epoch() != epoch {
        return Err(Rejection::StaleEpoch { given: epoch, held: node.epoch() });
    }
    Ok(node)
}
