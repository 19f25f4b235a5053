//! What became of a plug-in's steps: kept beside the agent's identity, so that an agent that was restarted neither does
//! one twice nor forgets what came of it. Gone with the machine's power, like all that the agent keeps.

use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is known of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub(super) enum Record {
    /// It was begun. Its end is not known.
    Begun {
        /// The process that does it.
        process: Option<Running>,
    },
    /// It ended well.
    Succeeded {
        /// What the plug-in had to say.
        result: Map<String, Value>,
    },
    /// It did not.
    Failed {
        /// Why.
        message: String,
    },
}

/// A process, so that another one with its number is not taken for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Running {
    pid: i32,
    /// Field 22 of `/proc/PID/stat`: since when it runs.
    started_ticks: u64,
}

impl Running {
    /// The process with this number, if it runs.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, which comes second, may hold anything.
        let (_, rest) = stat.rsplit_once(") ")?;
        let started_ticks = rest.split(' ').nth(19)?.parse().ok()?;
        Some(Self { pid: i32::try_from(pid).ok()?, started_ticks })
    }

    /// Kills its group, if it still runs.
    pub(super) fn kill(&self) {
        let now = u32::try_from(self.pid).ok().and_then(Self::of);
        if now.as_ref() == Some(self)
            && let Some(group) = Pid::from_raw(self.pid)
        {
            kill_process_group(group, Signal::KILL).ok();
        }
    }
}

/// Where the record of one step is.
#[derive(Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
}

impl RecordFile {
    /// The record of a task.
    pub(super) fn new(state_dir: &Path, task_id: &str) -> Self {
        let path = state_dir.join("steps").join(task_id.replace('/', "-")).with_extension("json");
        Self { path }
    }

    pub(super) fn read(&self) -> io::Result<Option<Record>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whole or not at all.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let next = self.path.with_extension("next");
        std::fs::write(&next, serde_json::to_vec(record)?)?;
        std::fs::rename(next, &self.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_was_written_last() {
        let home = tempfile::tempdir().unwrap();
        let file = RecordFile::new(home.path(), "plan/4");
        assert_eq!(file.read().unwrap(), None);
        let records = [
            Record::Begun { process: Running::of(std::process::id()) },
            Record::Succeeded { result: Map::new() },
            Record::Failed { message: "no card".to_owned() },
        ];
        for record in records {
            file.write(&record).unwrap();
            assert_eq!(file.read().unwrap(), Some(record));
        }
        assert_eq!(RecordFile::new(home.path(), "plan/5").read().unwrap(), None);
    }

    #[test]
    fn another_process_with_the_number_is_left_alone() {
        let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let own = Running::of(child.id()).unwrap();
        // Were it killed, it would be with this test: it has no group of its own.
        Running { started_ticks: own.started_ticks + 1, ..own }.kill();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Running::of(child.id()), None);
    }
}
