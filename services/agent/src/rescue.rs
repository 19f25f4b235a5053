//! Rescue: a person is let in, as user `rescue` with the password whose hash the conductor has.
//!
//! How that is done is the ramdisk's: the program of `--rescue-program` is run with the file that holds the hash as its
//! only argument.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bessemer_proto::v1::RescueTask;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::machine::Machine;
use crate::task::TaskError;

/// How long the program may take: it adds a user and starts servers.
const LIMIT: Duration = Duration::from_secs(120);

/// Lets the person in. Done again, it does the same once more.
pub(crate) async fn admit(
    machine: &Machine,
    task: &RescueTask,
    stop: &CancellationToken,
) -> Result<(), TaskError> {
    let program = machine.rescue_program();
    let failed = |how: String| TaskError::Rescue { program: program.to_owned(), how };
    let hash = keep(machine.state_dir(), &task.password_hash)
        .map_err(|error| failed(format!("was not run: the hash cannot be written: {error}")))?;
    // What it starts is to stay: a server, a prompt on a console. Its words are the agent's log's.
    let mut command = Command::new(program);
    command.arg(&hash).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let mut process = command.spawn().map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            failed("is not in this ramdisk: it cannot let anybody log in".to_owned())
        }
        _ => failed(format!("cannot be run: {error}")),
    })?;
    let ended = stop.run_until_cancelled(timeout(LIMIT, process.wait())).await;
    match ended.ok_or(TaskError::Cancelled)? {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(failed(format!("ended with {status}; its words are in the log"))),
        Ok(Err(error)) => Err(failed(format!("cannot be waited for: {error}"))),
        Err(_) => Err(failed(format!("was killed after {} s", LIMIT.as_secs()))),
    }
}

/// Puts the hash where only the superuser reads it, in memory: it goes with the power.
fn keep(state_dir: &Path, password_hash: &str) -> std::io::Result<PathBuf> {
    let path = state_dir.join("rescue-password-hash");
    let next = state_dir.join(".rescue-password-hash.next");
    // One of an earlier attempt may be there, with whatever rights.
    if let Err(error) = std::fs::remove_file(&next)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
    writeln!(file, "{password_hash}")?;
    std::fs::rename(&next, &path)?;
    Ok(path)
}
