//! Requests that are not answered with what was asked for: why, in the two shapes that Ironic's clients take apart.
//!
//! Both are double-encoded: `error_message` is a string that holds JSON. Beyond Ironic, `reason` is the stable reason
//! of the gRPC API.

use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bessemer_domain::Invalid;
use bessemer_wire::{ErrorCode, Failure};
use serde_json::json;
use tonic::Status;
use tonic_types::StatusExt;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    status: StatusCode,
    reason: String,
    message: String,
    /// Refused before it came to a resource: Ironic words that another way.
    before_resource: bool,
}

impl Fault {
    pub(super) fn new(status: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, reason: reason.to_owned(), message, before_resource: false }
    }

    /// 400.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::InvalidField.reason(), message)
    }

    /// 404 of something that is not a resource of the ledger's.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, ErrorCode::ResourceNotFound.reason(), message)
    }

    /// 406: the version of the API has no such thing.
    pub(super) fn not_acceptable(message: impl Into<String>) -> Self {
        let fault = Self::new(StatusCode::NOT_ACCEPTABLE, "VERSION_NOT_ACCEPTABLE", message);
        Self { before_resource: true, ..fault }
    }

    /// 406, for what came with a later version.
    pub(super) fn since(what: &str, version: u16) -> Self {
        Self::not_acceptable(format!("{what} needs version 1.{version} of the API or a later one"))
    }

    /// 404: no such route.
    pub(super) fn no_route(path: &str) -> Self {
        let fault = Self::not_found(format!("nothing is served at {path}"));
        Self { before_resource: true, ..fault }
    }

    /// 405.
    pub(super) fn no_method(method: &str, path: &str) -> Self {
        let message = format!("{path} does not take {method}");
        let fault = Self::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message);
        Self { before_resource: true, ..fault }
    }

    /// 401.
    pub(super) fn unauthorized() -> Self {
        let message = "user name and password are required, and must be those of the service";
        let fault = Self::new(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message);
        Self { before_resource: true, ..fault }
    }

    /// The same, told without a resource having been looked at.
    pub(super) fn before_resource(self) -> Self {
        Self { before_resource: true, ..self }
    }

    /// 413.
    pub(super) fn too_large(bytes_max: usize) -> Self {
        let message = format!("the body is larger than {bytes_max} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::InvalidField.reason(), message)
    }

    /// The same, with another status: where Ironic has one of its own for the case.
    pub(super) fn with_status(self, reason: ErrorCode, status: StatusCode) -> Self {
        if self.reason == reason.reason() { Self { status, ..self } } else { self }
    }

    #[cfg(test)]
    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

impl From<Status> for Fault {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info();
        let reason = info.as_ref().map_or("", |info| &info.reason);
        let code = ErrorCode::ALL.iter().find(|code| code.reason() == reason);
        let http = code.map_or(StatusCode::INTERNAL_SERVER_ERROR, |code| http_status(*code));
        let field = info.as_ref().and_then(|info| info.metadata.get("field"));
        let message = match field {
            Some(field) => status.message().replacen(field, &ironic_field(field), 1),
            None => status.message().to_owned(),
        };
        let reason = if reason.is_empty() { "INTERNAL" } else { reason };
        Self::new(http, reason, message)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Status::from(failure).into()
    }
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Self {
        Failure::from(invalid).into()
    }
}

