//! Requests and answers as errors tell of them.

use std::fmt::Display;
use std::sync::Arc;

use reqwest::StatusCode;
use serde_json::Value;

use crate::HardwareError;
use crate::driver_info::MASK;

/// Most of an answer that an error repeats, in characters. Errors are kept with the node.
const QUOTED_CHARS_MAX: usize = 600;

/// Answers of a client's fault (4xx) that another attempt may be spared: the BMC is busy with something else, or what was
/// read before has changed.
const PASSING: [StatusCode; 6] = [
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::CONFLICT,
    StatusCode::PRECONDITION_FAILED,
    StatusCode::LOCKED,
    StatusCode::TOO_EARLY,
    StatusCode::TOO_MANY_REQUESTS,
];

/// Which BMC was asked what.
#[derive(Clone)]
pub(super) struct Request {
    /// The BMC's address.
    pub(super) address: String,
    /// Method and path.
    pub(super) line: String,
    /// What must not show in an error, even if the BMC repeats it.
    pub(super) secrets: Arc<[String]>,
}

impl Request {
    /// The error for a request that came to nothing.
    pub(super) fn failed(&self, answer: impl Display, retryable: bool) -> HardwareError {
        let mut answer = answer.to_string();
        for secret in self.secrets.iter().filter(|secret| !secret.is_empty()) {
            answer = answer.replace(secret, MASK);
        }
        HardwareError::Bmc {
            address: self.address.clone(),
            request: quoted(&self.line),
            answer: quoted(&answer),
            retryable,
        }
    }
}

/// What a BMC said, bounded, and without what would steer the terminal that shows it.
fn quoted(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(QUOTED_CHARS_MAX).collect()
}

/// What a BMC answered.
pub(super) struct Answer {
    pub(super) request: Request,
    pub(super) status: StatusCode,
    pub(super) etag: Option<String>,
    /// `X-Auth-Token`.
    pub(super) token: Option<String>,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The answer if it is a success.
    ///
    /// # Errors
    /// [`HardwareError::Bmc`] with the status and the BMC's own words.
    pub(super) fn accepted(self) -> Result<Self, HardwareError> {
        if self.status.is_success() { Ok(self) } else { Err(self.refusal()) }
    }

    fn refusal(&self) -> HardwareError {
        let status = self.status;
        let retryable = match status {
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => false,
            _ => status.is_server_error() || PASSING.contains(&status),
        };
        let words = self.words();
        let advice = match status {
            StatusCode::UNAUTHORIZED => {
                " (see driver_info.redfish_username, redfish_password and redfish_auth_type)"
            }
            _ => "",
        };
        let colon = if words.is_empty() { "" } else { ": " };
        self.request.failed(format!("{status}{advice}{colon}{words}"), retryable)
    }

    /// The BMC's words: the extended messages (DSP0266 8.6) if there are any, else what else it sent.
    pub(super) fn words(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let error = &json["error"];
        let extended = error["@Message.ExtendedInfo"].as_array().into_iter().flatten();
        let mut messages: Vec<_> = extended.filter_map(|info| info["Message"].as_str()).collect();
        if messages.is_empty() {
            messages.extend(error["message"].as_str());
        }
        let words = match messages.as_slice() {
            [] => String::from_utf8_lossy(&self.body).into_owned(),
            messages => messages.join("; "),
        };
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The same with the messages' arguments, which name parameters where the words do not.
    pub(super) fn words_and_arguments(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        format!("{} {}", self.words(), json["error"]["@Message.ExtendedInfo"])
    }
}
