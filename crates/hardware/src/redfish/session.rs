//! Sessions (DSP0266 13.3): opened once, used by every machine object and conductor task for as long as the BMC keeps
//! them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::HeaderName;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::access::{Login, Way};
use super::service::{Content, Service};
use crate::HardwareError;

pub(super) const AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// The one resource that needs no login, and where all others are found from.
pub(super) const SERVICE_ROOT: &str = "/redfish/v1/";

/// Where sessions are when the service root does not say.
const SESSIONS_USUAL: &str = "/redfish/v1/SessionService/Sessions";

/// BMCs whose sessions are kept. More than a conductor drives; they end by themselves, so to forget one costs a login.
const KEPT_MAX: usize = 20_000;

/// What makes us known to a BMC.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Pass {
    Nobody,
    Basic,
    Token(String),
}

/// A pass to use now.
pub(super) struct Issued {
    pub(super) pass: Pass,
    /// Whether it is from before, so that the BMC may have dropped it since.
    pub(super) is_old: bool,
}

type Key = (String, Login);

/// What was agreed with BMCs: a session's token, or to do without one.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<HashMap<Key, Pass>>>);

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Pass>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// The pass for the next request: the one from before, or a new one.
    pub(super) async fn pass(&self) -> Result<Issued, HardwareError> {
        let Some(login) = &self.login else {
            return Ok(Issued { pass: Pass::Nobody, is_old: false });
        };
        if login.way == Way::Basic {
            return Ok(Issued { pass: Pass::Basic, is_old: false });
        }
        let key = (self.address(), login.clone());
        if let Some(pass) = self.sessions.lock().get(&key) {
            return Ok(Issued { pass: pass.clone(), is_old: true });
        }
        let pass = self.log_in(login).await?;
        let mut sessions = self.sessions.lock();
        if sessions.len() >= KEPT_MAX {
            sessions.clear();
        }
        sessions.insert(key, pass.clone());
        Ok(Issued { pass, is_old: false })
    }

    /// Drops a pass that is no longer good, unless somebody has a newer one by now.
    pub(super) fn forget(&self, pass: &Pass) {
        let Some(login) = &self.login else { return };
        let key = (self.address(), login.clone());
        let mut sessions = self.sessions.lock();
        if sessions.get(&key) == Some(pass) {
            sessions.remove(&key);
        }
    }

    async fn log_in(&self, login: &Login) -> Result<Pass, HardwareError> {
        let root =
            self.exchange(&Method::GET, SERVICE_ROOT, Content::default(), &Pass::Nobody).await?;
        let root: Value = serde_json::from_slice(&root.accepted()?.body).unwrap_or_default();
        let link = root["Links"]["Sessions"]["@odata.id"].as_str();
        let has_sessions = link.is_some() || root["SessionService"].is_object();
        if !has_sessions && login.way == Way::Auto {
            return Ok(Pass::Basic);
        }
        let body = json!({"UserName": login.username, "Password": login.password});
        let content = Content { body: Some(&body), if_match: None };
        let path = link.unwrap_or(SESSIONS_USUAL);
        let answer = self.exchange(&Method::POST, path, content, &Pass::Nobody).await?;
        if answer.status.is_success()
            && let Some(token) = &answer.token
        {
            return Ok(Pass::Token(token.clone()));
        }
        // A wrong password stays wrong, and each attempt brings the account nearer to being locked. Anything else, such
        // as a table of sessions that is full, need not keep us out.
        if login.way == Way::Auto && answer.status != StatusCode::UNAUTHORIZED {
            return Ok(Pass::Basic);
        }
        let answer = answer.accepted()?;
        Err(answer.request.failed(format!("{} without X-Auth-Token", answer.status), false))
    }
}
