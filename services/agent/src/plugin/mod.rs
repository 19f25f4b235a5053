//! Plug-ins: executables in a directory that do steps of their own. `docs/step-plugins.md` is their protocol.

mod record;
mod step;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_domain::node::OfferedStep;
use bessemer_process::{Cut, Process};
use serde::Deserialize;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

pub(crate) use step::run;

/// How long a plug-in may take to say what it can do.
const DESCRIBE_LIMIT: Duration = Duration::from_secs(10);

/// Largest description. All of them travel in one message, of 1 MiB at most.
const DESCRIPTION_BYTES_MAX: usize = 64 * 1024;

/// What the plug-ins of this machine can do.
#[derive(Debug, Default)]
pub(crate) struct Plugins {
    steps: Vec<(PathBuf, OfferedStep)>,
    faults: Vec<String>,
}

/// What `describe` prints.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    steps: Vec<OfferedStep>,
}

impl Plugins {
    /// Asks every plug-in in the directory, in the order of their names. None of them keeps the agent from working.
    pub(crate) async fn ask(directory: &Path) -> Self {
        let mut plugins = Self::default();
        let files = match executables(directory) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                plugins.note_fault(directory, &error.to_string());
                Vec::new()
            }
        };
        for file in files {
            match describe(&file).await {
                Ok(steps) => plugins.add(&file, steps),
                Err(fault) => plugins.note_fault(&file, &fault),
            }
        }
        plugins
    }

    fn add(&mut self, file: &Path, steps: Vec<OfferedStep>) {
        for step in steps {
            if self.steps.iter().any(|(_, known)| known.name == step.name) {
                let fault = format!("step `{}` is another plug-in's already", step.name);
                self.note_fault(file, &fault);
            } else {
                tracing::info!(plugin = %file.display(), step = step.name, "step offered");
                self.steps.push((file.to_owned(), step));
            }
        }
    }

    fn note_fault(&mut self, file: &Path, fault: &str) {
        tracing::warn!(plugin = %file.display(), fault, "plug-in cannot be used");
        self.faults.push(format!("{}: {fault}", file.display()));
    }

    /// All steps.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &OfferedStep> {
        self.steps.iter().map(|(_, step)| step)
    }

    /// Plug-ins that could not be asked, and why.
    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    fn find(&self, name: &str) -> Option<(&Path, &OfferedStep)> {
        let (file, step) = self.steps.iter().find(|(_, step)| step.name == name)?;
        Some((file, step))
    }
}

/// The files in a directory that can be run. Hidden ones, and what an editor leaves behind, are not meant.
fn executables(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_meant = !name.starts_with('.') && !name.ends_with('~');
        // Through links, which are how packages install what is elsewhere.
        let metadata = std::fs::metadata(&path)?;
        if is_meant && metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

async fn describe(file: &Path) -> Result<Vec<OfferedStep>, String> {
    let mut command = Command::new(file);
    command.arg("describe");
    let process = Process::spawn(command).map_err(|error| format!("cannot be run: {error}"))?;
    let mut printed = Vec::new();
    let keep = |line: &[u8]| {
        if printed.len() <= DESCRIPTION_BYTES_MAX {
            printed.extend_from_slice(line);
            printed.push(b'\n');
        }
    };
    let never = CancellationToken::new();
    let ended = process.finish(Vec::new(), DESCRIBE_LIMIT, &never, keep).await;
    let (status, said) = ended.map_err(|cut| match cut {
        Cut::TimedOut => format!("`describe` took longer than {} s", DESCRIBE_LIMIT.as_secs()),
        Cut::Stopped => "`describe` was stopped".to_owned(),
        Cut::Io(error) => format!("`describe` failed: {error}"),
    })?;
    if !status.success() {
        return Err(format!("`describe` ended with {status}{}", said.as_reason()));
    }
    if printed.len() > DESCRIPTION_BYTES_MAX {
        return Err(format!("`describe` prints more than {DESCRIPTION_BYTES_MAX} bytes"));
    }
    let description: Description = serde_json::from_slice(&printed)
        .map_err(|error| format!("`describe` prints what is no description: {error}"))?;
    Ok(description.steps)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn plugin(directory: &Path, name: &str, script: &str) {
        let path = directory.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn every_plugin_is_asked_and_what_is_wrong_with_one_is_told() {
        let home = tempfile::tempdir().unwrap();
        let describe = |name: &str| format!("echo '{{\"steps\": [{{\"name\": \"{name}\"}}]}}'");
        plugin(home.path(), "10-good", &describe("burn_in"));
        plugin(home.path(), "20-twice", &describe("burn_in"));
        plugin(home.path(), "30-words", "echo hello");
        plugin(home.path(), "40-fails", "echo no such card >&2; exit 3");
        plugin(home.path(), ".hidden", &describe("hidden"));
        fs::write(home.path().join("README"), "not to be run").unwrap();

        let plugins = Plugins::ask(home.path()).await;
        let names: Vec<_> = plugins.steps().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["burn_in"]);
        let faults = plugins.faults();
        assert_eq!(faults.len(), 3, "{faults:?}");
        assert!(faults[0].ends_with("20-twice: step `burn_in` is another plug-in's already"));
        assert!(faults[1].contains("30-words: `describe` prints what is no description"));
        assert!(faults[2].ends_with("`describe` ended with exit status: 3: no such card"));
    }

    #[tokio::test]
    async fn a_directory_that_is_not_there_holds_no_plugins() {
        let home = tempfile::tempdir().unwrap();
        let plugins = Plugins::ask(&home.path().join("steps.d")).await;
        assert_eq!((plugins.steps().count(), plugins.faults().len()), (0, 0));
    }
}
