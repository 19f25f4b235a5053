//! How a BMC is reached: what `driver_info` says, and HTTP clients by whose certificates they trust.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};
use serde_json::{Map, Value};

use super::service::ANSWER_LIMIT;
use crate::HardwareError;
use crate::driver_info::{required, text, wrong};

/// How long a BMC may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// BMCs close idle connections themselves, some within 15 s; one that is closed while a request is sent costs an attempt.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Redirections in a row that are followed: to a canonical path, no more.
const REDIRECTIONS_MAX: usize = 3;

/// Largest file of authorities; all of Mozilla's are a fifth of it.
const AUTHORITIES_BYTES_MAX: u64 = 1024 * 1024;

/// What `driver_info` says of a BMC.
pub(super) struct Access {
    /// Scheme, host and port.
    pub(super) origin: Url,
    pub(super) system_path: Option<String>,
    pub(super) login: Option<Login>,
    pub(super) trust: Trust,
}

/// Who we are to the BMC.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: String,
    pub(super) way: Way,
}

/// `redfish_auth_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    /// Name and password with every request.
    Basic,
    /// A session (DSP0266 13.3), or nothing.
    Session,
    /// A session; name and password with every request where there are none.
    Auto,
}

/// `redfish_verify_ca`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    /// The system's authorities.
    System,
    /// Anybody.
    Anybody,
    /// The authorities in this file, as read: the file may be replaced while we run.
    Authorities { path: PathBuf, pem: Vec<u8> },
}

impl Access {
    pub(super) fn read(info: &Map<String, Value>) -> Result<Self, HardwareError> {
        let address = required(info, "redfish_address")?;
        let system_path = text(info, "redfish_system_id")?.map(str::to_owned);
        if let Some(path) = system_path.as_deref().filter(|path| !path.starts_with('/')) {
            let reason = "is not a path such as /redfish/v1/Systems/1";
            return Err(wrong("redfish_system_id", &path.into(), reason));
        }
        let way = match text(info, "redfish_auth_type")? {
            None | Some("auto") => Way::Auto,
            Some("basic") => Way::Basic,
            Some("session") => Way::Session,
            Some(other) => {
                let reason = "is none of basic, session and auto";
                return Err(wrong("redfish_auth_type", &other.into(), reason));
            }
        };
        let password = text(info, "redfish_password")?.unwrap_or_default().to_owned();
        let username = text(info, "redfish_username")?;
        let login = username.map(|username| Login { username: username.to_owned(), password, way });
        Ok(Self { origin: origin(address)?, system_path, login, trust: Trust::read(info)? })
    }
}

/// The BMC's scheme, host and port; `https` unless told.
fn origin(address: &str) -> Result<Url, HardwareError> {
    let refuse = |reason| Err(wrong("redfish_address", &address.into(), reason));
    let full =
        if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
    match Url::parse(&full) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            refuse("holds a login; it belongs in redfish_username and redfish_password")
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.path() == "/" => Ok(url),
        _ => refuse("is not an address such as https://10.0.0.1"),
    }
}

impl Trust {
    fn read(info: &Map<String, Value>) -> Result<Self, HardwareError> {
        let value = match info.get("redfish_verify_ca") {
            None | Some(Value::Null | Value::Bool(true)) => return Ok(Self::System),
            Some(Value::Bool(false)) => return Ok(Self::Anybody),
            Some(value) => value,
        };
        let words = value.as_str().unwrap_or_default();
        // The words that Ironic takes for truth values.
        match words.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(Self::System),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(Self::Anybody),
            _ if words.starts_with('/') => {
                let path = PathBuf::from(words);
                let pem = authorities(&path)?;
                Ok(Self::Authorities { path, pem })
            }
            _ => {
                let reason = "is neither true, nor false, nor the absolute path of a PEM file";
                Err(wrong("redfish_verify_ca", value, reason))
            }
        }
    }
}

fn authorities(path: &Path) -> Result<Vec<u8>, HardwareError> {
    let failed = |source| HardwareError::Io { action: "read", path: path.to_owned(), source };
    // A pipe would be waited for without end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        let reason = "is not a file";
        return Err(wrong("redfish_verify_ca", &path.to_string_lossy().into(), reason));
    }
    let mut pem = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(AUTHORITIES_BYTES_MAX).read_to_end(&mut pem).map_err(failed)?;
    Ok(pem)
}

