//! Deploy interface `ansible`: real playbooks by a real `ansible-playbook` through a real SSH server.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bessemer_proto::v1::{DeploymentSpec, Node, NodeSpec, UpdateNodeRequest};
use bessemer_testkit::{
    Cluster, Options, Process, free_port, prost_struct, python, run, verb, wait_for,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::images::{IMAGE, IMAGE_BYTES, LARGE_DISK_BYTES, deployment};

const ANSIBLE: &str = "ansible-core==2.19.3";

const SSH_SERVER: &str = "apt-get install openssh-server";

const NAME: &str = "player";

const LIMIT: Duration = Duration::from_secs(120);

/// Puts the image where the node's `extra` says.
const WRITE: &str = r#"
- hosts: all
  gather_facts: false
  tasks:
    - name: tell
      ansible.builtin.shell: echo "{{ ironic.node.name }} {{ ironic.nodes[0].user }} {{ ironic.image.checksum }}" > "{{ ironic.node.extra.log }}"
    - name: tell who may read what it was told
      delegate_to: localhost
      ansible.builtin.shell: stat -c %a "{{ inventory_file }}" "{{ inventory_dir }}" "{{ inventory_dir }}/variables.json" >> "{{ ironic.node.extra.log }}"
      vars: {ansible_connection: local}
    - name: write the image
      ansible.builtin.shell: curl -sSf "{{ ironic.image.url }}" | dd of="{{ ironic.node.extra.disk }}" bs=1M conv=notrunc,fsync
"#;

/// Notes that it begins, waits for a file, and fails if there is something in it.
const WAIT: &str = r#"
- hosts: all
  gather_facts: false
  tasks:
    - name: begin
      ansible.builtin.shell: echo begun >> "{{ ironic.node.extra.log }}"
    - name: wait at the gate
      ansible.builtin.shell: while [ ! -e "{{ ironic.node.extra.gate }}" ]; do sleep 0.1; done; test ! -s "{{ ironic.node.extra.gate }}"
"#;

struct Site {
    cluster: Cluster,
    node: Node,
    /// The playbooks.
    home: PathBuf,
    /// Ends with the site.
    _ssh_server: Process,
    _directory: TempDir,
}

/// An SSH server for the user who runs the test, with a key of its own.
fn start_ssh_server(home: &Path, port: u16) -> Process {
    for key in ["host_key", "user_key"] {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(home.join(key));
        run(&mut command, SSH_SERVER);
    }
    // As root, it wants the place where it locks others in.
    if std::fs::metadata(home).unwrap().uid() == 0 {
        std::fs::create_dir_all("/run/sshd").unwrap();
    }
    let path = home.join("sshd_config");
    let shown = home.display();
    let config = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {shown}/host_key\nPidFile none\n\
         AuthorizedKeysFile {shown}/user_key.pub\nStrictModes no\nUsePAM no\n\
         PasswordAuthentication no\n"
    );
    std::fs::write(&path, config).unwrap();
    let program = ["/usr/sbin/sshd", "/usr/bin/sshd"].map(PathBuf::from);
    let program = program.into_iter().find(|path| path.exists()).expect(SSH_SERVER);
    let arguments = ["-D", "-e", "-f", path.to_str().unwrap()].map(str::to_owned);
    Process::start("sshd", &program, &arguments, home).unwrap()
}

/// A cluster with one machine, whose playbook is this one.
async fn start(playbook: &str) -> Site {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().to_owned();
    let port = free_port();
    let ssh_server = start_ssh_server(&home, port);
    std::fs::write(home.join("deploy.yaml"), playbook).unwrap();
    let python = python(env!("CARGO_TARGET_TMPDIR").as_ref(), ANSIBLE);
    let conductor_config = format!(
        "[ansible]\nplaybooks_dir = \"{home}\"\nuser = \"{user}\"\nkey_file = \"{home}/user_key\"\nport = {port}\n\
         ansible_playbook = \"{program}\"\n",
        home = home.display(),
        user = run(&mut Command::new("whoami"), "apt-get install coreutils").trim(),
        program = python.with_file_name("ansible-playbook").display(),
    );
    let options = Options { nats: false, conductor_config, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    let node = cluster.available_node(NAME, LARGE_DISK_BYTES).await.unwrap();
    let file = |name: &str| cluster.home().join(name).display().to_string();
    let (log, gate, disk) = (file("log"), file("gate"), cluster.disk(&node).display().to_string());
    let extra = prost_struct([("log", &*log), ("gate", &*gate), ("disk", &*disk)]);
    let python = python.display().to_string();
    let driver_info = prost_struct([("ansible_python_interpreter", &*python)]);
    let spec =
        NodeSpec { extra: Some(extra), driver_info: Some(driver_info), ..NodeSpec::default() };
    let paths = ["spec.extra", "spec.driver_info.ansible_python_interpreter"].map(str::to_owned);
    let update = UpdateNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: NAME.to_owned(),
        spec: Some(spec),
        update_mask: Some(prost_types::FieldMask { paths: paths.to_vec() }),
        ..UpdateNodeRequest::default()
    };
    cluster.client.update_node(update).await.unwrap();
    Site { cluster, node, home, _ssh_server: ssh_server, _directory: directory }
}

