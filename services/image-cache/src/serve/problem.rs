//! Answers to requests that get no bytes. The body says why, for people and for programs.

use ::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bessemer_image::pack::ManifestDigest;

/// What a client should wait before it asks again for an image that is being healed. A heal reads
/// the source once; most take a few seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Why a request is not answered with bytes.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

impl Problem {
    pub(super) fn new(
        status: StatusCode,
        reason: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self { status, reason, message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND", message)
    }

    pub(super) fn healing(id: ManifestDigest) -> Self {
        let message = format!("image {id} is damaged and being healed; ask again");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "IMAGE_HEALING", message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "reason": self.reason, "message": self.message });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        response
    }
}
