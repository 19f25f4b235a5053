//! Deploy interface `bootc`: a container that installs itself on the root device, run by podman.
//!
//! It runs with all privileges: whoever may choose the image is trusted with the machine, as whoever chooses a disk image
//! is. Repeated, it is pulled (layers that are there are not fetched again) and installed anew.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bessemer_configdrive::MAX_SIZE_BYTES;
use bessemer_domain::node::INSTALL_LOG_BYTES_MAX;
use bessemer_process::{Cut, Process};
use bessemer_proto::v1::{BootcInstallTask, BootcOptions, InstallReport, PinnedContainer};
use serde_json::json;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::disk::OpenDisk;
use crate::machine::{FoundDisk, Machine};
use crate::root_device;
use crate::task::{Meter, TaskError, blocking};

/// Above what any installation takes: the step's own limit is the conductor's.
const LIMIT: Duration = Duration::from_secs(6 * 3600);

/// What the root file system leaves free, in MiB: Ironic's figure, for boot partitions and a config drive.
const LEFT_FREE_MIB: u64 = 768;
const _: () = assert!(MAX_SIZE_BYTES < LEFT_FREE_MIB << 20);

/// Where the container finds the keys of who may log in.
const KEYS_INSIDE: &str = "/run/bessemer-authorized-keys";

/// Installs the task's container.
pub(crate) async fn install(
    machine: &Machine,
    task_id: &str,
    task: &BootcInstallTask,
    meter: &Meter,
    stop: &CancellationToken,
) -> Result<InstallReport, TaskError> {
    let started = Instant::now();
    let container = task.container.clone().unwrap_or_default();
    let root = root_device::choose(&machine.disks(), &task.root_device)?;
    let size_mib = OpenDisk::open(&root.path)?.size_bytes() >> 20;
    let root_mib = size_mib.checked_sub(LEFT_FREE_MIB).filter(|left| *left > 0);
    let root_mib = root_mib.ok_or_else(|| TaskError::DiskTooSmall {
        disk: root.disk.name.clone(),
        disk_mib: size_mib,
        needed_mib: LEFT_FREE_MIB,
    })?;
    let mut podman = Podman {
        program: machine.podman(),
        name: format!("bessemer-{}", task_id.replace(|it: char| !it.is_ascii_alphanumeric(), "-")),
        log: Log::default(),
        meter,
        stop,
    };
    // One that an agent before this one began.
    podman.remove().await?;
    let options = task.options.clone().unwrap_or_default();
    let keys = private_file(machine.state_dir(), "authorized-keys", &options.authorized_keys)?;
    let ended = async {
        podman.pull(machine.state_dir(), &container, &task.pull_secret).await?;
        podman
            .run(
                "bootc install",
                run_arguments(&podman.name, &container, &root, root_mib, &options, &keys),
            )
            .await
    }
    .await;
    std::fs::remove_file(&keys).ok();
    // What went wrong first is what is told; the next attempt begins by removing it too.
    if ended.is_err()
        && let Err(error) = podman.remove().await
    {
        tracing::warn!(%error, "the container is left behind");
    }
    ended?;
    let path = root.path.clone();
    blocking(move || {
        let disk = OpenDisk::open(&path)?;
        disk.flush()?;
        disk.reread_partition_table();
        Ok(())
    })
    .await?;
    Ok(InstallReport {
        device: root.disk.name,
        duration: started.elapsed().try_into().ok(),
        log: podman.log.text(),
    })
}

/// What podman is told: `bootc install to-disk` as Ironic's agent runs it.
fn run_arguments(
    name: &str,
    container: &PinnedContainer,
    root: &FoundDisk,
    root_mib: u64,
    options: &BootcOptions,
    keys: &Path,
) -> Vec<String> {
    let device = root.path.display().to_string();
    let mut arguments: Vec<String> = [
        "run",
        "--rm",
        "--pull=never",
        "--privileged",
        "--pid=host",
        "--network=host",
        "--name",
        name,
    ]
    .map(str::to_owned)
    .into();
    arguments.extend(
        ["--security-opt=label=type:unconfined_t", "--volume=/dev:/dev"].map(str::to_owned),
    );
    // `bootc` copies its own image out of podman's storage.
    arguments.push("--volume=/var/lib/containers:/var/lib/containers".to_owned());
    let is_device =
        std::fs::metadata(&root.path).is_ok_and(|metadata| metadata.file_type().is_block_device());
    if !is_device {
        arguments.push(format!("--volume={device}:{device}"));
    }
    if !options.authorized_keys.is_empty() {
        arguments.push(format!("--volume={}:{KEYS_INSIDE}:ro", keys.display()));
    }
    arguments.push(container.reference.clone());
    arguments
        .extend(["bootc", "install", "to-disk", "--wipe", "--skip-fetch-check"].map(str::to_owned));
    arguments.push(format!("--root-size={root_mib}M"));
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        arguments.push("--disable-selinux".to_owned());
    }
    if options.tpm2_luks {
        arguments.push("--block-setup=tpm2-luks".to_owned());
    }
    if !options.authorized_keys.is_empty() {
        arguments.push(format!("--root-ssh-authorized-keys={KEYS_INSIDE}"));
    }
    if !is_device {
        arguments.push("--via-loopback".to_owned());
    }
    arguments.push(device);
    arguments
}

/// podman, as one task uses it.
struct Podman<'a> {
    program: &'a Path,
    name: String,
    log: Log,
    meter: &'a Meter,
    stop: &'a CancellationToken,
}

