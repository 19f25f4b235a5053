//! What every request brings along: version, who asks, which request it is, and how the client reaches us.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::{HOST, HeaderName, IF_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use bessemer_access::Who;
use sha2::{Digest, Sha256};
use tonic::Request;
use uuid::Uuid;

use super::Rest;
use super::fault::Fault;
use super::version::Microversion;
use crate::caller;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The name space of command ids that are made of request ids.
const COMMAND_IDS: Uuid = Uuid::from_u128(0x8d1c_7a4e_52f0_4b6f_9c7e_0f3a_61d9_b2e5);

/// What every request brings along.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) version: Microversion,
    /// Where the client reaches us: what links begin with.
    pub(super) base: String,
    who: Who,
    method: Method,
    path: String,
    request_id: Option<String>,
    if_match: Option<u64>,
}

impl FromRequestParts<Arc<Rest>> for Asked {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, rest: &Arc<Rest>) -> Result<Self, Fault> {
        Ok(Self {
            version: parts.extensions.get().copied().unwrap_or(Microversion::MIN),
            base: rest.base(text(&parts.headers, &HOST)),
            who: parts.extensions.get().cloned().unwrap_or(Who::Nobody),
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            request_id: text(&parts.headers, &REQUEST_ID).map(str::to_owned),
            if_match: if_match(text(&parts.headers, &IF_MATCH))?,
        })
    }
}

impl Asked {
    /// A request to the core, by whoever asks.
    pub(super) fn by<T>(&self, message: T) -> Request<T> {
        caller::by(self.who.clone(), message)
    }

    /// The id of the command that this request is: the same for a request that is repeated with the same request id.
    /// Empty without one. `part` tells several commands of one request apart.
    pub(super) fn command_id(&self, body: &[u8], part: &str) -> String {
        let Some(id) = &self.request_id else { return String::new() };
        let mut digest = Sha256::new();
        for piece in [self.method.as_str(), &self.path, part, id] {
            digest.update(piece);
            digest.update([0]);
        }
        digest.update(body);
        Uuid::new_v5(&COMMAND_IDS, &digest.finalize()).to_string()
    }

    /// The version that the node must still have; 0 for any.
    pub(super) fn expected_version(&self) -> u64 {
        self.if_match.unwrap_or_default()
    }

    /// A link, as Ironic writes them.
    pub(super) fn link(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.base)
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A node's version, as its `ETag` gave it.
fn if_match(header: Option<&str>) -> Result<Option<u64>, Fault> {
    match header.map(str::trim) {
        None | Some("*") => Ok(None),
        Some(tag) => {
            let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let version = version.and_then(|version| version.parse().ok()).filter(|it| *it != 0);
            version.map(Some).ok_or_else(|| {
                Fault::bad_request(format!("If-Match `{tag}` is not one ETag that this API gave"))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(request_id: Option<&str>) -> Asked {
        Asked {
            version: Microversion::MAX,
            base: "http://api:6385".to_owned(),
            who: Who::Unasked("x".to_owned()),
            method: Method::PUT,
            path: "/v1/nodes/n/states/power".to_owned(),
            request_id: request_id.map(str::to_owned),
            if_match: None,
        }
    }

    #[test]
    fn a_repeat_is_the_same_command_and_anything_else_is_not() {
        let first = asked(Some("req-1")).command_id(b"{}", "");
        assert_eq!(asked(Some("req-1")).command_id(b"{}", ""), first);
        assert_ne!(asked(Some("req-2")).command_id(b"{}", ""), first);
        assert_ne!(asked(Some("req-1")).command_id(b"{ }", ""), first);
        assert_ne!(asked(Some("req-1")).command_id(b"{}", "maintenance"), first);
        assert_eq!(asked(None).command_id(b"{}", ""), "");
    }

    #[test]
    fn etags_are_versions() {
        assert_eq!(if_match(None).unwrap(), None);
        assert_eq!(if_match(Some("*")).unwrap(), None);
        assert_eq!(if_match(Some(" \"7\" ")).unwrap(), Some(7));
        for wrong in ["7", "\"x\"", "\"1\", \"2\"", "W/\"1\"", "\"0\""] {
            if_match(Some(wrong)).unwrap_err();
        }
    }
}
