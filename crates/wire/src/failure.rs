//! The one map from what can go wrong to what a gRPC caller is told.

use std::collections::HashMap;
use std::time::Duration;

use bessemer_domain::{Invalid, Rejection};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `domain` of every `google.rpc.ErrorInfo` of ours.
pub const ERROR_DOMAIN: &str = "bessemer";

macro_rules! error_codes {
    ($($(#[$doc:meta])* $variant:ident = $reason:literal, $code:ident;)+) => {
        /// Every reason that a caller may see. Names are a contract: never rename or reuse one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $variant),+ }

        impl ErrorCode {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The `reason` of `google.rpc.ErrorInfo`.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$variant => $reason),+ }
            }

            /// The gRPC code it comes with.
            #[must_use]
            pub const fn grpc(self) -> Code {
                match self { $(Self::$variant => Code::$code),+ }
            }
        }
    };
}

error_codes! {
    /// A field's value cannot be accepted, whatever the state.
    InvalidField = "INVALID_FIELD", InvalidArgument;
    /// No such node.
    NodeNotFound = "NODE_NOT_FOUND", NotFound;
    /// No such port.
    PortNotFound = "PORT_NOT_FOUND", NotFound;
    /// No such resource of another kind.
    ResourceNotFound = "RESOURCE_NOT_FOUND", NotFound;
    /// An identity, name or address is taken.
    AlreadyExists = "ALREADY_EXISTS", AlreadyExists;
    /// The node's provision state does not allow the verb.
    IllegalTransition = "ILLEGAL_TRANSITION", FailedPrecondition;
    /// The node moved on since the caller read it.
    VersionConflict = "VERSION_CONFLICT", Aborted;
    /// Maintenance does not allow the verb.
    InMaintenance = "IN_MAINTENANCE", FailedPrecondition;
    /// The node is protected.
    NodeProtected = "NODE_PROTECTED", FailedPrecondition;
    /// The node is retired.
    NodeRetired = "NODE_RETIRED", FailedPrecondition;
    /// The node is working.
    NodeBusy = "NODE_BUSY", FailedPrecondition;
    /// The command id was used for something else.
    CommandIdReused = "COMMAND_ID_REUSED", InvalidArgument;
    /// No registered conductor has the hardware type in that group.
    NoConductorForDriver = "NO_CONDUCTOR_FOR_DRIVER", FailedPrecondition;
    /// Nobody could take over a conductor's nodes.
    NoSuccessor = "NO_SUCCESSOR", FailedPrecondition;
    /// The claim was lost.
    StaleEpoch = "STALE_EPOCH", FailedPrecondition;
    /// The ring gives the node to another conductor.
    NotOwner = "NOT_OWNER", FailedPrecondition;
    /// The conductor that held the node before has not let go of it.
    StillClaimed = "STILL_CLAIMED", FailedPrecondition;
    /// The conductor must register first.
    ConductorNotRegistered = "CONDUCTOR_NOT_REGISTERED", FailedPrecondition;
    /// The report came too late, or twice.
    StepNotInProgress = "STEP_NOT_IN_PROGRESS", FailedPrecondition;
    /// No agent is expected on the node now.
    AgentNotExpected = "AGENT_NOT_EXPECTED", FailedPrecondition;
    /// Another agent speaks for the node.
    AgentAlreadyBound = "AGENT_ALREADY_BOUND", PermissionDenied;
    /// The cluster has its identity already.
    ClusterAlreadyInitialised = "CLUSTER_ALREADY_INITIALISED", FailedPrecondition;
    /// No such member of the Raft group.
    MemberNotFound = "MEMBER_NOT_FOUND", NotFound;
    /// The id or address is another member's.
    MemberTaken = "MEMBER_TAKEN", AlreadyExists;
    /// The member does not hold the log, or does not vote.
    MemberNotReady = "MEMBER_NOT_READY", FailedPrecondition;
    /// Too few voters would be left to decide anything.
    QuorumAtRisk = "QUORUM_AT_RISK", FailedPrecondition;
    /// A change of members is under way.
    ChangeUnfinished = "CHANGE_UNFINISHED", DeadlineExceeded;
    /// No member can be asked to commit now.
    NoLeader = "NO_LEADER", Unavailable;
    /// It took too long; what was asked may or may not have happened.
    TimedOut = "TIMED_OUT", DeadlineExceeded;
    /// No online conductor can drive the node.
    NoConductorOnline = "NO_CONDUCTOR_ONLINE", Unavailable;
    /// No image cache answers.
    NoImageCache = "NO_IMAGE_CACHE", Unavailable;
    /// The agent's session belongs with another conductor, or its token is not the node's.
    SessionNotAdmitted = "SESSION_NOT_ADMITTED", FailedPrecondition;
    /// The caller showed nothing that says who it is, or something that is not believed.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated;
    /// The caller is known and may not.
    PermissionDenied = "PERMISSION_DENIED", PermissionDenied;
    /// The member has stopped or is about to; another one answers.
    Stopping = "STOPPING", Unavailable;
    /// The disk, or a defect of ours: what is stored cannot be used.
    StorageFailed = "STORAGE_FAILED", Internal;
}

