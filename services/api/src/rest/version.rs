//! Microversions: which of Ironic's API versions a request is answered in.

use std::fmt;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::fault::Fault;

const VERSION: HeaderName = HeaderName::from_static("x-openstack-ironic-api-version");
const VERSION_MIN: HeaderName = HeaderName::from_static("x-openstack-ironic-api-minimum-version");
const VERSION_MAX: HeaderName = HeaderName::from_static("x-openstack-ironic-api-maximum-version");

/// OpenStack's newer header for the same: `baremetal 1.81`.
const SERVICE_VERSION: HeaderName = HeaderName::from_static("openstack-api-version");

/// A version `1.N` of Ironic's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Microversion(pub(super) u16);

impl Microversion {
    /// The one that a request without a version gets.
    pub(super) const MIN: Self = Self(1);
    /// That of Ironic 39.
    pub(super) const MAX: Self = Self(115);

    /// What a request asks for.
    fn asked(headers: &HeaderMap) -> Result<Self, Fault> {
        let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        let of_service = text(SERVICE_VERSION).and_then(|it| it.trim().strip_prefix("baremetal "));
        let Some(asked) = of_service.or_else(|| text(VERSION)).map(str::trim) else {
            return Ok(Self::MIN);
        };
        if asked.eq_ignore_ascii_case("latest") {
            return Ok(Self::MAX);
        }
        let (major, minor) = asked.split_once('.').unwrap_or((asked, ""));
        let minor = Some(minor).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
        match (major, minor.and_then(|minor| minor.parse().ok()).map(Self)) {
            ("1", Some(version)) if (Self::MIN..=Self::MAX).contains(&version) => Ok(version),
            _ => Err(Fault::not_acceptable(format!(
                "version {asked} of the API is not supported; there are {} to {}",
                Self::MIN,
                Self::MAX
            ))),
        }
    }
}

impl fmt::Display for Microversion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// Finds the version of a request, refuses those there are not, and tells the range with every answer.
pub(super) async fn negotiate(mut request: Request, next: Next) -> Response {
    let version = Microversion::asked(request.headers());
    let answered = version.as_ref().ok().copied();
    let mut response = match version {
        Ok(version) => {
            request.extensions_mut().insert(version);
            next.run(request).await
        }
        Err(fault) => fault.into_response(),
    };
    let headers = response.headers_mut();
    if let Some(version) = answered {
        headers.insert(VERSION, value(version));
    }
    headers.insert(VERSION_MIN, value(Microversion::MIN));
    headers.insert(VERSION_MAX, value(Microversion::MAX));
    headers.insert(header::VARY, HeaderValue::from_static("X-OpenStack-Ironic-API-Version"));
    response
}

fn value(version: Microversion) -> HeaderValue {
    version.to_string().parse().expect("digits and a point")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: &HeaderName, value: &str) -> Option<u16> {
        let headers = HeaderMap::from_iter([(name.clone(), value.parse().unwrap())]);
        Microversion::asked(&headers).ok().map(|version| version.0)
    }

    #[test]
    fn versions_are_read_and_others_refused() {
        assert_eq!(Microversion::asked(&HeaderMap::new()).unwrap(), Microversion::MIN);
        let cases = [
            ("1.1", Some(1)),
            ("1.81", Some(81)),
            (" 1.115 ", Some(115)),
            ("latest", Some(115)),
            ("Latest", Some(115)),
            ("1.0", None),
            ("1.116", None),
            ("1.+5", None),
            ("1.99999999", None),
            ("2.1", None),
            ("1", None),
            ("one", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(asked(&VERSION, text), expected, "{text}");
        }
        assert_eq!(asked(&SERVICE_VERSION, "baremetal 1.50"), Some(50));
        assert_eq!(asked(&SERVICE_VERSION, "compute 2.90"), Some(1));
    }
}
