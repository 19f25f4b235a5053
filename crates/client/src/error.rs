//! What a caller is told.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A call that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A member answered, and it will not.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// No member could be made to answer.
    #[error("no answer to {operation} within {waited:?} from {}; the last one said: {last}", endpoints.join(", "))]
    Unreachable {
        /// What was asked.
        operation: &'static str,
        /// Who was asked.
        endpoints: Vec<String>,
        /// For how long.
        waited: Duration,
        /// What was said or went wrong last.
        last: String,
    },
}

/// Why a member refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// Stable reason of `google.rpc.ErrorInfo`, such as `NODE_NOT_FOUND`; empty when the member gave none.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// Details for programs: `field`, `value`, `node`, `state`, `allowed`, ...
    pub metadata: BTreeMap<String, String>,
}

impl Error {
    /// The stable reason, if a member gave one.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(refusal.reason.as_str()).filter(|text| !text.is_empty()),
            Self::Unreachable { .. } => None,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let (reason, metadata) = info.map(|info| (info.reason, info.metadata)).unwrap_or_default();
        Self::Refused(Box::new(Refusal {
            code: status.code(),
            reason,
            message: status.message().to_owned(),
            metadata: metadata.into_iter().collect(),
        }))
    }
}

/// Whether another member, or the same one later, may answer the same request.
pub(crate) fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => true,
        // What a connection that breaks in the middle looks like. A member's own errors carry their reason.
        Code::Unknown | Code::Internal | Code::Cancelled => {
            status.get_details_error_info().is_none()
        }
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_refusal_keeps_its_reason_and_details() {
        let metadata = [("field".to_owned(), "name".to_owned())];
        let details = ErrorDetails::with_error_info("INVALID_FIELD", "bessemer", metadata);
        let status = Status::with_error_details(Code::InvalidArgument, "name is wrong", details);
        let error = Error::from(status);
        assert_eq!(
            (error.reason(), error.to_string().as_str()),
            (Some("INVALID_FIELD"), "name is wrong")
        );
        let Error::Refused(refusal) = error else { panic!("{error}") };
        assert_eq!(refusal.metadata["field"], "name");
    }

    #[test]
    fn a_broken_connection_is_transient_and_a_defect_is_not() {
        assert!(is_transient(&Status::unknown("transport error")));
        let details = ErrorDetails::with_error_info("STORAGE_FAILED", "bessemer", []);
        assert!(!is_transient(&Status::with_error_details(Code::Internal, "damaged", details)));
        assert!(!is_transient(&Status::aborted("version conflict")));
    }
}
