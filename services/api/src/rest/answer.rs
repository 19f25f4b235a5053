//! Answers in JSON.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// 200, with this.
pub(super) fn ok(body: &impl Serialize) -> Response {
    with(StatusCode::OK, body)
}

/// An answer with this.
pub(super) fn with(status: StatusCode, body: &impl Serialize) -> Response {
    written(status, serde_json::to_string(body).expect("keys are texts"))
}

/// An answer whose body is JSON already.
pub(super) fn written(status: StatusCode, body: String) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

/// Adds a header, unless the value cannot be one.
pub(super) fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = value.parse() {
        response.headers_mut().insert(name, value);
    }
}