impl Site {
    async fn play(&self, spec: DeploymentSpec) {
        let spec = DeploymentSpec { deploy_interface: "ansible".to_owned(), ..spec };
        self.cluster.deploy(NAME, spec).await.unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.cluster.home().join("log")).unwrap_or_default()
    }

    fn open_gate(&self, content: &str) {
        std::fs::write(self.cluster.home().join("gate"), content).unwrap();
    }

    async fn until_begun(&self, times: usize) {
        wait_for("playbook that has begun", LIMIT, async || {
            let begun = self.log().lines().count();
            if begun == times { Ok(()) } else { Err(format!("begun {begun} times")) }
        })
        .await
        .unwrap();
    }

    /// The runs in progress for this site, by their inventories.
    fn runs(&self) -> BTreeSet<String> {
        let mut runs = BTreeSet::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let words: Vec<_> = line.split('\0').collect();
            if words.iter().any(|word| Path::new(word).starts_with(&self.home)) {
                runs.extend(
                    words
                        .iter()
                        .filter(|it| it.ends_with("inventory.json"))
                        .map(|it| (*it).to_owned()),
                );
            }
        }
        runs
    }

    async fn until_runs(&self, count: usize) {
        wait_for("runs of playbooks", LIMIT, async || {
            let runs = self.runs();
            if runs.len() == count { Ok(()) } else { Err(format!("{runs:?}")) }
        })
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playbook_writes_the_image_that_the_cache_prepared() {
    let site = start(WRITE).await;
    site.play(deployment(&site.cluster)).await;
    let active = site.cluster.until_state(NAME, "active").await.unwrap().status.unwrap();
    let image = active.deployment.unwrap().image.unwrap();
    let log = site.log();
    let (told, modes) = log.split_once('\n').unwrap();
    assert!(
        told.starts_with(&format!("{NAME} ")) && told.ends_with(&image.raw_hash_value),
        "{log}"
    );
    assert_eq!(modes, "600\n700\n600\n");
    let written = Command::new("cmp")
        .args(["-n", &IMAGE_BYTES.to_string()])
        .args([&IMAGE.raw, &site.cluster.disk(&site.node)])
        .status();
    assert!(written.unwrap().success(), "the disk does not hold the image");
    site.until_runs(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failing_task_is_named() {
    let site = start(WAIT).await;
    site.open_gate("closed");
    site.play(DeploymentSpec::default()).await;
    let failed = site.cluster.until_state(NAME, "deploy failed").await.unwrap();
    let error = failed.status.unwrap().last_error;
    let expected =
        "playbook deploy.yaml ended with exit status: 2 at task `wait at the gate`: fatal: ";
    assert!(error.starts_with(expected), "{error}");

    // And when the node asks for one that is not there.
    let spec = NodeSpec {
        driver_info: Some(prost_struct([("ansible_deploy_playbook", "../other.yaml")])),
        ..NodeSpec::default()
    };
    let paths = vec!["spec.driver_info.ansible_deploy_playbook".to_owned()];
    let update = UpdateNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: NAME.to_owned(),
        spec: Some(spec),
        update_mask: Some(prost_types::FieldMask { paths }),
        ..UpdateNodeRequest::default()
    };
    site.cluster.client.update_node(update).await.unwrap();
    let error = async || site.cluster.node(NAME).await.unwrap().status.unwrap().last_error;
    site.play(DeploymentSpec::default()).await;
    wait_for("refusal of the playbook", LIMIT, async || {
        let error = error().await;
        let is_it =
            error.contains("driver_info.ansible_deploy_playbook `../other.yaml` is no file in");
        if is_it { Ok(()) } else { Err(error) }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_conductor_runs_it_again_and_the_last_ones_run_is_over() {
    let mut site = start(WAIT).await;
    site.play(DeploymentSpec::default()).await;
    site.until_begun(1).await;
    let claim = site.cluster.node(NAME).await.unwrap().status.unwrap().claim.unwrap();
    let owner: usize = claim.conductor_id.trim_start_matches('c').parse().unwrap();
    site.cluster.conductors[owner].kill();
    site.until_begun(2).await;
    site.until_runs(1).await;
    site.open_gate("");
    site.cluster.until_state(NAME, "active").await.unwrap();
    site.until_runs(0).await;
    assert_eq!(site.log().lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_run_of_a_conductor_that_stands_still_is_over() {
    let site = start(WAIT).await;
    site.play(DeploymentSpec::default()).await;
    site.until_begun(1).await;
    let claim = site.cluster.node(NAME).await.unwrap().status.unwrap().claim.unwrap();
    let owner: usize = claim.conductor_id.trim_start_matches('c').parse().unwrap();
    site.cluster.conductors[owner].pause().unwrap();
    site.until_begun(2).await;
    site.until_runs(1).await;
    site.open_gate("");
    site.cluster.until_state(NAME, "active").await.unwrap();
    // Not before: the node would be handed back to it, and the playbook run once more.
    site.cluster.conductors[owner].resume().unwrap();
    site.cluster.ready(2).await.unwrap();
    site.until_runs(0).await;
    assert_eq!(site.log().lines().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_playbook_is_over() {
    let site = start(WAIT).await;
    site.play(DeploymentSpec::default()).await;
    site.until_begun(1).await;
    site.cluster.client.abort_node(verb(NAME)).await.unwrap();
    site.cluster.until_state(NAME, "deploy failed").await.unwrap();
    site.until_runs(0).await;
}
