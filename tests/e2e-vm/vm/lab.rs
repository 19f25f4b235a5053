//! The machine room: libvirt with configuration and directories of its own, and sushy-tools, which is the BMC of every
//! machine that libvirt defines.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use bessemer_testkit::{Process, free_port, wait_for};
use tokio::net::TcpStream;

use crate::domain::Domain;

/// How long a server may take until it answers.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Neither users, nor cgroups, nor security modules, nor a log daemon: the test is root, perhaps in a container.
const QEMU_CONF: &str = "user = \"root\"\ngroup = \"root\"\ndynamic_ownership = 0\nremember_owner = 0\n\
    cgroup_controllers = []\nsecurity_driver = \"none\"\nnamespaces = []\nstdio_handler = \"file\"\n";

/// Starts libvirtd where it sees directories of ours in place of the system's: $0 is their parent.
const LIBVIRTD: &str = r#"
    set -e
    for pair in etc:/etc/libvirt lib:/var/lib/libvirt run:/run/libvirt cache:/var/cache/libvirt log:/var/log/libvirt; do
        mkdir -p "$0/${pair%%:*}" "${pair#*:}"
        mount --bind "$0/${pair%%:*}" "${pair#*:}"
    done
    exec /usr/sbin/libvirtd --config "$0/libvirtd.conf" --pid-file "$0/libvirtd.pid"
"#;

/// libvirt and BMCs. Machines and servers end when it is dropped.
#[derive(Debug)]
pub(crate) struct Lab {
    directory: PathBuf,
    uri: String,
    bmc_port: u16,
    domains: Vec<String>,
    bmcs: Option<Process>,
    libvirtd: Process,
}

impl Lab {
    /// Starts the servers, with their files in `directory`.
    pub(crate) async fn start(directory: &Path, sushy_emulator: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory.join("etc"))?;
        std::fs::create_dir_all(directory.join("media"))?;
        std::fs::write(directory.join("etc/qemu.conf"), QEMU_CONF)?;
        let text = directory.display();
        let config = format!("unix_sock_dir = \"{text}\"\nauth_unix_rw = \"none\"\n");
        std::fs::write(directory.join("libvirtd.conf"), config)?;
        let arguments = ["--mount", "--propagation", "private", "sh", "-c", LIBVIRTD];
        let mut arguments: Vec<_> = arguments.map(str::to_owned).into();
        arguments.push(text.to_string());
        let libvirtd =
            Process::start("libvirtd", Path::new("/usr/bin/unshare"), &arguments, directory)?;
        let mut lab = Self {
            directory: directory.to_owned(),
            uri: format!("qemu+unix:///system?socket={text}/libvirt-sock"),
            bmc_port: free_port(),
            domains: Vec::new(),
            bmcs: None,
            libvirtd,
        };
        lab.ready().await.with_context(|| lab.last_words())?;
        // sushy-tools puts the media into the pool of that name.
        let media = directory.join("media").display().to_string();
        lab.virsh(&["pool-define-as", "default", "dir", "--target", &media])?;
        lab.virsh(&["pool-start", "default"])?;
        lab.start_bmcs(sushy_emulator).await?;
        Ok(lab)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        wait_for("libvirt that answers", READY_LIMIT, async || {
            self.virsh(&["version"]).map(drop).map_err(|error| error.to_string())
        })
        .await
    }

    async fn start_bmcs(&mut self, sushy_emulator: &Path) -> anyhow::Result<()> {
        let state = self.directory.join("bmc-state");
        std::fs::create_dir_all(&state)?;
        let config = format!(
            "SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\n\
             SUSHY_EMULATOR_LISTEN_PORT = {port}\n\
             SUSHY_EMULATOR_LIBVIRT_URI = '{uri}'\n\
             SUSHY_EMULATOR_STATE_DIR = '{state}'\n\
             SUSHY_EMULATOR_BOOT_LOADER_MAP = {{\n\
             \x20 'UEFI': {{'x86_64': '/usr/share/OVMF/OVMF_CODE_4M.fd'}},\n\
             \x20 'Legacy': {{'x86_64': None}},\n\
             }}\n\
             SUSHY_EMULATOR_SECURE_BOOT_ENABLED_NVRAM = '/usr/share/OVMF/OVMF_VARS_4M.ms.fd'\n\
             SUSHY_EMULATOR_SECURE_BOOT_DISABLED_NVRAM = '/usr/share/OVMF/OVMF_VARS_4M.fd'\n",
            port = self.bmc_port,
            uri = self.uri,
            state = state.display(),
        );
        let path = self.directory.join("sushy.conf");
        std::fs::write(&path, config)?;
        let arguments = ["--config".to_owned(), path.display().to_string()];
        self.bmcs = Some(Process::start("bmcs", sushy_emulator, &arguments, &self.directory)?);
        listening("the BMCs", self.bmc_port).await.with_context(|| self.last_words())
    }

    /// Puts a machine into the room, switched off.
    pub(crate) fn install(&mut self, domain: &Domain) -> anyhow::Result<()> {
        let path = self.directory.join(format!("{}.xml", domain.name));
        std::fs::write(&path, domain.xml(&self.directory))?;
        self.virsh(&["define", &path.display().to_string()])?;
        self.domains.push(domain.name.clone());
        Ok(())
    }

    pub(crate) fn bmc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.bmc_port)
    }

    pub(crate) fn last_words(&self) -> String {
        let processes = self.bmcs.iter().chain([&self.libvirtd]);
        processes.map(Process::last_words).collect::<Vec<_>>().join("\n")
    }

    fn virsh(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("virsh")
            .args(["--quiet", "--connect", &self.uri])
            .args(arguments)
            .output()
            .context("cannot start virsh; run installs it")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "virsh {arguments:?} failed: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Lab {
    /// The machines' processes are nobody's children; the BMCs must not switch them on again meanwhile.
    fn drop(&mut self) {
        self.bmcs = None;
        for domain in &self.domains {
            // One that is off cannot be destroyed.
            self.virsh(&["destroy", domain]).ok();
        }
    }
}

/// Waits until a server accepts connections.
pub(crate) async fn listening(what: &str, port: u16) -> anyhow::Result<()> {
    wait_for(&format!("connection to {what}"), READY_LIMIT, async || {
        let connected = TcpStream::connect(("127.0.0.1", port)).await;
        connected.map(drop).map_err(|error| error.to_string())
    })
    .await
}
