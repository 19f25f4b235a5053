//! Who looks at the dashboard: the holder of a token, which a cookie that no script can read carries from page to page, or
//! of a certificate that the browser shows. Where there is no TLS nobody is asked.

use std::sync::Arc;

use axum::Form;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use bessemer_access::{Refusal, Who, table};
use bessemer_runtime::tls::Peer;
use bessemer_wire::Failure;
use maud::html;
use serde::Deserialize;
use tonic::Status;

use super::problem::Problem;
use super::{Dashboard, Shared, layout};

/// The prefix makes browsers insist on TLS and on this host alone (RFC 6265bis, 4.1.3.2).
const COOKIE: &str = "__Host-bessemer-token";

/// A working day.
const COOKIE_SECONDS: u32 = 12 * 3600;

/// What the form asks for.
#[derive(Debug, Deserialize)]
pub(super) struct Fields {
    token: String,
}

/// Lets a request in, and says who asks. Who is nobody is led to the form.
pub(super) async fn admit(
    State(dashboard): State<Arc<Dashboard>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let is_page = request.method() == Method::GET && wants_html(request.headers());
    match found(&dashboard, &peer, &request) {
        Ok(who) => {
            request.extensions_mut().insert(who);
            next.run(request).await
        }
        Err(Refusal::Unauthenticated { .. }) if is_page => Redirect::to("/sign-in").into_response(),
        Err(refusal) => Problem::from(Status::from(Failure::from(refusal))).into_response(),
    }
}

fn found(dashboard: &Dashboard, peer: &Peer, request: &Request) -> Result<Who, Refusal> {
    let guard = &dashboard.api.guard;
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let need = path
        .and_then(|path| table::route(table::DASHBOARD_ROUTES, request.method().as_str(), path));
    let what = format!("dashboard {} {}", request.method(), path.unwrap_or("of no page"));
    let named = format!("dashboard/{}", peer.address.ip());
    // An old cookie keeps nobody from the form.
    let token = cookie(request.headers()).filter(|_| need != Some(table::Need::Nothing));
    let who = guard.who(&what, Some(peer), token, Some(&named))?;
    if path.is_some() {
        guard.check(&who, &what, need, Some(peer.address))?;
    }
    Ok(who)
}

fn wants_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_none_or(|accepted| accepted.contains("text/html") || accepted.contains("*/*"))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        cookies.flat_map(|value| value.split(';')).filter_map(|it| it.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, token)| token)
}

/// `GET /sign-in`
pub(super) async fn form() -> Html<String> {
    Html(page(None))
}

fn page(problem: Option<&str>) -> String {
    let main = html! {
        section.panel.narrow {
            h1 { "Sign in" }
            @if let Some(problem) = problem { p.warning role="alert" { (problem) } }
            form method="post" action="/sign-in" {
                label.field {
                    "Token"
                    input type="password" name="token" required maxlength="200" autocomplete="current-password" autofocus;
                    span.note { "as `bessemer token issue` printed it" }
                }
                div.actions { button.primary type="submit" { "Sign in" } }
            }
        }
    };
    layout::bare("Sign in", &main).into_string()
}

/// `POST /sign-in`: a token that stands for somebody becomes a cookie.
pub(super) async fn sign_in(
    State(dashboard): Shared,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Form(fields): Form<Fields>,
) -> Response {
    let token = fields.token.trim();
    match dashboard.api.guard.who("dashboard POST /sign-in", Some(&peer), Some(token), None) {
        Ok(Who::Known(identity)) => {
            tracing::info!(audit.who = %identity, peer.address = %peer.address, "signed in to the dashboard");
            let set = format!(
                "{COOKIE}={token}; Path=/; Max-Age={COOKIE_SECONDS}; Secure; HttpOnly; SameSite=Strict"
            );
            ([(header::SET_COOKIE, set)], Redirect::to("/")).into_response()
        }
        Ok(Who::Unasked(_) | Who::Nobody) => Redirect::to("/").into_response(),
        Err(_) => {
            let problem = "this token is not known, or has expired";
            (StatusCode::UNAUTHORIZED, Html(page(Some(problem)))).into_response()
        }
    }
}

/// `POST /sign-out`
pub(super) async fn sign_out() -> Response {
    let forget = format!("{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict");
    ([(header::SET_COOKIE, forget)], Redirect::to("/sign-in")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let headers = |text: &str| HeaderMap::from_iter([(header::COOKIE, text.parse().unwrap())]);
        assert_eq!(cookie(&headers("a=b; __Host-bessemer-token=bsm_x; c=d")), Some("bsm_x"));
        assert_eq!(cookie(&headers("bessemer-token=bsm_x")), None);
        assert_eq!(cookie(&HeaderMap::new()), None);
    }
}