/// What went wrong with a request, in the terms of whoever answers it. Becomes a [`Status`] by `into`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// A value that cannot be accepted.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Understood and refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No such member of the Raft group.
    #[error("{message}")]
    MemberNotFound {
        /// As given.
        id: u64,
        /// In the ledger's words.
        message: String,
    },
    /// The id or address is another member's.
    #[error("{message}")]
    MemberTaken {
        /// Whose it is.
        holder: u64,
        /// The address that one has.
        address: String,
        /// In the ledger's words.
        message: String,
    },
    /// The member does not hold the log, or does not vote.
    #[error("{message}")]
    MemberNotReady {
        /// Which.
        id: u64,
        /// Log entries that it lacks, if they are the reason.
        lag: Option<u64>,
        /// In the ledger's words.
        message: String,
    },
    /// Too few voters would be left to decide anything.
    #[error("{message}")]
    QuorumAtRisk {
        /// Voters that would be left and answer.
        up: Vec<u64>,
        /// Voters that would be left and do not.
        down: Vec<u64>,
        /// In the ledger's words.
        message: String,
    },
    /// A change of members was not done in time.
    #[error("{message}")]
    ChangeUnfinished {
        /// In the ledger's words.
        message: String,
    },
    /// No member can be asked to commit now.
    #[error("no leader is known; the members are electing one, or too few of them are up")]
    NoLeader,
    /// It took too long.
    #[error("{operation} was not done within {limit:?}; repeat it with the same command id")]
    TimedOut {
        /// What was attempted.
        operation: &'static str,
        /// How long it was waited for.
        limit: Duration,
    },
    /// No online conductor can drive the node.
    #[error("no conductor that can drive node {node} is online; try again later")]
    NoConductorOnline {
        /// Name or id of the node.
        node: String,
    },
    /// No image cache answers.
    #[error("none of the {configured} configured image caches answers; the last said: {last}")]
    NoImageCache {
        /// How many were tried.
        configured: usize,
        /// What the last one said.
        last: String,
    },
    /// An agent that came to the wrong conductor, or with the wrong token.
    #[error(
        "this conductor does not hold node {node}, or the token is not the node's; look the node up again"
    )]
    SessionNotAdmitted {
        /// Id of the node.
        node: String,
    },
    /// Nobody is known to be calling.
    #[error("{message}")]
    Unauthenticated {
        /// What was called.
        what: String,
        /// Why, and the way out.
        message: String,
    },
    /// The caller is known and may not.
    #[error("{message}")]
    PermissionDenied {
        /// Who called.
        who: String,
        /// What was called.
        what: String,
        /// Why, and the way out.
        message: String,
    },
    /// The member has stopped or is about to.
    #[error("this member is stopping; ask another one")]
    Stopping,
    /// What is stored cannot be used.
    #[error("stored data cannot be used: {what}")]
    Stored {
        /// What was found, without what it holds.
        what: String,
    },
}

impl Failure {
    /// Nothing of that identity or name.
    #[must_use]
    pub fn not_found(kind: &str, reference: &str) -> Self {
        Self::Rejected(Rejection::NotFound {
            kind: kind.to_owned(),
            reference: reference.to_owned(),
        })
    }