impl Podman<'_> {
    /// Fetches the container. The login is gone from the disk before anything of the container runs.
    async fn pull(
        &mut self,
        state_dir: &Path,
        container: &PinnedContainer,
        pull_secret: &str,
    ) -> Result<(), TaskError> {
        let mut arguments = vec!["pull".to_owned()];
        if container.insecure {
            arguments.push("--tls-verify=false".to_owned());
        }
        let host = container.reference.split('/').next().unwrap_or_default();
        let login = match pull_secret {
            "" => None,
            secret => {
                let logins = json!({ "auths": { host: { "auth": secret } } }).to_string();
                Some(private_file(state_dir, "registry-login", &logins)?)
            }
        };
        arguments.extend(login.iter().map(|path| format!("--authfile={}", path.display())));
        arguments.push(container.reference.clone());
        let ended = self.run("podman pull", arguments).await;
        login.iter().for_each(|path| drop(std::fs::remove_file(path)));
        ended
    }

    /// Ends a container of this task that is left, and everything in it.
    async fn remove(&self) -> Result<(), TaskError> {
        let mut command = Command::new(self.program);
        command.args(["rm", "--force", "--ignore", "--time=0", &self.name]);
        let ended =
            command.kill_on_drop(true).output().await.map_err(|error| self.not_run(&error))?;
        if ended.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr);
        let message =
            format!("podman rm of {} ended with {}: {}", self.name, ended.status, said.trim());
        Err(TaskError::ContainerFailed { message })
    }

    async fn run(&mut self, what: &str, arguments: Vec<String>) -> Result<(), TaskError> {
        self.meter.set_message(what);
        // podman tells how far it is on standard error, the container on both: all of it in one order.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(self.program).args(arguments);
        let process = Process::spawn_watched(command).map_err(|error| self.not_run(&error))?;
        let (log, meter) = (&mut self.log, self.meter);
        let hear = |line: &[u8]| {
            let line = String::from_utf8_lossy(line);
            let line = line.trim_end();
            if !line.is_empty() {
                tracing::info!(line, "container prints");
                meter.set_message(line);
                log.hear(line);
            }
        };
        let ended = process.finish(Vec::new(), LIMIT, self.stop, hear).await;
        let failed = |how: String| TaskError::ContainerFailed {
            message: format!("{what} {how}; it printed last:\n{}", log.text()),
        };
        match ended {
            Ok((status, _)) if status.success() => Ok(()),
            Ok((status, _)) => Err(failed(format!("ended with {status}"))),
            Err(Cut::Stopped) => Err(TaskError::Cancelled),
            Err(Cut::TimedOut) => Err(failed(format!("was killed after {} s", LIMIT.as_secs()))),
            Err(Cut::Io(error)) => Err(failed(format!("cannot be waited for: {error}"))),
        }
    }

    fn not_run(&self, error: &std::io::Error) -> TaskError {
        let program = self.program.to_owned();
        match error.kind() {
            ErrorKind::NotFound => TaskError::NoPodman { program },
            _ => TaskError::ContainerFailed {
                message: format!("{} cannot be run: {error}", program.display()),
            },
        }
    }
}

/// The end of what was printed.
#[derive(Debug, Default)]
struct Log {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Log {
    fn hear(&mut self, line: &str) {
        let line: String = line.chars().take(1024).collect();
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
        while self.bytes > INSTALL_LOG_BYTES_MAX {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len() + 1;
        }
    }

    fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// A file that only the superuser reads.
fn private_file(directory: &Path, name: &str, content: &str) -> Result<PathBuf, TaskError> {
    use std::io::Write;
    let path = directory.join(name);
    let written = (|| {
        // One of an earlier attempt may be there, with whatever rights.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(content.as_bytes())
    })();
    let message = |error| format!("cannot write {}: {error}", path.display());
    written.map_err(|error| TaskError::Internal { message: message(error) })?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        let mut log = Log::default();
        for number in 0..10_000 {
            log.hear(&format!("line {number}"));
        }
        let text = log.text();
        assert!(text.len() < INSTALL_LOG_BYTES_MAX && text.len() > INSTALL_LOG_BYTES_MAX - 64);
        assert!(text.ends_with("line 9998\nline 9999"));
    }

    #[test]
    fn podman_is_told_what_ironic_tells_it() {
        let container =
            PinnedContainer { reference: "host/os@sha256:ab".to_owned(), insecure: false };
        let root = FoundDisk { path: PathBuf::from("/dev/null"), disk: Default::default() };
        let options = BootcOptions { authorized_keys: "ssh-ed25519 A".to_owned(), tpm2_luks: true };
        let told = run_arguments("n", &container, &root, 1000, &options, Path::new("/keys"));
        let place = told.iter().position(|it| *it == container.reference).unwrap();
        for given in [
            "--privileged",
            "--pid=host",
            "--volume=/dev:/dev",
            "--volume=/keys:/run/bessemer-authorized-keys:ro",
        ] {
            assert!(told[..place].iter().any(|it| it == given), "{given} in {told:?}");
        }
        assert_eq!(told[place + 1..place + 4], ["bootc", "install", "to-disk"]);
        for given in [
            "--wipe",
            "--skip-fetch-check",
            "--root-size=1000M",
            "--block-setup=tpm2-luks",
            "--root-ssh-authorized-keys=/run/bessemer-authorized-keys",
        ] {
            assert!(told[place..].iter().any(|it| it == given), "{given} in {told:?}");
        }
        assert_eq!(told.last().unwrap(), "/dev/null");
    }
}
