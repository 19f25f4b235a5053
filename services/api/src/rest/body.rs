//! Bodies: bounded in size and depth before anything is made of them.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use serde_json::{Map, Value};

use super::fault::Fault;

/// Largest body of a request; as in Ironic.
const BYTES_MAX: usize = 1024 * 1024;

/// Largest body of a provision request, which may bring a config drive; as in Ironic.
const PROVISION_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Deepest nesting of objects and lists; as in Ironic.
const DEPTH_MAX: usize = 25;

/// The body of a request, in bytes.
#[derive(Debug)]
pub(super) struct Body(pub(super) Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Fault;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Fault> {
        let provision = request.uri().path().trim_end_matches('/').ends_with("/states/provision");
        let bytes_max = if provision { PROVISION_BYTES_MAX } else { BYTES_MAX };
        // Of what says that it is too large, nothing is read.
        let length = request.headers().get(CONTENT_LENGTH).and_then(|it| it.to_str().ok());
        if length
            .and_then(|it| it.parse().ok())
            .is_some_and(|length: u64| length > bytes_max as u64)
        {
            return Err(Fault::too_large(bytes_max));
        }
        DefaultBodyLimit::max(bytes_max).apply(&mut request);
        Bytes::from_request(request, state).await.map(Self).map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                return Fault::too_large(bytes_max);
            }
            Fault::bad_request(format!("the body did not arrive: {rejection}"))
        })
    }
}

impl Body {
    /// The JSON that it holds. Nothing that is too deep is ever built.
    pub(super) fn json(&self) -> Result<Value, Fault> {
        check_depth(&self.0)?;
        serde_json::from_slice(&self.0)
            .map_err(|error| Fault::bad_request(format!("the body is not JSON: {error}")))
    }

    /// The JSON object that it holds.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Fault> {
        match self.json()? {
            Value::Object(object) => Ok(object),
            _ => Err(Fault::bad_request("the body is not a JSON object")),
        }
    }

    /// The same; empty where there is no body.
    pub(super) fn optional_object(&self) -> Result<Map<String, Value>, Fault> {
        if self.0.is_empty() { Ok(Map::new()) } else { self.object() }
    }
}

fn check_depth(json: &[u8]) -> Result<(), Fault> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in json {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (true, b'"') => in_text = false,
            (true, _) => {}
            (false, b'"') => in_text = true,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (false, _) => {}
        }
        if depth > DEPTH_MAX {
            let message = format!("the body is nested deeper than {DEPTH_MAX} levels");
            return Err(Fault::bad_request(message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(text: &str) -> Body {
        Body(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn what_is_too_deep_is_refused_before_it_is_parsed() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        body(&nested(DEPTH_MAX)).json().unwrap();
        for levels in [DEPTH_MAX + 1, 10_000] {
            assert!(body(&nested(levels)).json().unwrap_err().message().contains("deeper"));
        }
        // Brackets in text are no levels.
        body(&format!(r#"{{"a": "\"{}"}}"#, "[".repeat(100))).json().unwrap();
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "7", "{", "{\"a\": }", "\u{0}"] {
            body(text).object().unwrap_err();
        }
        assert!(body("").optional_object().unwrap().is_empty());
    }
}
