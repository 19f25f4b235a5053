//! Programs that end with who runs them: a `mke2fs` that outlives a killed agent would write into what the next agent makes
//! of the disk.
#![expect(
    unsafe_code,
    reason = "what a child does before it becomes the program has no safe wrapper"
)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// Has the kernel kill the program when the thread that starts it ends (prctl (2), `PR_SET_PDEATHSIG`): so that thread has
/// to wait for it.
pub(super) fn bind(command: &mut Command) -> &mut Command {
    let parent = getpid();
    // SAFETY: between fork and exec nothing but two system calls are made; no memory is allocated, no lock taken.
    unsafe { command.pre_exec(move || bind_this(parent)) }
}

fn bind_this(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before it was asked for.
    if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn it_is_killed_when_who_started_it_ends() {
        let start = || bind(Command::new("sleep").arg("1000")).spawn().unwrap();
        // Waited for by nobody: the thread is gone at once.
        let mut child = std::thread::spawn(start).join().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "process {} still runs", child.id());
            std::thread::yield_now();
        };
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
}
