//! A BMC's Redfish service over HTTP: requests with a bounded wait and bounded answers.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, ETAG, HeaderName, IF_MATCH};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde_json::Value;

use super::access::{Access, Login};
use super::answer::{Answer, Request};
use super::resource::Resource;
use super::session::{AUTH_TOKEN, Pass, Sessions};
use crate::{Entitled, HardwareError};

/// How long a BMC may take to answer.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Largest answer that is read; the largest resources of real BMCs have some hundred kilobytes.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// DSP0266 6.5.
const ODATA_VERSION: HeaderName = HeaderName::from_static("odata-version");

/// What goes with a request.
#[derive(Clone, Copy, Default)]
pub(super) struct Content<'a> {
    pub(super) body: Option<&'a Value>,
    pub(super) if_match: Option<&'a str>,
}

/// The service of one BMC.
pub(super) struct Service {
    http: Client,
    origin: Url,
    pub(super) login: Option<Login>,
    pub(super) sessions: Sessions,
    secrets: Arc<[String]>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("address", &self.address()).finish_non_exhaustive()
    }
}

impl Service {
    /// `iso` is a URL that will be sent; what it holds of secrets shows in no error either.
    pub(super) fn new(
        access: &Access,
        http: Client,
        sessions: Sessions,
        iso: Option<&str>,
    ) -> Self {
        let login = access.login.clone();
        let mut secrets: Vec<_> = login.iter().map(|login| login.password.clone()).collect();
        if let Some(url) = iso.and_then(|iso| Url::parse(iso).ok()) {
            secrets.extend(url.password().map(str::to_owned));
            secrets.extend(url.query().map(str::to_owned));
        }
        Self { http, origin: access.origin.clone(), login, sessions, secrets: secrets.into() }
    }

    /// The BMC's address, as errors name it.
    pub(super) fn address(&self) -> String {
        self.origin.as_str().trim_end_matches('/').to_owned()
    }

    fn request(&self, method: &Method, path: &str) -> Request {
        Request {
            address: self.address(),
            line: format!("{method} {path}"),
            secrets: Arc::clone(&self.secrets),
        }
    }

    /// A resource that must be there.
    pub(super) async fn get(&self, path: &str) -> Result<Resource, HardwareError> {
        let answer = self.send(Method::GET, path, Content::default(), None).await?;
        resource(path, answer.accepted()?)
    }

