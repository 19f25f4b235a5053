//! What runs on a simulated machine while it is booted into the ramdisk: a real agent, as a process of its own or as a
//! task of this one.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::io;
use crate::HardwareError;

/// How long a killed agent may take to be gone; the kernel needs no more than what a large write to disk takes.
const DEATH_LIMIT: Duration = Duration::from_secs(30);

/// What an agent is told at boot.
#[derive(Debug, Clone)]
pub struct AgentBoot {
    /// Where it looks up its node.
    pub api_urls: Vec<String>,
    /// The authority that it believes, if it speaks TLS.
    pub ca_file: Option<PathBuf>,
    /// The machine's network interfaces.
    pub mac_addresses: Vec<String>,
    /// The file that is the machine's disk.
    pub disk: PathBuf,
    /// The machine's memory: gone when the power goes.
    pub state_dir: PathBuf,
    /// Where its plug-ins are, if not where they usually are.
    pub steps_dir: Option<PathBuf>,
}

/// What starts and stops agents.
#[derive(Debug, Clone)]
pub enum AgentRunner {
    /// A process of its own, which outlives this one.
    Program(PathBuf),
    /// A task in this process.
    InProcess(InProcessAgents),
}

/// Runs one agent until it is cancelled.
pub type RunAgent = dyn Fn(AgentBoot, CancellationToken) -> BoxFuture<'static, ()> + Send + Sync;

/// The agents that run as tasks, by state directory.
#[derive(Clone)]
pub struct InProcessAgents {
    run: Arc<RunAgent>,
    running: Arc<Mutex<HashMap<PathBuf, Running>>>,
}

struct Running {
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for InProcessAgents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InProcessAgents").finish_non_exhaustive()
    }
}

impl InProcessAgents {
    /// Agents are what `run` does.
    #[must_use]
    pub fn new(run: Arc<RunAgent>) -> Self {
        Self { run, running: Arc::default() }
    }

    fn start(&self, boot: AgentBoot) {
        let cancel = CancellationToken::new();
        let machine = boot.state_dir.clone();
        let task = tokio::spawn((self.run)(boot, cancel.clone()));
        self.lock().insert(machine, Running { cancel, task });
    }

    async fn stop(&self, boot: &AgentBoot) {
        let running = self.lock().remove(&boot.state_dir);
        if let Some(Running { cancel, task }) = running {
            cancel.cancel();
            task.abort();
            // An aborted task answers with an error; either way it is gone.
            task.await.ok();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<PathBuf, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AgentRunner {
    pub(super) fn start(&self, machine: &Path, boot: AgentBoot) -> Result<(), HardwareError> {
        match self {
            Self::Program(program) => spawn(program, machine, &boot),
            Self::InProcess(agents) => {
                agents.start(boot);
                Ok(())
            }
        }
    }

    pub(super) async fn stop(&self, boot: &AgentBoot) -> Result<(), HardwareError> {
        match self {
            Self::Program(_) => kill(boot).await,
            Self::InProcess(agents) => {
                agents.stop(boot).await;
                Ok(())
            }
        }
    }
}

fn spawn(program: &Path, machine: &Path, boot: &AgentBoot) -> Result<(), HardwareError> {
    let log_path = machine.join("agent.log");
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(io("open", &log_path))?;
    let mut command = tokio::process::Command::new(program);
    for url in &boot.api_urls {
        command.arg("--api-url").arg(url);
    }
    if let Some(ca_file) = &boot.ca_file {
        command.arg("--ca-file").arg(ca_file);
    }
    for address in &boot.mac_addresses {
        command.arg("--mac").arg(address);
    }
    command.arg("--disk").arg(&boot.disk).arg("--state-dir").arg(&boot.state_dir);
    if let Some(steps_dir) = &boot.steps_dir {
        command.arg("--steps-dir").arg(steps_dir);
    }
    // The machine is a part of this host: nobody is to log in to that.
    command.arg("--rescue-program").arg("/bin/true");
    // A group of its own: a signal meant for the conductor's must not reach the machine.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let agent = command.spawn().map_err(io("start", program))?;
    // The kernel lets us go on a moment before the process shows its arguments, by which it is found again.
    while let Some(pid) = agent.id()
        && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty())
        && !is_zombie(pid)
    {
        std::thread::yield_now();
    }
    Ok(())
}

/// Whether a process has ended and only its parent has not been told yet.
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

async fn kill(boot: &AgentBoot) -> Result<(), HardwareError> {
    let deadline = tokio::time::Instant::now() + DEATH_LIMIT;
    loop {
        let agents = agents_of(boot)?;
        if agents.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
            let path = boot.disk.clone();
            return Err(HardwareError::Io { action: "kill the agent that writes", path, source });
        }
        for agent in agents {
            // Gone in the meantime is as good.
            kill_process(agent, Signal::KILL).ok();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The processes that were started with this machine's memory as state directory, and those of the agent's plug-ins: a
/// machine without power runs nothing. Told by their command line, which is
/// there before `spawn` returns: a list of our own would miss one if this process died while it wrote it.
fn agents_of(boot: &AgentBoot) -> Result<Vec<Pid>, HardwareError> {
    let proc = Path::new("/proc");
    let state_dir = boot.state_dir.as_os_str().as_encoded_bytes();
    let mut agents = Vec::new();
    for entry in fs::read_dir(proc).map_err(io("list", proc))?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
        // A process that ended meanwhile has no command line.
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<_> = line.split(|byte| *byte == 0).collect();
        let is_agent = words.windows(2).any(|it| it[0] == b"--state-dir" && it[1] == state_dir);
        if is_agent || is_started_by_agent(&entry.path(), state_dir) {
            agents.push(pid);
        }
    }
    Ok(agents)
}

/// Whether a process is of a plug-in of the machine's agent, which tells those where its memory is.
fn is_started_by_agent(process: &Path, state_dir: &[u8]) -> bool {
    let environment = fs::read(process.join("environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|it| it.strip_prefix(b"BESSEMER_AGENT_STATE_DIR=") == Some(state_dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_agent_process_is_started_and_killed() {
        let home = tempfile::tempdir().unwrap();
        let program = home.path().join("agent");
        fs::write(&program, "#!/bin/sh\nwhile :; do sleep 1; done\n").unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let boot = AgentBoot {
            api_urls: vec!["http://127.0.0.1:1".to_owned()],
            ca_file: None,
            mac_addresses: Vec::new(),
            disk: home.path().join("disk"),
            state_dir: home.path().join("memory"),
            steps_dir: None,
        };
        let runner = AgentRunner::Program(program);
        runner.start(home.path(), boot.clone()).unwrap();
        assert!(!agents_of(&boot).unwrap().is_empty());
        for _ in 0..2 {
            runner.stop(&boot).await.unwrap();
            assert!(agents_of(&boot).unwrap().is_empty());
        }
    }
}
