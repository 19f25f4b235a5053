//! The guard in front of a gRPC server: every call passes it, whatever service it is for.

use std::task::{Context, Poll};

use bessemer_runtime::tls::Peer;
use bessemer_wire::Failure;
use futures::future::{Either, Ready, ready};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{Guard, Refusal, Who, table};

/// Name of the metadata by which callers name themselves where nobody asks who they are.
const ACTOR_METADATA: &str = "x-bessemer-actor";

/// Puts the guard in front of a gRPC server. What it lets through carries who calls, as [`Who`], in its extensions.
#[derive(Debug, Clone)]
pub struct GuardLayer(pub Guard);

impl<S> Layer<S> for GuardLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { guard: self.0.clone(), inner }
    }
}

/// A gRPC server behind the guard.
#[derive(Debug, Clone)]
pub struct Guarded<S> {
    guard: Guard,
    inner: S,
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response<Body>, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match admitted(&self.guard, &request) {
            Ok(who) => {
                request.extensions_mut().insert(who);
                Either::Left(self.inner.call(request))
            }
            Err(refusal) => {
                let status = Status::from(Failure::from(refusal));
                Either::Right(ready(Ok(status.into_http())))
            }
        }
    }
}

fn admitted<B>(guard: &Guard, request: &Request<B>) -> Result<Who, Refusal> {
    let what = request.uri().path().trim_start_matches('/');
    let peer = request.extensions().get::<Peer>();
    let token = text(request.headers(), AUTHORIZATION.as_str()).and_then(bearer);
    let named = text(request.headers(), ACTOR_METADATA);
    let who = guard.who(what, peer, token, named)?;
    // Where nobody is asked, nobody is looked up.
    let need = guard.asks().then(|| table::rpc(what)).flatten();
    guard.check(&who, what, need, peer.map(|peer| peer.address))?;
    Ok(who)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The token of `Bearer TOKEN`.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