    /// Its stable reason.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidField,
            Self::Rejected(rejection) => rejection_code(rejection),
            Self::MemberNotFound { .. } => ErrorCode::MemberNotFound,
            Self::MemberTaken { .. } => ErrorCode::MemberTaken,
            Self::MemberNotReady { .. } => ErrorCode::MemberNotReady,
            Self::QuorumAtRisk { .. } => ErrorCode::QuorumAtRisk,
            Self::ChangeUnfinished { .. } => ErrorCode::ChangeUnfinished,
            Self::NoLeader => ErrorCode::NoLeader,
            Self::TimedOut { .. } => ErrorCode::TimedOut,
            Self::NoConductorOnline { .. } => ErrorCode::NoConductorOnline,
            Self::NoImageCache { .. } => ErrorCode::NoImageCache,
            Self::SessionNotAdmitted { .. } => ErrorCode::SessionNotAdmitted,
            Self::Unauthenticated { .. } => ErrorCode::Unauthenticated,
            Self::PermissionDenied { .. } => ErrorCode::PermissionDenied,
            Self::Stopping => ErrorCode::Stopping,
            Self::Stored { .. } => ErrorCode::StorageFailed,
        }
    }

    /// What `google.rpc.ErrorInfo` carries beside the reason, for programs.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Invalid(invalid) => invalid_metadata(invalid),
            Self::Rejected(rejection) => rejection_metadata(rejection),
            Self::TimedOut { operation, limit } => vec![
                ("operation", (*operation).to_owned()),
                ("limit_milliseconds", limit.as_millis().to_string()),
            ],
            Self::NoConductorOnline { node } | Self::SessionNotAdmitted { node } => {
                vec![("node", node.clone())]
            }
            Self::NoImageCache { configured, .. } => vec![("configured", configured.to_string())],
            Self::MemberNotFound { id, .. } => vec![("member", id.to_string())],
            Self::MemberTaken { holder, address, .. } => {
                vec![("member", holder.to_string()), ("address", address.clone())]
            }
            Self::MemberNotReady { id, lag, .. } => {
                let lag = lag.map(|lag| ("lag", lag.to_string()));
                std::iter::once(("member", id.to_string())).chain(lag).collect()
            }
            Self::QuorumAtRisk { up, down, .. } => {
                vec![("up", joined(up)), ("down", joined(down))]
            }
            Self::Unauthenticated { what, .. } => vec![("call", what.clone())],
            Self::PermissionDenied { who, what, .. } => {
                vec![("caller", who.clone()), ("call", what.clone())]
            }
            Self::ChangeUnfinished { .. }
            | Self::NoLeader
            | Self::Stopping
            | Self::Stored { .. } => Vec::new(),
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let code = failure.code();
        let metadata: HashMap<String, String> =
            failure.metadata().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let details = ErrorDetails::with_error_info(code.reason(), ERROR_DOMAIN, metadata);
        Self::with_error_details(code.grpc(), failure.to_string(), details)
    }
}

fn rejection_code(rejection: &Rejection) -> ErrorCode {
    match rejection {
        Rejection::Invalid(_) => ErrorCode::InvalidField,
        Rejection::NotFound { kind, .. } => match kind.as_str() {
            "node" => ErrorCode::NodeNotFound,
            "port" => ErrorCode::PortNotFound,
            _ => ErrorCode::ResourceNotFound,
        },
        Rejection::AlreadyExists { .. } => ErrorCode::AlreadyExists,
        Rejection::IllegalTransition { .. } => ErrorCode::IllegalTransition,
        Rejection::VersionConflict { .. } => ErrorCode::VersionConflict,
        Rejection::InMaintenance { .. } => ErrorCode::InMaintenance,
        Rejection::Protected { .. } => ErrorCode::NodeProtected,
        Rejection::Retired { .. } => ErrorCode::NodeRetired,
        Rejection::Busy { .. } => ErrorCode::NodeBusy,
        Rejection::CommandIdReused { .. } => ErrorCode::CommandIdReused,
        Rejection::NoConductor { .. } => ErrorCode::NoConductorForDriver,
        Rejection::NoSuccessor { .. } => ErrorCode::NoSuccessor,
        Rejection::StaleEpoch { .. } => ErrorCode::StaleEpoch,
        Rejection::NotOwner { .. } => ErrorCode::NotOwner,
        Rejection::StillClaimed { .. } => ErrorCode::StillClaimed,
        Rejection::NotRegistered { .. } => ErrorCode::ConductorNotRegistered,
        Rejection::StepNotInProgress { .. } => ErrorCode::StepNotInProgress,
        Rejection::AgentNotExpected { .. } => ErrorCode::AgentNotExpected,
        Rejection::AgentAlreadyBound { .. } => ErrorCode::AgentAlreadyBound,
        Rejection::AlreadyInitialised { .. } => ErrorCode::ClusterAlreadyInitialised,
    }
}

