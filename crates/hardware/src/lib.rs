//! How machines are reached from outside: power and boot device. One module for each hardware type; knows nothing of
//! deployments.
//!
//! Every operation is safe to repeat: asked for what is already so, it succeeds and changes nothing.

pub mod fake;

use std::path::PathBuf;

/// What a machine boots next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootDevice {
    /// The network or virtual media: the deploy ramdisk with the agent.
    Ramdisk,
    /// Its own disk.
    Disk,
}

/// A machine that did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum HardwareError {
    /// No such hardware type here.
    #[error("driver `{driver}` is not a hardware type of this conductor, which has: {known}")]
    UnknownDriver {
        /// The node's driver.
        driver: String,
        /// What there is.
        known: String,
    },
    /// The node's `driver_info` does not say what is needed.
    #[error("driver_info.{key} `{value}` {reason}")]
    DriverInfo {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The simulated machine's files cannot be read or written.
    #[error("cannot {action} {path}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

impl HardwareError {
    /// Whether trying again without a change by the operator can help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::UnknownDriver { .. } | Self::DriverInfo { .. } => false,
            Self::Io { .. } => true,
        }
    }
}
