//! Keeps other sites' pages away from the dashboard, whoever is signed in to it.
//!
//! A foreign page can have a browser send requests here. It cannot read the answers, unless it was given this address by
//! DNS: so only known hosts are answered. And it can send forms: so those must say that they come from here.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Dashboard;
use super::problem::Problem;

/// Nothing but our own files, no inline script or style, and no frame around it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Headers of every answer.
const HEADERS: [(HeaderName, &str); 5] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Refuses what no page of ours sent, and gives every answer its headers.
pub(super) async fn guard(
    State(dashboard): State<Arc<Dashboard>>,
    request: Request,
    next: Next,
) -> Response {
    let hosts = &dashboard.api.config.dashboard_hosts;
    let mut response = match refusal(hosts, request.method(), request.headers()) {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    // What is shown is old in a moment; files that do not change say so themselves.
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
    response
}

fn refusal(hosts: &[String], method: &Method, headers: &HeaderMap) -> Option<Problem> {
    let authority = text(headers, &header::HOST).unwrap_or_default();
    let host = host_of(authority);
    if !is_known(hosts, host) {
        let message = format!(
            "this dashboard is not known as `{host}`; add that name to dashboard_hosts in the member's configuration"
        );
        return Some(Problem::new(StatusCode::MISDIRECTED_REQUEST, "UNKNOWN_HOST", message));
    }
    if method.is_safe() || is_own(headers, authority) {
        return None;
    }
    let message = "this was not sent by a page of the dashboard, and nothing was done; programs use the gRPC API";
    Some(Problem::new(StatusCode::FORBIDDEN, "CROSS_ORIGIN", message.to_owned()))
}

fn is_known(hosts: &[String], host: &str) -> bool {
    // No foreign page has an address as its host: only names can be made to mean another computer.
    let address = host.trim_start_matches('[').trim_end_matches(']');
    address.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|known| known.eq_ignore_ascii_case(host))
}

/// Whether a form came from a page of ours. Every browser says where it came from; who does not say is not believed.
fn is_own(headers: &HeaderMap, authority: &str) -> bool {
    if let Some(site) = text(headers, &HeaderName::from_static("sec-fetch-site")) {
        return site == "same-origin";
    }
    let origin = text(headers, &header::ORIGIN).and_then(|origin| origin.parse::<Uri>().ok());
    // The scheme may be another one: a proxy in front of us may speak TLS.
    origin.is_some_and(|origin| origin.authority().is_some_and(|it| it.as_str() == authority))
}

/// A host without its port.
fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        Some(_) | None => authority,
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &Method, headers: &[(&'static str, &str)]) -> Option<u16> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let hosts = ["Metal.example.org".to_owned()];
        refusal(&hosts, method, &headers).map(|problem| problem.status().as_u16())
    }

    #[test]
    fn only_known_hosts_are_answered() {
        for host in ["127.0.0.1:6387", "[::1]:6387", "[::1]", "localhost", "metal.example.org"] {
            assert_eq!(status(&Method::GET, &[("host", host)]), None, "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:6387", "127.0.0.1.evil.example", ""] {
            assert_eq!(status(&Method::GET, &[("host", host)]), Some(421), "{host}");
        }
    }

    #[test]
    fn a_form_must_come_from_here() {
        let post = |headers: &[(&'static str, &str)]| {
            let host = [("host", "10.0.0.1:6387")];
            status(&Method::POST, &[&host, headers].concat())
        };
        assert_eq!(post(&[("sec-fetch-site", "same-origin")]), None);
        assert_eq!(post(&[("origin", "http://10.0.0.1:6387")]), None);
        assert_eq!(post(&[("origin", "https://10.0.0.1:6387")]), None);
        for foreign in [
            &[] as &[_],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site"), ("origin", "http://10.0.0.1:6387")],
            &[("origin", "http://10.0.0.1:80")],
            &[("origin", "http://evil.example")],
            &[("origin", "null")],
        ] {
            assert_eq!(post(foreign), Some(403), "{foreign:?}");
        }
    }
}