fn invalid_metadata(invalid: &Invalid) -> Vec<(&'static str, String)> {
    vec![("field", invalid.field.clone()), ("value", invalid.value.clone())]
}

fn rejection_metadata(rejection: &Rejection) -> Vec<(&'static str, String)> {
    match rejection {
        Rejection::Invalid(invalid) => invalid_metadata(invalid),
        Rejection::NotFound { kind, reference } => {
            vec![("kind", kind.clone()), ("reference", reference.clone())]
        }
        Rejection::AlreadyExists { field, value, holder } => {
            vec![("field", field.clone()), ("value", value.clone()), ("holder", holder.clone())]
        }
        Rejection::IllegalTransition { node, state, verb, allowed } => vec![
            ("node", node.clone()),
            ("state", state.to_string()),
            ("verb", verb.clone()),
            ("allowed", joined(allowed)),
        ],
        Rejection::VersionConflict { node, expected, current } => vec![
            ("node", node.clone()),
            ("expected", expected.to_string()),
            ("current", current.to_string()),
        ],
        Rejection::InMaintenance { node, reason, verb }
        | Rejection::Protected { node, reason, verb }
        | Rejection::Retired { node, reason, verb } => {
            vec![("node", node.clone()), ("maintenance", reason.clone()), ("verb", verb.clone())]
        }
        Rejection::Busy { node, work, verb } => {
            vec![("node", node.clone()), ("work", work.clone()), ("verb", verb.clone())]
        }
        Rejection::CommandIdReused { command_id } => vec![("command_id", command_id.to_string())],
        Rejection::NoConductor { group, driver, known } => vec![
            ("conductor_group", group.clone()),
            ("driver", driver.clone()),
            ("known", joined(known)),
        ],
        Rejection::NoSuccessor { conductor, nodes, group, driver } => vec![
            ("conductor", conductor.to_string()),
            ("nodes", nodes.to_string()),
            ("conductor_group", group.clone()),
            ("driver", driver.clone()),
        ],
        Rejection::StaleEpoch { given, held } => {
            vec![("given", given.to_string()), ("held", held.to_string())]
        }
        Rejection::NotOwner { conductor, owner } => {
            vec![("conductor", conductor.to_string()), ("owner", owner.clone())]
        }
        Rejection::StillClaimed { conductor, holder } => {
            vec![("conductor", conductor.to_string()), ("holder", holder.to_string())]
        }
        Rejection::NotRegistered { conductor } => vec![("conductor", conductor.to_string())],
        Rejection::StepNotInProgress { plan, index } => {
            vec![("plan", plan.to_string()), ("index", index.to_string())]
        }
        Rejection::AgentNotExpected { node, state } => {
            vec![("node", node.clone()), ("state", state.to_string())]
        }
        Rejection::AgentAlreadyBound { node } => vec![("node", node.clone())],
        Rejection::AlreadyInitialised { revision } => vec![("revision", revision.to_string())],
    }
}

