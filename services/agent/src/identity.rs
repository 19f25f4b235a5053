//! What an agent keeps across its own restart: the token that proves who it is, and the highest
//! epoch that it has obeyed.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

const FILE_NAME: &str = "agent.json";

/// State that cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} agent state {path}")]
pub struct StateError {
    /// What was attempted.
    action: &'static str,
    /// The file.
    path: PathBuf,
    /// What the system says.
    #[source]
    source: io::Error,
}

/// The agent's identity since the machine's boot.
#[derive(Debug)]
pub(crate) struct Identity {
    path: PathBuf,
    kept: Kept,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    token: String,
    epoch: u64,
}

impl Identity {
    /// The one kept in `state_dir`, or a new one, kept before anybody hears of it: a lookup whose
    /// answer is lost can then be repeated with the same token.
    pub(crate) fn load_or_draw(state_dir: &Path) -> Result<Self, StateError> {
        let path = state_dir.join(FILE_NAME);
        let fault = |action, source| StateError { action, path: path.clone(), source };
        match std::fs::read(&path) {
            Ok(bytes) => {
                let kept = serde_json::from_slice(&bytes)
                    .map_err(|error| fault("parse", io::Error::other(error)))?;
                Ok(Self { path, kept })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(state_dir).map_err(|source| fault("create", source))?;
                let identity = Self { path, kept: Kept { token: draw_token(), epoch: 0 } };
                identity.keep()?;
                Ok(identity)
            }
            Err(error) => Err(fault("read", error)),
        }
    }

    pub(crate) fn token(&self) -> &str {
        &self.kept.token
    }

    /// Highest epoch seen; 0 before the first.
    pub(crate) fn epoch(&self) -> u64 {
        self.kept.epoch
    }

    /// Keeps a higher epoch.
    pub(crate) fn raise_epoch(&mut self, epoch: u64) -> Result<(), StateError> {
        if epoch <= self.kept.epoch {
            return Ok(());
        }
        self.kept.epoch = epoch;
        self.keep()
    }

    /// Replaces the file in one step, so that a reader finds the old or the new one.
    fn keep(&self) -> Result<(), StateError> {
        let replace = || -> io::Result<()> {
            let new_path = self.path.with_extension("new");
            // The token is a secret.
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&new_path)?;
            file.write_all(&serde_json::to_vec(&self.kept)?)?;
            file.sync_all()?;
            std::fs::rename(&new_path, &self.path)
        };
        replace().map_err(|source| StateError { action: "write", path: self.path.clone(), source })
    }
}

/// 64 hexadecimal digits: 244 random bits of the operating system.
fn draw_token() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_outlives_its_process() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = directory.path().join("state");
        let mut first = Identity::load_or_draw(&state_dir).unwrap();
        assert_eq!((first.token().len(), first.epoch()), (64, 0));
        first.raise_epoch(7).unwrap();
        first.raise_epoch(5).unwrap();

        let second = Identity::load_or_draw(&state_dir).unwrap();
        assert_eq!((second.token(), second.epoch()), (first.token(), 7));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE_NAME), "{").unwrap();
        let error = Identity::load_or_draw(directory.path()).unwrap_err();
        assert!(error.to_string().starts_with("cannot parse agent state /"), "{error}");
    }
}
