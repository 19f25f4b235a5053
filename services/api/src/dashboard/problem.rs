//! Requests that are not answered with what was asked for: a page that says why.

use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use bessemer_wire::Failure;
use maud::html;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::layout;

/// Why, for a person; its reason is the API's own.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    reason: String,
    message: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, reason: &str, message: String) -> Self {
        Self { status, reason: reason.to_owned(), message }
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND", message.to_owned())
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let reason = status.get_details_error_info().map(|info| info.reason);
        Self {
            status: match status.code() {
                Code::InvalidArgument => StatusCode::BAD_REQUEST,
                Code::NotFound => StatusCode::NOT_FOUND,
                Code::FailedPrecondition | Code::Aborted | Code::AlreadyExists => {
                    StatusCode::CONFLICT
                }
                Code::Unauthenticated => StatusCode::UNAUTHORIZED,
                Code::PermissionDenied => StatusCode::FORBIDDEN,
                Code::Unavailable | Code::DeadlineExceeded => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
            reason: reason.unwrap_or_else(|| format!("{:?}", status.code())),
            message: status.message().to_owned(),
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Status::from(failure).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = html! {
            section.panel.problem {
                h1 { (self.status.canonical_reason().unwrap_or("Error")) }
                p { (self.message) }
                p.note { code { (self.reason) } }
                p { a href="/" { "To the fleet" } }
            }
        };
        (self.status, Html(layout::bare(&self.message, &body).into_string())).into_response()
    }
}
