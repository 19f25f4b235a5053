//! Running `ipmitool`.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::HardwareError;

/// Seconds until `ipmitool` sends a request again, and how often it does.
const RESEND: (&str, &str) = ("2", "4");

/// How long one command may take. `ipmitool` opens and closes a session around it, each by several requests.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Most of `ipmitool`'s complaints that is passed on, in characters.
const COMPLAINT_CHARS_MAX: usize = 400;

/// What `ipmitool` says when the same command will fail again, and what the operator may do about it. Everything else may
/// pass: a BMC that is busy, starting or unreachable is told from one that refuses a password by nothing.
const FINAL: &[(&str, &str)] = &[
    ("invalid authentication algorithm", "; another driver_info.ipmi_cipher_suite may do"),
    ("no matching cipher suite", "; another driver_info.ipmi_cipher_suite may do"),
    ("insufficient privilege", "; see driver_info.ipmi_priv_level"),
    ("unauthorized name", "; see driver_info.ipmi_username"),
    ("invalid command", ""),
    ("invalid data field in request", "; the BMC cannot do that"),
];

/// `ipmitool` for one BMC.
pub(super) struct Tool {
    pub(super) program: PathBuf,
    pub(super) address: String,
    pub(super) port: u64,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) cipher_suite: u64,
    pub(super) priv_level: String,
}

impl std::fmt::Debug for Tool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tool").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Tool {
    /// Runs one command and returns what it printed. Dropped, it kills the process.
    ///
    /// # Errors
    /// [`HardwareError::Bmc`] with what `ipmitool` says, [`HardwareError::Program`] when there is none.
    pub(super) async fn run(&self, command: &[&str]) -> Result<String, HardwareError> {
        let failed_to_run =
            |source| HardwareError::Program { program: self.program.clone(), source };
        let child = Command::new(&self.program)
            .args(["-I", "lanplus", "-H", &self.address, "-p", &self.port.to_string()])
            .args(["-U", &self.username, "-L", &self.priv_level])
            .args(["-C", &self.cipher_suite.to_string(), "-N", RESEND.0, "-R", RESEND.1])
            // The password by the environment: command lines are for everybody to read.
            .arg("-E")
            .args(command)
            .env("IPMI_PASSWORD", &self.password)
            .env_remove("IPMITOOL_PASSWORD")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed_to_run)?;
        match timeout(COMMAND_LIMIT, child.wait_with_output()).await {
            Ok(Ok(Output { status, stdout, .. })) if status.success() => {
                Ok(String::from_utf8_lossy(&stdout).into_owned())
            }
            Ok(Ok(output)) => Err(self.refused(command, &output)),
            Ok(Err(source)) => Err(failed_to_run(source)),
            Err(_) => {
                let answer = format!("no answer within {} s", COMMAND_LIMIT.as_secs());
                Err(self.failed(command, answer, true))
            }
        }
    }

    fn refused(&self, command: &[&str], output: &Output) -> HardwareError {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let said = said.chars().filter(|char| !char.is_control()).take(COMPLAINT_CHARS_MAX);
        let said: String = said.collect();
        let lower = said.to_ascii_lowercase();
        match FINAL.iter().find(|(words, _)| lower.contains(words)) {
            Some((_, advice)) => self.failed(command, format!("{said}{advice}"), false),
            None if said.is_empty() => self.failed(command, output.status.to_string(), true),
            None => self.failed(command, said, true),
        }
    }

    /// The error for a command that came to nothing.
    pub(super) fn failed(
        &self,
        command: &[&str],
        answer: String,
        retryable: bool,
    ) -> HardwareError {
        HardwareError::Bmc {
            address: format!("{}:{}", self.address, self.port),
            request: format!("ipmitool {}", command.join(" ")),
            answer,
            retryable,
        }
    }
}
