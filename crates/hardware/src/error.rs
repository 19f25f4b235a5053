//! What can go wrong with a machine.

use std::io::ErrorKind;
use std::path::PathBuf;

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
        /// Its value; never a secret's.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A key of `driver_info` that cannot be done without.
    #[error("driver_info.{key} is missing{hint}")]
    DriverInfoMissing {
        /// The key.
        key: &'static str,
        /// Where else it is looked for, or nothing.
        hint: &'static str,
    },
    /// A secret of the node that cannot be had.
    #[error("{reason}")]
    Secret {
        /// Which, and the way out.
        reason: String,
    },
    /// The BMC could not be reached, refused, or answered what cannot be understood.
    #[error("BMC {address}: {request}: {answer}")]
    Bmc {
        /// Where the BMC is.
        address: String,
        /// Method and path, or the command.
        request: String,
        /// What came back, in the BMC's own words as far as there are any.
        answer: String,
        /// Whether the same request may be answered differently later.
        retryable: bool,
    },
    /// Something that machines of a hardware type cannot do.
    #[error("hardware type `{driver}` cannot {operation}")]
    NotSupported {
        /// The hardware type.
        driver: &'static str,
        /// What was asked for.
        operation: &'static str,
    },
    /// A program that this host must have.
    #[error("cannot run `{program}`; it is in the package of the same name")]
    Program {
        /// Its name or path.
        program: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
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
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::UnknownDriver { .. }
            | Self::Secret { .. }
            | Self::DriverInfo { .. }
            | Self::NotSupported { .. }
            | Self::DriverInfoMissing { .. } => false,
            // A host that is out of processes for a moment is another matter than one without the program.
            Self::Program { source, .. } => {
                !matches!(source.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
            }
            Self::Io { .. } => true,
            Self::Bmc { retryable, .. } => *retryable,
        }
    }
}
