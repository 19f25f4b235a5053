//! Processes that tests start, kill and start again.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};

use crate::network::Host;
use crate::wait::wait_for;

/// The program of that name: beside this one, or where a test finds it, one directory up.
///
/// # Panics
/// When it was not built: `cargo build --workspace --bins` does.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a running program has a path");
    let directories = this.ancestors().skip(1).take(2);
    directories
        .map(|directory| directory.join(name))
        .find(|program| program.exists())
        .unwrap_or_else(|| {
            panic!("no {name} near {}: build the workspace's programs", this.display())
        })
}

/// Ports below those that the kernel gives to outgoing connections (32768 and up): such a connection could take a port
/// between the moment when it is found free and the moment when a server binds it.
const PORTS: std::ops::Range<u32> = 10_000..32_000;

/// A loopback port that nothing listens on, and that no other caller in this process was given.
///
/// # Panics
/// When the system has no port left.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let count = PORTS.end - PORTS.start;
    // Processes that run side by side begin at different places.
    let first = std::process::id().wrapping_mul(997) % count;
    loop {
        let given = GIVEN.fetch_add(1, Ordering::Relaxed);
        assert!(given < count, "all ports of {PORTS:?} were given or are taken");
        let port = PORTS.start + (first + given) % count;
        let port = u16::try_from(port).expect("the range is one of ports");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A process with its log. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    host: Host,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts a program; its output is appended to `DIRECTORY/NAME.log`.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn start(
        name: &str,
        program: &Path,
        arguments: &[String],
        directory: &Path,
    ) -> anyhow::Result<Self> {
        Self::start_on(Host::loopback(), name, program, arguments, directory)
    }

    /// [`Self::start`] on a host of its own.
    pub(crate) fn start_on(
        host: Host,
        name: &str,
        program: &Path,
        arguments: &[String],
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let mut process = Self {
            name: name.to_owned(),
            host,
            program: program.to_owned(),
            arguments: arguments.to_owned(),
            log: directory.join(format!("{name}.log")),
            child: None,
        };
        process.restart()?;
        Ok(process)
    }

    /// Starts it again, as it was started first. One that runs is killed before.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot open {}", self.log.display()))?;
        let child = self
            .host
            .command(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Where it runs.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Ends it with SIGKILL, at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A process that ended by itself cannot be killed, and is waited for all the same.
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// When it ended by anything but success.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let pid =
            i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = child.wait()?;
        anyhow::ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }

    /// Stops it where it stands (SIGSTOP), as a machine that hangs.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        let pid = pid.and_then(Pid::from_raw).with_context(|| format!("{} is gone", self.name))?;
        Ok(kill_process(pid, signal)?)
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Most memory that it ever had at once.
    ///
    /// # Errors
    /// When it does not run.
    pub fn peak_rss_bytes(&self) -> anyhow::Result<u64> {
        let child = self.child.as_ref().with_context(|| format!("{} is gone", self.name))?;
        peak_rss_bytes(child.id())
    }

    /// Waits until it has ended by itself, and says how.
    ///
    /// # Errors
    /// When it goes on for longer than `limit`.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        let child = self.child.as_mut().context("it does not run")?;
        let status = wait_for(&what, limit, async || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .await?;
        self.child = None;
        Ok(status)
    }

    /// All that it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it wrote last, for the message of a test that failed.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().rev().take(15).collect();
        let lines: Vec<_> = lines.into_iter().rev().collect();
        format!("--- {}\n{}", self.name, lines.join("\n"))
    }
}

/// Most memory that a process ever had at once.
///
/// # Errors
/// When it does not run.
pub fn peak_rss_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kibibytes.map(|kibibytes| kibibytes << 10).context("no VmHWM in /proc")
}

/// An agent, which is nobody's child any more.
#[derive(Debug, Clone, Copy)]
pub struct Agent {
    pid: Pid,
}

impl Agent {
    /// The process that has `argument` on its command line.
    pub(crate) fn with_argument(argument: &str) -> Option<Self> {
        let mut found = processes().filter(|(_, words)| words.iter().any(|word| word == argument));
        found.next().map(|(pid, _)| Self { pid })
    }

    /// Ends it with SIGKILL, as a machine that loses its mind.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn kill(self) -> anyhow::Result<()> {
        Ok(kill_process(self.pid, Signal::KILL)?)
    }
}

/// Kills every process that was started with a path below `directory` among its arguments.
pub(crate) fn kill_all_under(directory: &Path) {
    let below = directory.to_string_lossy();
    for (pid, words) in processes() {
        if words.iter().any(|word| word.starts_with(&*below)) {
            // One that ended meanwhile is as good as killed.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// All processes with their command lines.
fn processes() -> impl Iterator<Item = (Pid, Vec<String>)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw)?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into());
        Some((pid, words.collect()))
    })
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