    /// A resource that need not be there.
    pub(super) async fn find(&self, path: &str) -> Result<Option<Resource>, HardwareError> {
        let answer = self.send(Method::GET, path, Content::default(), None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        resource(path, answer.accepted()?).map(Some)
    }

    /// Runs an action.
    pub(super) async fn post(
        &self,
        path: &str,
        body: &Value,
        entitled: Entitled<'_>,
    ) -> Result<Answer, HardwareError> {
        let content = Content { body: Some(body), if_match: None };
        self.send(Method::POST, path, content, Some(entitled)).await
    }

    /// Changes properties of a resource, if it still is what was read (DSP0266 7.1). BMCs differ in the form of ETag that they
    /// take back; the claim, not the ETag, is what keeps others away, so in the end it may do without.
    pub(super) async fn patch(
        &self,
        resource: &Resource,
        body: &Value,
        entitled: Entitled<'_>,
    ) -> Result<Answer, HardwareError> {
        let given = resource.etag.as_deref();
        let strong = given.and_then(|etag| etag.strip_prefix("W/"));
        let forms = given.into_iter().chain(strong).map(Some).chain([None, Some("*")]);
        let mut refused = None;
        for if_match in forms {
            let content = Content { body: Some(body), if_match };
            let answer = self.send(Method::PATCH, &resource.path, content, Some(entitled)).await?;
            match answer.status {
                StatusCode::PRECONDITION_FAILED | StatusCode::PRECONDITION_REQUIRED => {
                    refused = Some(answer);
                }
                _ => return Ok(answer),
            }
        }
        refused.ok_or_else(|| resource.request.failed("no form of ETag was tried", false))
    }

    /// Sends a request with whatever makes us known to the BMC, once more when that has run out.
    async fn send(
        &self,
        method: Method,
        path: &str,
        content: Content<'_>,
        entitled: Option<Entitled<'_>>,
    ) -> Result<Answer, HardwareError> {
        let mut pass = self.pass().await?;
        loop {
            if let Some(entitled) = entitled {
                entitled().await;
            }
            let answer = self.exchange(&method, path, content, &pass.pass).await?;
            if answer.status != StatusCode::UNAUTHORIZED || !pass.is_old {
                return Ok(answer);
            }
            self.forget(&pass.pass);
            pass = self.pass().await?;
            // A second refusal is about who we are.
            pass.is_old = false;
        }
    }

    /// One request and its answer, whatever that is.
    pub(super) async fn exchange(
        &self,
        method: &Method,
        path: &str,
        Content { body, if_match }: Content<'_>,
        pass: &Pass,
    ) -> Result<Answer, HardwareError> {
        let request = self.request(method, path);
        let url = self.origin.join(path).ok().filter(|url| url.origin() == self.origin.origin());
        let Some(url) = url else {
            return Err(request.failed("the path leads to another server", false));
        };
        let mut message = self.http.request(method.clone(), url);
        message = message.header(ACCEPT, "application/json").header(ODATA_VERSION, "4.0");
        message = match (pass, &self.login) {
            (Pass::Token(token), _) => message.header(AUTH_TOKEN, token),
            (Pass::Basic, Some(login)) => {
                message.basic_auth(&login.username, Some(&login.password))
            }
            (Pass::Nobody, _) | (Pass::Basic, None) => message,
        };
        if let Some(etag) = if_match {
            message = message.header(IF_MATCH, etag);
        }
        if let Some(body) = body {
            message = message
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let response = message.send().await.map_err(|error| unanswered(&request, error))?;
        let header = |name| {
            let value = response.headers().get(name)?.to_str().ok()?;
            Some(value.to_owned())
        };
        let (status, etag, token) = (response.status(), header(ETAG), header(AUTH_TOKEN));
        let body = content_of(&request, response).await?;
        Ok(Answer { request, status, etag, token, body })
    }
}

fn resource(path: &str, answer: Answer) -> Result<Resource, HardwareError> {
    let body = serde_json::from_slice(&answer.body).ok().filter(Value::is_object);
    let Some(body) = body else {
        // A web server that is up before the service behind it answers pages.
        let words = answer.words();
        let answer_words = format!("{}, but no JSON object: {words}", answer.status);
        return Err(answer.request.failed(answer_words, true));
    };
    let etag = answer.etag.or_else(|| body["@odata.etag"].as_str().map(str::to_owned));
    Ok(Resource { path: path.to_owned(), request: answer.request, etag, body })
}

async fn content_of(request: &Request, mut response: Response) -> Result<Vec<u8>, HardwareError> {
    let mut content = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unanswered(request, error))? {
        if content.len() + chunk.len() > ANSWER_BYTES_MAX {
            let words = format!("an answer of more than {ANSWER_BYTES_MAX} bytes");
            return Err(request.failed(words, false));
        }
        content.extend_from_slice(&chunk);
    }
    Ok(content)
}

/// The error for a request that no whole answer came to.
fn unanswered(request: &Request, error: reqwest::Error) -> HardwareError {
    if error.is_timeout() {
        let what = if error.is_connect() { "no connection in time" } else { "no answer in time" };
        return request.failed(what, true);
    }
    let error = error.without_url();
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    // What the TLS library says of one that it does not trust. No other way to tell is left by then.
    if words.contains("certificate") {
        return request.failed(format!("{words}; see driver_info.redfish_verify_ca"), false);
    }
    request.failed(words, !error.is_builder())
}
