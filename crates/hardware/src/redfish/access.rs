//! How a BMC is reached, by what `driver_info` says.

use reqwest::Url;
use serde_json::{Map, Value};

use super::trust::Trust;
use crate::HardwareError;
use crate::driver_info::{required, text, wrong};

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
                "driver_info.redfish_password `******` is not text; in JSON, text is in quotes",
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
}
