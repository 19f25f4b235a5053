//! Who may ask: anybody; who has a user name and password in an Apache htpasswd file, as Ironic's `http_basic`; or who is
//! known by a token or certificate, as on the other faces.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use bessemer_access::{Identity, Role, Who, table};
use bessemer_runtime::tls::Peer;
use bessemer_wire::Failure;

use super::Rest;
use super::fault::Fault;
use crate::StartError;

/// How requests of the Ironic REST API prove who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthStrategy {
    /// They do not: whoever reaches the address may do everything.
    Noauth,
    /// By a user name and a password of an htpasswd file. Who has one may do everything.
    HttpBasic,
    /// By a token, in `X-Auth-Token` or as a bearer's, or by a certificate; needs TLS.
    Token,
}

/// The header by which OpenStack's clients show a token.
const AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// bcrypt is slow on purpose: what is being checked at once must leave processors to others.
const CHECKS_AT_ONCE: usize = 2;

/// Passwords that were right are not checked again while the file says the same; so many are remembered.
const REMEMBERED_MAX: usize = 1024;

/// A digest of a password that was right, with the line of the file that it was right for.
type Proof = [u8; 32];

/// How requests are let in.
#[derive(Debug)]
pub(super) enum Auth {
    /// All of them.
    Open,
    /// Those with a password.
    Basic(Passwords),
    /// Those that the guard knows, for what their roles may.
    Guarded,
}

/// An htpasswd file.
#[derive(Debug)]
pub(super) struct Passwords {
    file: PathBuf,
    checks: Arc<Semaphore>,
    /// By user. Salted, so that what is remembered cannot be looked up.
    proven: Mutex<HashMap<String, Proof>>,
    salt: [u8; 16],
}

impl Auth {
    /// What the configuration asks for. Nobody is let in without a password from another computer unless that is said.
    pub(super) fn try_new(
        listen: SocketAddr,
        strategy: Option<AuthStrategy>,
        file: Option<&Path>,
        is_secure: bool,
    ) -> Result<Self, StartError> {
        let wrong = |field, reason: &str| StartError::Config { field, reason: reason.to_owned() };
        match (strategy, file) {
            (Some(AuthStrategy::Noauth), None) => Ok(Self::Open),
            (Some(AuthStrategy::Token), None) | (None, None) if is_secure => Ok(Self::Guarded),
            (Some(AuthStrategy::Token), None) => Err(wrong(
                "rest_auth_strategy",
                "`token` needs certificates: a token is not to be sent in the clear; set those of [tls]",
            )),
            (Some(AuthStrategy::Token), Some(_)) => Err(wrong(
                "rest_htpasswd_file",
                "is nothing that rest_auth_strategy `token` looks at",
            )),
            (None, None) if listen.ip().is_loopback() => Ok(Self::Open),
            (None, None) => Err(wrong(
                "rest_auth_strategy",
                "must be said where rest_listen is not a loopback address: `http_basic`, or `noauth` to let everybody in",
            )),
            (Some(AuthStrategy::Noauth), Some(_)) => Err(wrong(
                "rest_htpasswd_file",
                "is nothing that rest_auth_strategy `noauth` looks at",
            )),
            (Some(AuthStrategy::HttpBasic), None) => Err(wrong(
                "rest_htpasswd_file",
                "is required with rest_auth_strategy `http_basic`; `htpasswd -nB USER` makes its lines",
            )),
            (Some(AuthStrategy::HttpBasic) | None, Some(file)) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    wrong("rest_htpasswd_file", &format!("cannot be read: {error}"))
                })?;
                check_file(&text).map_err(|reason| wrong("rest_htpasswd_file", &reason))?;
                Ok(Self::Basic(Passwords {
                    file: file.to_owned(),
                    checks: Arc::new(Semaphore::new(CHECKS_AT_ONCE)),
                    proven: Mutex::default(),
                    salt: *uuid::Uuid::new_v4().as_bytes(),
                }))
            }
        }
    }
}

/// Every line is a user and a bcrypt hash, as Ironic wants them.
fn check_file(text: &str) -> Result<(), String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut users = 0;
    for (number, line) in lines {
        users += 1;
        let hash = line.split_once(':').map(|(_, hash)| hash.trim());
        if !hash.is_some_and(|it| it.len() == 60 && it.starts_with("$2")) {
            return Err(format!(
                "has no user with a bcrypt hash in line {}; `htpasswd -nB USER` makes one",
                number + 1
            ));
        }
    }
    if users == 0 { Err("holds no user".to_owned()) } else { Ok(()) }
}

