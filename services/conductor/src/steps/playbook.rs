//! Deploy interface `ansible`: a playbook of the operator's, run here, which reaches the agent's machine by SSH.
//!
//! It is run again by a conductor that takes over, and when the machine could not be reached: that doing a thing twice
//! does no harm is what playbooks are written for.

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bessemer_domain::node::{
    Deployment, DeploymentSpec, ImageChecksum, ImageDownloadSource, ImageSpec, Node, StepResult,
};
use bessemer_process::{Cut, Process};
use bessemer_proto::v1::Progress;
use bessemer_wire::deployment::image_spec_to_proto;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{Failure, Job, Trouble, boot_agent, node_of};
use crate::Context;
use crate::config::AnsibleConfig;

/// Exit status of `ansible-playbook` when it could not reach a machine.
const UNREACHABLE: i32 = 4;

/// Longest line of a playbook that is repeated in an error.
const SHOWN_CHARACTERS_MAX: usize = 400;

/// Runs the node's playbook against the machine to its end.
pub(super) async fn run(context: &Context, job: &Job) -> Result<StepResult, Failure> {
    let Some(ansible) = &context.ansible else {
        let message = format!(
            "conductor {} runs no playbooks: its configuration has no [ansible]",
            context.own.id
        );
        return Err(Failure::new("ANSIBLE_NOT_CONFIGURED", message));
    };
    let node = node_of(context, job)?;
    let playbook = playbook(ansible, &node)?;
    let image = image(context, job, &node).await?;
    job.persist(async || {
        let session = boot_agent::connected(context, job, context.limits.silence()).await?;
        let Some(address) = session.address else {
            let message = "the agent's session does not tell the machine's address";
            return Err(Trouble::Final(Failure::new("NO_ADDRESS", message)));
        };
        let files = Files::write(ansible, &node, &address.to_string(), &image)
            .map_err(|error| Trouble::Passing(format!("cannot write the run's files: {error}")))?;
        context.entitled(job.node, job.epoch).await;
        once(context, job, ansible, &playbook, &files).await
    })
    .await?;
    Ok(StepResult::Done)
}

/// The playbook that the node names, or the usual one. Only those in the directory may be named: whoever may change a
/// node must not run what they like here.
fn playbook(ansible: &AnsibleConfig, node: &Node) -> Result<PathBuf, Failure> {
    let name = setting(node, "ansible_deploy_playbook").unwrap_or(&ansible.deploy_playbook);
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    let path = ansible.playbooks_dir.join(name);
    if !is_name || !path.is_file() {
        let message = format!(
            "driver_info.ansible_deploy_playbook `{name}` is no file in {}",
            ansible.playbooks_dir.display()
        );
        return Err(Failure::new("NO_PLAYBOOK", message));
    }
    Ok(path)
}

fn setting<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.spec.driver_info.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// What the playbook is told of the image: where the machine can read it, and how to know that it is right.
async fn image(context: &Context, job: &Job, node: &Node) -> Result<Value, Failure> {
    let Some(deployment) = &node.deployment else { return Ok(Value::Null) };
    let spec = &deployment.spec;
    let Some(image) = &spec.image else { return Ok(Value::Null) };
    match spec.image_download_source {
        ImageDownloadSource::Http => Ok(json!({
            "url": image.source,
            "source": image.source,
            "disk_format": image.disk_format,
            "checksum": checksum(image),
        })),
        ImageDownloadSource::Local => {
            let request = image_spec_to_proto(image);
            let found =
                job.persist(async || context.images.prepare(&request, |_| {}).await).await?;
            let urls = context.images.urls_for(deployment.id, &found);
            let resolved = found.resolved.unwrap_or_default();
            Ok(json!({
                "url": urls.first().map(|url| format!("{url}/raw")),
                "source": image.source,
                "disk_format": "raw",
                "checksum": format!("{}:{}", resolved.raw_hash_algo, resolved.raw_hash_value),
                "size_bytes": resolved.raw_size_bytes,
            }))
        }
    }
}

/// As Ansible's `get_url` takes it.
fn checksum(image: &ImageSpec) -> Option<String> {
    match image.checksum.as_ref()? {
        ImageChecksum::Digest { algorithm, value } => Some(format!("{algorithm}:{value}")),
        ImageChecksum::File { url } => Some(format!("sha256:{url}")),
    }
}

/// What one run needs, in a directory that nobody else can look into and that goes with the run.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn write(
        ansible: &AnsibleConfig,
        node: &Node,
        address: &str,
        image: &Value,
    ) -> std::io::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("bessemer-playbook-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir()?;
        let files = Self { directory };
        write(&files.inventory(), &inventory(ansible, node, address))?;
        write(&files.variables(), &variables(ansible, node, address, image))?;
        Ok(files)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn inventory(&self) -> PathBuf {
        self.path().join("inventory.json")
    }

    fn variables(&self) -> PathBuf {
        self.path().join("variables.json")
    }
}

fn write(path: &Path, content: &Value) -> std::io::Result<()> {
    let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.to_string().as_bytes())
}

fn user<'a>(ansible: &'a AnsibleConfig, node: &'a Node) -> &'a str {
    setting(node, "ansible_deploy_username").unwrap_or(&ansible.user)
}

/// One host, by the node's id. A ramdisk has another host key with every boot, so there is none to compare with.
fn inventory(ansible: &AnsibleConfig, node: &Node, address: &str) -> Value {
    let mut host = json!({
        "ansible_host": address,
        "ansible_port": ansible.port,
        "ansible_user": user(ansible, node),
        "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR",
    });
    if let Some(key_file) = &ansible.key_file {
        host["ansible_ssh_private_key_file"] = json!(key_file);
    }
    if let Some(interpreter) = setting(node, "ansible_python_interpreter") {
        host["ansible_python_interpreter"] = json!(interpreter);
    }
    json!({"all": {"hosts": {(node.id.to_string()): host}}})
}

