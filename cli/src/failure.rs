//! What ends the program with something else than success, and with which exit code.

use std::fmt;
use std::process::ExitCode;

/// Why the program ends. The numbers are the exit codes that `--help` documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Whoever read the output has gone away: nothing is wrong, and nobody is left to be told.
    ReaderGone = 0,
    /// The work was accepted and failed, or something broke on the way.
    Failed = 1,
    /// The request is wrong: refused here or by the cluster, and nothing has changed.
    Refused = 2,
    /// What was waited for did not come in time; it may still come.
    TimedOut = 3,
    /// No member of the cluster answers.
    Unreachable = 4,
}

/// What is said on standard error at the end.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hints: Vec<String>,
}

impl Failure {
    /// A failure with a message that names what was attempted, on what.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hints: Vec::new() }
    }

    /// Work that was accepted and failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// A request that is wrong.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// Adds a way out.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Standard output that cannot be written.
    pub(crate) fn from_output(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Exit::ReaderGone, "");
        }
        Self::failed(format!("cannot write to standard output: {error}"))
    }

    /// Tells the user and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if self.exit != Exit::ReaderGone {
            eprintln!("{self}");
        }
        ExitCode::from(self.exit as u8)
    }

    /// The kind of failure.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        self.hints.iter().try_for_each(|hint| write!(f, "\nhint: {hint}"))
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
