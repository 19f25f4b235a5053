//! What the ledger's errors mean to a caller.

use bessemer_domain::Invalid;
use bessemer_ledger::{
    ChangeError, MemberId, ProposeError, ReadError, SnapshotError, StoreError, WatchError,
};
use bessemer_wire::Failure;

pub(crate) fn proposing(error: ProposeError) -> Failure {
    match error {
        ProposeError::NoLeader { .. } => Failure::NoLeader,
        ProposeError::TimedOut { waited } => {
            Failure::TimedOut { operation: "the commit", limit: waited }
        }
        ProposeError::TooLarge { count, count_max, size_bytes, size_bytes_max } => Invalid::new(
            "commands",
            &format!("{count} commands of {size_bytes} bytes"),
            format!("are more than {count_max} commands or {size_bytes_max} bytes; split them"),
        )
        .into(),
        ProposeError::Stopped { .. } => Failure::Stopping,
    }
}

pub(crate) fn reading(error: ReadError) -> Failure {
    match error {
        ReadError::NoLeader { .. } => Failure::NoLeader,
        ReadError::Stopped { .. } => Failure::Stopping,
    }
}

pub(crate) fn snapshotting(error: SnapshotError) -> Failure {
    match error {
        SnapshotError::TimedOut { waited } => {
            Failure::TimedOut { operation: "the snapshot", limit: waited }
        }
        SnapshotError::Stopped { .. } => Failure::Stopping,
    }
}

pub(crate) fn changing(error: ChangeError) -> Failure {
    let message = error.to_string();
    let ids = |members: Vec<MemberId>| members.into_iter().map(|id| id.0).collect();
    match error {
        ChangeError::Unknown { id, .. } => Failure::MemberNotFound { id: id.0, message },
        ChangeError::Address { address } => {
            Invalid::new("address", &address, "is not of the form HOST:PORT").into()
        }
        ChangeError::Taken { holder, held, .. } => {
            Failure::MemberTaken { holder: holder.0, address: held, message }
        }
        ChangeError::Learner { id } => Failure::MemberNotReady { id: id.0, lag: None, message },
        ChangeError::Behind { id, lag, .. } => Failure::MemberNotReady { id: id.0, lag, message },
        ChangeError::LastVoter { .. } => {
            Failure::QuorumAtRisk { up: Vec::new(), down: Vec::new(), message }
        }
        ChangeError::Quorum { up, down, .. } => {
            Failure::QuorumAtRisk { up: ids(up), down: ids(down), message }
        }
        ChangeError::TimedOut { .. } => Failure::ChangeUnfinished { message },
        ChangeError::Stopped { .. } => Failure::Stopping,
    }
}

/// The details are for the operator of this member, not for the caller.
pub(crate) fn loading(error: StoreError) -> Failure {
    tracing::error!(%error, "stored events cannot be read");
    match error {
        StoreError::Io { .. } => Failure::Stored { what: "the disk failed".to_owned() },
        StoreError::Corrupt { record, .. } => {
            Failure::Stored { what: format!("{record} is corrupt") }
        }
    }
}

pub(crate) fn watching(error: WatchError) -> Failure {
    match error {
        WatchError::Store(error) => loading(error),
        WatchError::Stopped { .. } => Failure::Stopping,
    }
}