/// Ironic's names, as far as there is such a thing here.
fn variables(ansible: &AnsibleConfig, node: &Node, address: &str, image: &Value) -> Value {
    let deployment = node.deployment.as_ref();
    let hints =
        deployment.map(|Deployment { spec: DeploymentSpec { root_device, .. }, .. }| root_device);
    let described = json!({
        "name": node.id,
        "ip": address,
        "user": user(ansible, node),
        "extra": node.spec.extra,
    });
    json!({"ironic": {
        "nodes": [described],
        "node": {
            "uuid": node.id,
            "name": node.name,
            "ip": address,
            "properties": node.spec.properties,
            "extra": node.spec.extra,
            "resource_class": node.spec.resource_class,
        },
        "deployment": {"id": deployment.map(|deployment| deployment.id)},
        "image": image,
        "root_device_hints": hints,
    }})
}

/// One run. A machine that cannot be reached may only not have started its SSH server yet.
async fn once(
    context: &Context,
    job: &Job,
    ansible: &AnsibleConfig,
    playbook: &Path,
    files: &Files,
) -> Result<(), Trouble> {
    let mut command = Command::new(&ansible.ansible_playbook);
    command
        .arg("--inventory")
        .arg(files.inventory())
        .arg("--extra-vars")
        .arg(format!("@{}", files.variables().display()))
        .arg(playbook)
        .current_dir(files.path())
        .env("ANSIBLE_HOME", files.path().join("home"))
        .env("ANSIBLE_LOCAL_TEMP", files.path().join("tmp"))
        .env("ANSIBLE_HOST_KEY_CHECKING", "False")
        // One connection to stay behind would be a process to stay behind.
        .env("ANSIBLE_SSH_ARGS", "-o ControlMaster=no")
        .env("ANSIBLE_PIPELINING", "True")
        .env("ANSIBLE_NOCOLOR", "True")
        .env("PYTHONUNBUFFERED", "1");
    if let Some(config_file) = &ansible.config_file {
        command.env("ANSIBLE_CONFIG", config_file);
    }
    let program = ansible.ansible_playbook.display();
    let process = Process::spawn_watched(command).map_err(|error| {
        let message = format!("cannot run {program}: {error}");
        Trouble::Final(Failure::new("ANSIBLE_NOT_FOUND", message))
    })?;
    let mut story = Story::default();
    // The step's own deadline and the claim end it by dropping this.
    let (limit, never) = (job.step.limit(), CancellationToken::new());
    let hear = |line: &[u8]| {
        if let Some(task) = story.hear(&String::from_utf8_lossy(line)) {
            let (step, message) = (job.step.to_string(), task.to_owned());
            context.progress.note(job.node, Progress { step, message, ..Progress::default() });
        }
    };
    let ended = process.finish(Vec::new(), limit, &never, hear).await;
    let (status, last_words) = ended.map_err(|cut| match cut {
        Cut::Io(error) => Trouble::Passing(format!("cannot wait for {program}: {error}")),
        Cut::Stopped | Cut::TimedOut => Trouble::Passing(format!("{program} took too long")),
    })?;
    if status.success() {
        return Ok(());
    }
    let name = playbook.file_name().unwrap_or_default().to_string_lossy();
    let message =
        format!("playbook {name} ended with {status}{}{}", story.reason(), last_words.as_reason());
    match status.code() {
        // Killed: this conductor stood still for a while, and nobody could know whether it still drives the machine.
        Some(UNREACHABLE) | None => Err(Trouble::Passing(message)),
        // It is not installed.
        Some(127) => Err(Trouble::Final(Failure::new("ANSIBLE_NOT_FOUND", message))),
        _ => Err(Trouble::Final(Failure::new("PLAYBOOK_FAILED", message))),
    }
}

/// What a playbook's output tells: where it is, and what went wrong.
#[derive(Debug, Default)]
struct Story {
    task: String,
    fault: Option<String>,
}

impl Story {
    /// Hears a line of `ansible-playbook`'s usual output; the task, when it begins another one.
    fn hear(&mut self, line: &str) -> Option<&str> {
        tracing::info!(line, "playbook says");
        if let Some(rest) = line.strip_prefix("TASK [") {
            rest.rsplit_once(']').map_or(rest, |(task, _)| task).clone_into(&mut self.task);
            return Some(&self.task);
        }
        // What was to be ignored is told by the next line only.
        let is_fault = ["fatal: ", "failed: "].iter().any(|start| line.starts_with(start));
        if is_fault {
            let shown: String = line.chars().take(SHOWN_CHARACTERS_MAX).collect();
            self.fault = Some(format!(" at task `{}`: {shown}", self.task));
        } else if line.starts_with("...ignoring") {
            self.fault = None;
        }
        None
    }

    fn reason(&self) -> String {
        self.fault.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failing_task_is_found_and_an_ignored_one_is_not() {
        let mut story = Story::default();
        assert_eq!(story.hear("TASK [look] *********"), Some("look"));
        assert_eq!(story.hear("fatal: [n1]: FAILED! => {\"rc\": 1}"), None);
        assert_eq!(story.hear("...ignoring"), None);
        assert_eq!(story.reason(), "");
        assert_eq!(story.hear("TASK [write : image [1]] ****"), Some("write : image [1]"));
        story.hear("fatal: [n1]: FAILED! => {\"msg\": \"no disk\"}");
        let reason = " at task `write : image [1]`: fatal: [n1]: FAILED! => {\"msg\": \"no disk\"}";
        assert_eq!(story.reason(), reason);
    }
}