/// Ironic's codes.
const fn http_status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidField
        | ErrorCode::CommandIdReused
        | ErrorCode::IllegalTransition
        | ErrorCode::InMaintenance
        | ErrorCode::NoConductorForDriver => StatusCode::BAD_REQUEST,
        ErrorCode::NodeNotFound
        | ErrorCode::PortNotFound
        | ErrorCode::ResourceNotFound
        | ErrorCode::MemberNotFound => StatusCode::NOT_FOUND,
        ErrorCode::AlreadyExists | ErrorCode::NodeBusy => StatusCode::CONFLICT,
        ErrorCode::VersionConflict => StatusCode::PRECONDITION_FAILED,
        ErrorCode::NoLeader
        | ErrorCode::TimedOut
        | ErrorCode::NoConductorOnline
        | ErrorCode::NoImageCache
        | ErrorCode::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::PermissionDenied => StatusCode::FORBIDDEN,
        // The rest is said to conductors, agents and members, or is a defect of ours.
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The field as a client of Ironic knows it.
fn ironic_field(field: &str) -> String {
    const NAMES: &[(&str, &str)] = &[
        ("deployment.image.image_type", "instance_info/image_type"),
        ("deployment.image.os_hash", "instance_info/image_os_hash"),
        ("deployment.image.", "instance_info/image_"),
        ("deployment.image", "instance_info/image_source"),
        ("deployment.partitions.", "instance_info/"),
        ("deployment.bootc.", "instance_info/bootc_"),
        ("deployment.config_drive", "configdrive"),
        ("deployment.kernel_arguments", "instance_info/ramdisk_kernel_arguments"),
        ("deployment.kernel", "instance_info/kernel"),
        ("deployment.ramdisk", "instance_info/ramdisk"),
        ("deployment.deploy_steps", "deploy_steps"),
        ("deployment.deploy_interface", "deploy_interface"),
        ("deployment.", "instance_info/"),
        ("deployment", "instance_info"),
        ("spec.node_id", "node_uuid"),
        ("spec.", ""),
    ];
    let renamed = NAMES.iter().find_map(|(prefix, to)| Some((field.strip_prefix(prefix)?, to)));
    renamed.map_or_else(|| field.to_owned(), |(rest, to)| format!("{to}{rest}"))
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let fault = if self.before_resource {
            json!({
                "code": self.status.as_u16(),
                "title": self.status.canonical_reason(),
                "description": self.message,
                "reason": self.reason,
            })
        } else {
            let code = if self.status.is_server_error() { "Server" } else { "Client" };
            json!({
                "faultcode": code,
                "faultstring": self.message,
                "debuginfo": null,
                "reason": self.reason,
            })
        };
        let body = json!({ "error_message": fault.to_string() }).to_string();
        let json = HeaderValue::from_static("application/json");
        let mut response = (self.status, [(CONTENT_TYPE, json)], body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let basic = HeaderValue::from_static("Basic realm=\"Baremetal API\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, basic);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use bessemer_domain::Rejection;

    use super::*;

    #[test]
    fn fields_have_the_names_that_the_client_used() {
        let cases = [
            ("spec.driver_info.a.b", "driver_info.a.b"),
            ("deployment.image.checksum", "instance_info/image_checksum"),
            ("deployment.image.os_hash_algo", "instance_info/image_os_hash_algo"),
            ("deployment.image.image_type", "instance_info/image_type"),
            ("deployment.image", "instance_info/image_source"),
            ("deployment.partitions.root_gb", "instance_info/root_gb"),
            ("deployment.bootc.authorized_keys", "instance_info/bootc_authorized_keys"),
            ("deployment.boot_iso", "instance_info/boot_iso"),
            ("deployment.config_drive.meta_data", "configdrive.meta_data"),
            ("clean_steps", "clean_steps"),
        ];
        for (field, expected) in cases {
            let fault = Fault::from(Invalid::new(field, "x", "is wrong"));
            assert_eq!(fault.message(), format!("{expected} `x` is wrong"));
            assert_eq!(fault.status(), StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn what_the_core_refuses_has_ironics_codes() {
        let conflict = Rejection::VersionConflict { node: "n".to_owned(), expected: 1, current: 2 };
        let fault = Fault::from(Failure::from(conflict));
        assert_eq!(fault.status(), StatusCode::PRECONDITION_FAILED);
        let fault = Fault::from(Failure::not_found("node", "n"));
        assert_eq!(fault.status(), StatusCode::NOT_FOUND);
        assert_eq!(fault.message(), "no node `n`");
    }
}