impl Passwords {
    /// The user whose password this is.
    async fn user(&self, authorization: Option<&str>) -> Option<String> {
        let (scheme, encoded) = authorization?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(BASE64.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        // Read each time, so that who is taken out of it is out at once.
        let text = tokio::fs::read_to_string(&self.file)
            .await
            .inspect_err(|error| {
                tracing::error!(file = %self.file.display(), %error, "htpasswd file cannot be read");
            })
            .ok()?;
        let mut entries = text.lines().filter_map(|line| line.trim().split_once(':'));
        let hash = entries.find(|(name, _)| *name == user)?.1.to_owned();
        let proof = self.proof(&hash, password);
        let known = self.proven.lock().unwrap_or_else(PoisonError::into_inner).get(user).copied();
        if known == Some(proof) {
            return Some(user.to_owned());
        }
        let permit = Arc::clone(&self.checks).acquire_owned().await.ok()?;
        let password = password.to_owned();
        let check = move || {
            let is_right = bcrypt::verify(password.as_bytes(), &hash).unwrap_or(false);
            drop(permit);
            is_right
        };
        if !tokio::task::spawn_blocking(check).await.unwrap_or(false) {
            return None;
        }
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if proven.len() >= REMEMBERED_MAX {
            proven.clear();
        }
        proven.insert(user.to_owned(), proof);
        Some(user.to_owned())
    }

    fn proof(&self, hash: &str, password: &str) -> Proof {
        let mut digest = Sha256::new();
        digest.update(self.salt);
        digest.update(hash);
        digest.update([0]);
        digest.update(password);
        digest.finalize().into()
    }
}

/// Lets a request in, and says who asks. The documents of versions are for everybody, as in Ironic.
pub(super) async fn authenticate(
    State(rest): State<Arc<Rest>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let who = match &rest.auth {
        Auth::Open => Who::Unasked(format!("rest/{}", peer.address.ip())),
        Auth::Basic(_) if matches!(request.uri().path(), "/" | "/v1") => Who::Nobody,
        Auth::Basic(passwords) => {
            let user = passwords.user(text(request.headers(), &AUTHORIZATION)).await;
            // The names in an htpasswd file are anything but a colon.
            let admin = user.map(|name| Identity { role: Role::Admin, name, project: None });
            match admin {
                Some(admin) => Who::Known(admin),
                None => return Fault::unauthorized().into_response(),
            }
        }
        Auth::Guarded => match guarded(&rest, &peer, &request) {
            Ok(who) => who,
            Err(failure) => return Fault::from(failure).before_resource().into_response(),
        },
    };
    request.extensions_mut().insert(who);
    next.run(request).await
}

fn guarded(rest: &Rest, peer: &Peer, request: &Request) -> Result<Who, Failure> {
    let guard = &rest.api.guard;
    let (method, headers) = (request.method().as_str(), request.headers());
    // Where there is no route there is nothing to do; whoever asks is told so.
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let what = format!("{method} {}", path.unwrap_or("of no route"));
    let bearer = || {
        let (scheme, token) = text(headers, &AUTHORIZATION)?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    };
    let token = text(headers, &AUTH_TOKEN).or_else(bearer);
    let who = guard.who(&what, Some(peer), token, None)?;
    if let Some(path) = path {
        let need = table::route(table::REST_ROUTES, method, path);
        guard.check(&who, &what, need, Some(peer.address))?;
    }
    Ok(who)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(listen: &str, strategy: Option<AuthStrategy>, file: Option<&Path>) -> String {
        match Auth::try_new(listen.parse().unwrap(), strategy, file, false) {
            Ok(Auth::Open) => "open".to_owned(),
            Ok(Auth::Basic(_)) => "basic".to_owned(),
            Ok(Auth::Guarded) => "guarded".to_owned(),
            Err(StartError::Config { field, .. }) => field.to_owned(),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn nobody_is_let_in_by_mistake() {
        let directory = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = directory.path().join(text.len().to_string());
            std::fs::write(&path, text).unwrap();
            path
        };
        let hash = bcrypt::hash("secret", 4).unwrap();
        let good = file(&format!("admin:{hash}\n"));
        let (local, any) = ("127.0.0.1:0", "0.0.0.0:0");
        let (noauth, basic) = (Some(AuthStrategy::Noauth), Some(AuthStrategy::HttpBasic));
        assert_eq!(auth(local, None, None), "open");
        assert_eq!(auth("[::1]:0", None, None), "open");
        assert_eq!(auth(any, None, None), "rest_auth_strategy");
        assert_eq!(auth(any, noauth, None), "open");
        assert_eq!(auth(local, Some(AuthStrategy::Token), None), "rest_auth_strategy");
        let secure = |strategy| Auth::try_new(any.parse().unwrap(), strategy, None, true);
        assert!(matches!(secure(None), Ok(Auth::Guarded)));
        assert!(matches!(secure(Some(AuthStrategy::Token)), Ok(Auth::Guarded)));
        assert_eq!(auth(any, basic, None), "rest_htpasswd_file");
        assert_eq!(auth(any, basic, Some(&good)), "basic");
        assert_eq!(auth(any, None, Some(&good)), "basic");
        assert_eq!(auth(any, noauth, Some(&good)), "rest_htpasswd_file");
        for wrong in ["", "admin:secret\n", "admin\n"] {
            assert_eq!(auth(any, basic, Some(&file(wrong))), "rest_htpasswd_file", "{wrong}");
        }
        assert_eq!(auth(any, basic, Some(Path::new("/no/such/file"))), "rest_htpasswd_file");
    }

    #[tokio::test]
    async fn only_the_right_password_opens() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = |password: &str| format!("admin:{}\n", bcrypt::hash(password, 4).unwrap());
        std::fs::write(file.path(), line("a:b")).unwrap();
        let any = "0.0.0.0:0".parse().unwrap();
        let Ok(Auth::Basic(passwords)) = Auth::try_new(any, None, Some(file.path()), false) else {
            panic!("a file makes it basic")
        };
        let user = async |text: &str| {
            let header = format!("Basic {}", BASE64.encode(text));
            passwords.user(Some(&header)).await
        };
        // The second time from what is remembered.
        for _ in 0..2 {
            assert_eq!(user("admin:a:b").await.as_deref(), Some("admin"));
        }
        for wrong in ["admin:a", "root:a:b", "admin", "", "admin:"] {
            assert_eq!(user(wrong).await, None, "{wrong}");
        }
        for wrong in ["Bearer x", "Basic", "Basic !", ""] {
            assert_eq!(passwords.user(Some(wrong)).await, None, "{wrong}");
        }
        assert_eq!(passwords.user(None).await, None);
        // A new password is the only one from the moment that it is in the file.
        std::fs::write(file.path(), line("new")).unwrap();
        assert_eq!(user("admin:a:b").await, None);
        assert_eq!(user("admin:new").await.as_deref(), Some("admin"));
    }
}
