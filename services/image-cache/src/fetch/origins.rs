//! The web servers that sources come from: how they are reached, and who the cache is to them.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use reqwest::{Certificate, Client, NoProxy, Proxy, RequestBuilder, Response};
use serde::Deserialize;
use url::Url;

use super::s3::{S3Config, Store};
use crate::registry::{Challenge, Reference, Token};

/// How URLs of objects in S3 begin.
pub(crate) const S3_SCHEME: &str = "s3";

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent in the middle of a transfer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer of a token server, in bytes.
const TOKEN_ANSWER_BYTES_MAX: u64 = 1 << 20;

/// How sources are fetched over HTTP. The environment's proxy settings do not count.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// The proxy for all sources, as Ironic's `image_http_proxy`.
    pub proxy: Option<String>,
    /// Hosts, domains (with those below them), addresses and networks that are reached without it,
    /// as Ironic's `image_no_proxy`.
    pub no_proxy: Vec<String>,
    /// PEM file of authorities that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Who the cache is to servers that want to know.
    pub credentials: Vec<CredentialsConfig>,
    /// Registries (`host` or `host:port`) that `oci://` sources reach by HTTP instead of HTTPS.
    pub insecure_registries: Vec<String>,
}

/// Name and password for one server (basic authentication). No other server is sent them.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialsConfig {
    /// `host`, or `host:port` for a port that is not the scheme's own.
    pub host: String,
    /// The name.
    pub username: String,
    /// A file with the password; white space at its end does not count.
    pub password_file: PathBuf,
}

/// Reaches the servers.
pub(crate) struct Origins {
    client: Client,
    /// Where `s3://` URLs lead.
    s3: Option<Store>,
    credentials: Vec<Credentials>,
    insecure_registries: Vec<String>,
    /// Tokens that registries gave, by what they are for.
    tokens: Mutex<BTreeMap<String, String>>,
}

struct Credentials {
    /// None: whichever server asks.
    host: Option<String>,
    username: String,
    password: String,
}

