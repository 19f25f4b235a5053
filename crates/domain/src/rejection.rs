//! Why a command was not accepted. Part of the replicated outcome, so every member words it alike.

use serde::{Deserialize, Serialize};

use crate::ids::{CommandId, ConductorId};
use crate::node::{ProvisionState, Verb};
use crate::{Invalid, event::Revision};

/// A command that was understood and refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Rejection {
    /// A value that only the state can judge.
    #[error("{0}")]
    Invalid(Invalid),
    /// Nothing of that identity or name.
    #[error("no {kind} `{reference}`")]
    NotFound {
        /// `node`, `port`, `conductor`, ...
        kind: String,
        /// What was asked for.
        reference: String,
    },
    /// The identity, name or address is taken.
    #[error("{field} `{value}` is already used by {holder}")]
    AlreadyExists {
        /// The field that must be unique.
        field: String,
        /// Its value.
        value: String,
        /// What holds it.
        holder: String,
    },
    /// The verb is not in the table for the node's state.
    #[error("node {node} is `{state}`, which does not allow `{verb}`; it allows {}", list(allowed))]
    IllegalTransition {
        /// Name or id of the node.
        node: String,
        /// The state it is in.
        state: ProvisionState,
        /// What was asked.
        verb: String,
        /// What could be asked instead.
        allowed: Vec<Verb>,
    },
    /// The node moved on since the caller read it.
    #[error("node {node} has version {current}, not {expected}; read it again and repeat")]
    VersionConflict {
        /// Name or id of the node.
        node: String,
        /// The version the caller had.
        expected: u64,
        /// The version it has.
        current: u64,
    },
    /// Maintenance forbids the verb.
    #[error("node {node} is in maintenance ({reason}), which does not allow `{verb}`")]
    InMaintenance {
        /// Name or id of the node.
        node: String,
        /// Why it is in maintenance.
        reason: String,
        /// What was asked.
        verb: String,
    },
    /// The node is protected, which forbids the verb.
    #[error(
        "node {node} is protected ({reason}), which does not allow `{verb}`; unset `protected` first"
    )]
    Protected {
        /// Name or id of the node.
        node: String,
        /// Why it is protected.
        reason: String,
        /// What was asked.
        verb: String,
    },
    /// The node is retired, which forbids the verb.
    #[error(
        "node {node} is retired ({reason}), which does not allow `{verb}`; unset `retired` first"
    )]
    Retired {
        /// Name or id of the node.
        node: String,
        /// Why it is retired.
        reason: String,
        /// What was asked.
        verb: String,
    },
    /// The node is working and cannot be asked that now.
    #[error("node {node} is busy: {work}; `{verb}` must wait for its end, or abort it first")]
    Busy {
        /// Name or id of the node.
        node: String,
        /// What it is doing.
        work: String,
        /// What was asked.
        verb: String,
    },
    /// The same command id was used for something else.
    #[error("command id {command_id} was already used for a different request; draw a new one")]
    CommandIdReused {
        /// The id.
        command_id: CommandId,
    },
    /// No registered conductor has the hardware type in that group.
    #[error(
        "no conductor of group `{group}` has hardware type `{driver}`; there are: {}",
        list(known)
    )]
    NoConductor {
        /// The conductor group of the node, empty for the default one.
        group: String,
        /// The hardware type that was asked for.
        driver: String,
        /// The hardware types that registered conductors have.
        known: Vec<String>,
    },
    /// Nobody could take over what the conductor is to hand over.
    #[error(
        "no other online conductor can take over {nodes} of the nodes of {conductor}, such as those of group `{group}` with \
         hardware type `{driver}`; start one, or drain it with force: the nodes then wait until there is one"
    )]
    NoSuccessor {
        /// Who was to be drained.
        conductor: ConductorId,
        /// How many nodes would be left alone.
        nodes: u64,
        /// Conductor group of one of them.
        group: String,
        /// Its hardware type.
        driver: String,
    },
    /// The claim was lost to another conductor.
    #[error("epoch {given} is stale: the node's claim has epoch {held}")]
    StaleEpoch {
        /// The epoch of the command.
        given: u64,
        /// The epoch of the claim.
        held: u64,
    },
    /// The ring gives the node to another conductor.
    #[error("the ring gives the node to {owner}, not to {conductor}")]
    NotOwner {
        /// Who asked.
        conductor: ConductorId,
        /// Who owns it, or `nobody`.
        owner: String,
    },
    /// The conductor that held the node before has not let go of it.
    #[error("conductor {conductor} must wait until {holder} has let go of the node")]
    StillClaimed {
        /// Who asked.
        conductor: ConductorId,
        /// Who holds it.
        holder: ConductorId,
    },
    /// The conductor is not registered, or another process registered under its name.
    #[error("conductor {conductor} is not registered with this incarnation")]
    NotRegistered {
        /// Who asked.
        conductor: ConductorId,
    },
    /// The report is about a step that is not in progress.
    #[error("the report is about step {index} of plan {plan}, which is not in progress")]
    StepNotInProgress {
        /// The plan of the report.
        plan: CommandId,
        /// The step's place in it.
        index: usize,
    },
    /// The node expects no agent now.
    #[error("node {node} is `{state}` and expects no agent")]
    AgentNotExpected {
        /// Name or id of the node.
        node: String,
        /// The state it is in.
        state: ProvisionState,
    },
    /// Another agent holds the node's token.
    #[error("node {node} already has an agent since its last boot, and the token given is not its")]
    AgentAlreadyBound {
        /// Name or id of the node.
        node: String,
    },
    /// The cluster was initialised before.
    #[error("the cluster was initialised before (revision {revision})")]
    AlreadyInitialised {
        /// The newest revision.
        revision: Revision,
    },
}

impl From<Invalid> for Rejection {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    items.iter().map(|item| format!("`{}`", item.to_string())).collect::<Vec<_>>().join(", ")
}