/// HTTP clients, one for each [`Trust`]: they hold the open connections.
#[derive(Clone, Default)]
pub(super) struct Clients(Arc<Mutex<HashMap<Trust, Client>>>);

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

impl Clients {
    pub(super) fn get(&self, trust: &Trust) -> Result<Client, HardwareError> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(trust) {
            return Ok(client.clone());
        }
        let client = build(trust)?;
        clients.insert(trust.clone(), client.clone());
        Ok(client)
    }
}

fn build(trust: &Trust) -> Result<Client, HardwareError> {
    let failed = |path: &Path, error: reqwest::Error| HardwareError::Io {
        action: "use the authorities in",
        path: path.to_owned(),
        source: std::io::Error::other(error),
    };
    let client = Client::builder()
        .connect_timeout(CONNECT_LIMIT)
        .timeout(ANSWER_LIMIT)
        .pool_idle_timeout(IDLE_LIMIT)
        .tcp_nodelay(true)
        // BMCs are in the conductor's own network; the environment's proxies are for others.
        .no_proxy()
        .redirect(Policy::custom(|attempt| {
            // A token must not follow to another server.
            let first = &attempt.previous()[0];
            if attempt.url().origin() != first.origin()
                || attempt.previous().len() > REDIRECTIONS_MAX
            {
                attempt.stop()
            } else {
                attempt.follow()
            }
        }));
    match trust {
        Trust::System => client.build().map_err(|error| failed(Path::new("the system"), error)),
        Trust::Anybody => client
            .tls_danger_accept_invalid_certs(true)
            .build()
            .map_err(|error| failed(Path::new("nothing"), error)),
        Trust::Authorities { path, pem } => Certificate::from_pem_bundle(pem)
            .and_then(|authorities| client.tls_certs_only(authorities).build())
            .map_err(|error| failed(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(info: &Value) -> Result<Access, String> {
        Access::read(info.as_object().unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_needs_no_scheme_and_no_system() {
        let access = read(&json!({"redfish_address": "[fd00::1]:8443"})).unwrap();
        assert_eq!(access.origin.as_str(), "https://[fd00::1]:8443/");
        assert!(access.login.is_none() && access.system_path.is_none());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is_shown() {
        for (info, expected) in [
            (json!({}), "driver_info.redfish_address is missing"),
            (
                json!({"redfish_address": "https://root:hunter2@bmc"}),
                "driver_info.redfish_address `******` holds a login; it belongs in redfish_username and redfish_password",
            ),
            (
                json!({"redfish_address": "bmc", "redfish_password": 12345}),
                "driver_info.redfish_password `******` is not text",
            ),
            (
                json!({"redfish_address": "bmc", "redfish_system_id": "1"}),
                "driver_info.redfish_system_id `1` is not a path such as /redfish/v1/Systems/1",
            ),
            (
                json!({"redfish_address": "bmc", "redfish_auth_type": "kerberos"}),
                "driver_info.redfish_auth_type `kerberos` is none of basic, session and auto",
            ),
            (
                json!({"redfish_address": "bmc", "redfish_verify_ca": "maybe"}),
                "driver_info.redfish_verify_ca `maybe` is neither true, nor false, nor the absolute path of a PEM file",
            ),
        ] {
            assert_eq!(read(&info).err().as_deref(), Some(expected), "{info}");
        }
    }

    #[test]
    fn whose_certificates_are_trusted() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("ca.pem");
        std::fs::write(&file, "pem").unwrap();
        let of = |value: Value| {
            read(&json!({"redfish_address": "bmc", "redfish_verify_ca": value})).map(|it| it.trust)
        };
        assert!(of(json!("True")).is_ok_and(|trust| trust == Trust::System));
        assert!(of(json!(false)).is_ok_and(|trust| trust == Trust::Anybody));
        let trust = of(json!(file.to_str())).unwrap();
        assert!(trust == Trust::Authorities { path: file, pem: b"pem".to_vec() });
        assert!(of(json!(home.path().to_str())).is_err_and(|error| error.ends_with("not a file")));
    }
}