impl Origins {
    /// With `tls`, servers are believed as that says, and not by the system's authorities.
    pub(crate) fn new(
        config: &HttpConfig,
        s3: Option<&S3Config>,
        tls: Option<rustls::ClientConfig>,
    ) -> io::Result<Self> {
        let mut client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .tcp_nodelay(true)
            .no_proxy();
        if let Some(tls) = tls {
            client = client.tls_backend_preconfigured(tls);
        }
        if let Some(url) = &config.proxy {
            let exceptions = NoProxy::from_string(&config.no_proxy.join(","));
            let proxy = Proxy::all(url)
                .map_err(|error| named("http.proxy", without_secrets(url), &error))?;
            client = client.proxy(proxy.no_proxy(exceptions));
        }
        if let Some(path) = &config.ca_file {
            let failed =
                |error: &dyn std::fmt::Display| named("http.ca_file", path.display(), error);
            let pem = std::fs::read(path).map_err(|error| failed(&error))?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| failed(&error))?;
            client = client.tls_certs_merge(authorities);
        }
        let credentials = config.credentials.iter().map(Credentials::read);
        Ok(Self {
            client: client.build().map_err(io::Error::other)?,
            s3: s3.map(Store::new).transpose()?,
            credentials: credentials.collect::<io::Result<_>>()?,
            insecure_registries: config.insecure_registries.clone(),
            tokens: Mutex::default(),
        })
    }

    /// The same for somebody else, who is known to all servers by this login alone: for requests to one registry and to the
    /// server that gives out its tokens.
    pub(crate) fn logged_in(&self, username: String, password: String) -> Self {
        Self {
            client: self.client.clone(),
            s3: None,
            credentials: vec![Credentials { host: None, username, password }],
            insecure_registries: self.insecure_registries.clone(),
            tokens: Mutex::default(),
        }
    }

    /// Whether a registry is reached by HTTP.
    pub(crate) fn is_insecure(&self, Reference { host, .. }: &Reference) -> bool {
        self.insecure_registries.iter().any(|it| it.eq_ignore_ascii_case(host))
    }

    /// Where a registry has a manifest or a blob.
    pub(crate) fn registry_url(&self, reference: &Reference, kind: &str, version: &str) -> Url {
        let Reference { host, repository, .. } = reference;
        let scheme = if self.is_insecure(reference) { "http" } else { "https" };
        format!("{scheme}://{host}/v2/{repository}/{kind}/{version}")
            .parse()
            .expect("a checked reference makes a URL")
    }

    /// Whether `s3://` URLs lead anywhere.
    pub(crate) fn has_s3(&self) -> bool {
        self.s3.is_some()
    }

    /// What a server says to a request. One that wants a token gets one, if there is one to be had.
    pub(crate) async fn get(&self, url: &Url, headers: HeaderMap) -> reqwest::Result<Response> {
        let response = self.request(url).headers(headers.clone()).send().await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenge = response.headers().get(header::WWW_AUTHENTICATE);
        let challenge = challenge.and_then(|value| Challenge::parse(value.to_str().ok()?));
        let Some(challenge) = challenge else { return Ok(response) };
        match self.fetch_token(&challenge).await? {
            Some(token) => {
                self.tokens().insert(token_scope(url), token);
                self.request(url).headers(headers).send().await
            }
            None => Ok(response),
        }
    }

    fn tokens(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch_token(&self, challenge: &Challenge) -> reqwest::Result<Option<String>> {
        let url = challenge.token_url();
        let mut response = self.request(&url).send().await?;
        if !response.status().is_success() {
            tracing::info!(%url, status = %response.status(), "no token");
            return Ok(None);
        }
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await? {
            answer.extend_from_slice(&piece);
            if answer.len() as u64 > TOKEN_ANSWER_BYTES_MAX {
                return Ok(None);
            }
        }
        let token = serde_json::from_slice::<Token>(&answer).ok();
        Ok(token.and_then(Token::into_text))
    }

    /// A request for a URL, with the token or the credentials for its server. A redirection to
    /// another server does not take them along.
    fn request(&self, url: &Url) -> RequestBuilder {
        if let Some(signed) = self.s3.as_ref().filter(|_| url.scheme() == S3_SCHEME) {
            // One that cannot be signed is refused by its scheme.
            return self.client.get(signed.signed(url).unwrap_or_else(|| url.clone()));
        }
        let request = self.client.get(url.clone());
        if let Some(token) = self.tokens().get(&token_scope(url)) {
            return request.bearer_auth(token);
        }
        match self.credentials.iter().find(|credentials| credentials.are_for(url)) {
            Some(Credentials { username, password, .. }) => {
                request.basic_auth(username, Some(password))
            }
            None => request,
        }
    }
}

/// What a token is given out for: a repository, of which a URL names a manifest or a blob.
fn token_scope(url: &Url) -> String {
    let path = url.path();
    let end = ["/manifests/", "/blobs/"].iter().find_map(|kind| path.rfind(kind));
    format!("{} {}", url.authority(), end.map_or(path, |end| &path[..end]))
}

impl Credentials {
    fn read(config: &CredentialsConfig) -> io::Result<Self> {
        let path = &config.password_file;
        let password = std::fs::read_to_string(path)
            .map_err(|error| named("password_file", path.display(), &error))?;
        Ok(Self {
            host: Some(config.host.to_ascii_lowercase()),
            username: config.username.clone(),
            password: password.trim_end().to_owned(),
        })
    }

    fn are_for(&self, url: &Url) -> bool {
        let Some(own) = &self.host else { return true };
        let host = url.host_str().unwrap_or_default();
        match url.port() {
            None => own == host,
            Some(port) => *own == format!("{host}:{port}"),
        }
    }
}

/// A URL that may be told: without the login that it may hold.
fn without_secrets(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, host)| host)
}

fn named(field: &str, value: impl std::fmt::Display, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{field} `{value}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_one_server() {
        let credentials = |host: &str| Credentials {
            host: Some(host.to_owned()),
            username: String::new(),
            password: String::new(),
        };
        for (host, url, expected) in [
            ("images.example", "https://images.example/a", true),
            ("images.example", "http://Images.Example:80/a", true),
            ("images.example", "https://images.example:8443/a", false),
            ("images.example:8443", "https://images.example:8443/a", true),
            ("images.example", "https://images.example.evil/a", false),
            ("images.example", "https://other/images.example", false),
        ] {
            let found = credentials(host).are_for(&url.parse().unwrap());
            assert_eq!(found, expected, "{host} {url}");
        }
    }
}