fn joined<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bessemer_domain::Revision;
    use bessemer_domain::ids::{CommandId, ConductorId};
    use bessemer_domain::node::{ProvisionState, Verb};
    use uuid::Uuid;

    use super::*;

    /// One of each. The test below fails when a code is missing here.
    fn one_of_each() -> Vec<Failure> {
        let node = || "node-7".to_owned();
        let conductor = ConductorId::try_new("c1").unwrap();
        let rejections = vec![
            Rejection::AlreadyExists { field: "name".into(), value: node(), holder: "x".into() },
            Rejection::IllegalTransition {
                node: node(),
                state: ProvisionState::Active,
                verb: "provide".into(),
                allowed: vec![Verb::Rebuild, Verb::Undeploy],
            },
            Rejection::VersionConflict { node: node(), expected: 3, current: 5 },
            Rejection::InMaintenance { node: node(), reason: "fan".into(), verb: "deploy".into() },
            Rejection::Protected { node: node(), reason: "db".into(), verb: "undeploy".into() },
            Rejection::Retired { node: node(), reason: "old".into(), verb: "provide".into() },
            Rejection::Busy { node: node(), work: "deploying".into(), verb: "power on".into() },
            Rejection::CommandIdReused { command_id: CommandId::new(Uuid::nil()) },
            Rejection::NoConductor { group: String::new(), driver: "ilo".into(), known: vec![] },
            Rejection::StaleEpoch { given: 1, held: 2 },
            Rejection::NoSuccessor {
                conductor: conductor.clone(),
                nodes: 2,
                group: String::new(),
                driver: "fake".into(),
            },
            Rejection::NotOwner { conductor: conductor.clone(), owner: "c2".into() },
            Rejection::StillClaimed { conductor: conductor.clone(), holder: conductor.clone() },
            Rejection::NotRegistered { conductor },
            Rejection::StepNotInProgress { plan: CommandId::new(Uuid::nil()), index: 2 },
            Rejection::AgentNotExpected { node: node(), state: ProvisionState::Active },
            Rejection::AgentAlreadyBound { node: node() },
            Rejection::AlreadyInitialised { revision: Revision(1) },
        ];
        let mut all: Vec<_> = rejections.into_iter().map(Failure::Rejected).collect();
        all.extend([
            Failure::Invalid(Invalid::new("name", "a b", "holds a space")),
            Failure::not_found("node", "nodule"),
            Failure::not_found("port", "52:54:00:00:00:01"),
            Failure::not_found("event", "9"),
            Failure::MemberNotFound { id: 9, message: "no member 9".into() },
            Failure::MemberTaken { holder: 2, address: "h:1".into(), message: "taken".into() },
            Failure::MemberNotReady { id: 4, lag: Some(7), message: "behind".into() },
            Failure::QuorumAtRisk { up: vec![1], down: vec![2, 3], message: "few".into() },
            Failure::ChangeUnfinished { message: "waiting".into() },
            Failure::NoLeader,
            Failure::TimedOut { operation: "commit", limit: Duration::from_secs(5) },
            Failure::NoConductorOnline { node: node() },
            Failure::NoImageCache { configured: 2, last: "refused".into() },
            Failure::SessionNotAdmitted { node: node() },
            Failure::Unauthenticated { what: "NodeService/GetNode".into(), message: "m".into() },
            Failure::PermissionDenied {
                who: "reader bob".into(),
                what: "NodeService/DeleteNode".into(),
                message: "m".into(),
            },
            Failure::Stopping,
            Failure::Stored { what: "event 3 does not decode".into() },
        ]);
        all
    }

    #[test]
    fn every_code_reaches_the_caller_with_its_reason_and_metadata() {
        let mut seen = HashSet::new();
        for failure in one_of_each() {
            let code = failure.code();
            let (message, metadata) = (failure.to_string(), failure.metadata());
            let status = Status::from(failure);
            let info = status.get_details_error_info().expect("every status carries ErrorInfo");
            assert_eq!((status.code(), status.message()), (code.grpc(), message.as_str()));
            assert_eq!((info.reason.as_str(), info.domain.as_str()), (code.reason(), "bessemer"));
            for (key, value) in metadata {
                assert_eq!(info.metadata.get(key), Some(&value), "{key} of {}", code.reason());
            }
            seen.insert(code);
        }
        let missing: Vec<_> = ErrorCode::ALL.iter().filter(|code| !seen.contains(code)).collect();
        assert!(missing.is_empty(), "nothing leads to {missing:?}");
    }

    #[test]
    fn reasons_are_distinct_and_well_formed() {
        let reasons: HashSet<_> = ErrorCode::ALL.iter().map(|code| code.reason()).collect();
        assert_eq!(reasons.len(), ErrorCode::ALL.len());
        for reason in reasons {
            assert!(
                reason.len() <= 63 && reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
            );
        }
    }

    #[test]
    fn a_program_can_read_what_would_be_allowed() {
        let failure = Failure::Rejected(Rejection::IllegalTransition {
            node: "n".into(),
            state: ProvisionState::Active,
            verb: "provide".into(),
            allowed: vec![Verb::Rebuild, Verb::Undeploy],
        });
        let info = Status::from(failure).get_details_error_info().unwrap();
        assert_eq!(info.metadata["allowed"], "rebuild,undeploy");
        assert_eq!(info.metadata["state"], "active");
    }
}
