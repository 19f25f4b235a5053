//! Deploy interface `bootc`: containers from Debian's registry, pulled and run by a real podman.
//!
//! No distribution packages `bootc` for Debian, so the container carries a stand-in: it takes the same arguments, and puts
//! a partition table and what it was told on the disk. That it is a bootable system is not tested here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bessemer_proto::v1::{
    BootcOptions, ConfigDrive, DeploymentSpec, ImageSpec, Node, NodeSpec, UpdateNodeRequest,
};
use bessemer_testkit::{Cluster, Options, Process, free_port, prost_struct, run, verb, wait_for};
use tempfile::TempDir;
use uuid::Uuid;

use crate::deploy::assert_config_drive;

const NAME: &str = "sailor";

const DISK_BYTES: u64 = 2 << 30;

const PODMAN: &str = "apt-get install podman runc busybox-static";

/// `me:word`, as `htpasswd -B` writes it.
const LOGINS: &str = "me:$2b$05$abcdefghijklmnopqrstuuQDoL5Sa/TtfS/XN4AY/jgq.HBbO1BTu\n";

/// `me:word` in base64.
const PULL_SECRET: &str = "bWU6d29yZA==";

/// Takes the arguments of `bootc install to-disk`. The device comes last.
const STAND_IN: &str = r#"#!/bin/sh
set -e
echo "installing WORD by $*"
[ "$1 $2" = "install to-disk" ]
for device; do :; done
dd if=/table of="$device" bs=512 conv=notrunc 2>/dev/null
{ echo "WORD $*"; cat /run/bessemer-authorized-keys; } | dd of="$device" bs=1M seek=1 conv=notrunc,fsync 2>/dev/null
echo "installed on $device"
"#;

const BROKEN: &str = "#!/bin/sh\necho 'the disk is not to my taste'\nexit 3\n";

/// A registry that wants a login, and podman with a storage of its own.
struct Harbour {
    host: String,
    home: PathBuf,
    _registry: Process,
    _directory: TempDir,
}

impl Harbour {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_owned();
        let host = format!("127.0.0.1:{}", free_port());
        let shown = home.display();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {shown}/registry}}}}\nhttp: {{addr: '{host}'}}\n\
             auth: {{htpasswd: {{realm: test, path: {shown}/logins}}}}\n"
        );
        std::fs::write(home.join("registry.yml"), config).unwrap();
        std::fs::write(home.join("logins"), LOGINS).unwrap();
        // Sandboxes that cannot raise limits are served, too: no limits, and the runtime that knows every version of cgroups.
        let containers = "[containers]\ndefault_ulimits = []\n[engine]\nruntime = \"runc\"\n";
        std::fs::write(home.join("containers.conf"), containers).unwrap();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{shown}/storage\"\nrunroot = \"{shown}/run\"\n"
        );
        std::fs::write(home.join("storage.conf"), storage).unwrap();
        let arguments = ["serve".to_owned(), home.join("registry.yml").display().to_string()];
        let program = Path::new("docker-registry");
        let registry = Process::start("registry", program, &arguments, &home).unwrap();
        wait_for("registry", Duration::from_secs(60), async || {
            tokio::net::TcpStream::connect(&host).await.map(drop).map_err(|it| it.to_string())
        })
        .await
        .unwrap();
        Self { host, home, _registry: registry, _directory: directory }
    }

    fn environment(&self) -> Vec<(String, String)> {
        let file = |name: &str| self.home.join(name).display().to_string();
        let of = |name: &str, path| (name.to_owned(), file(path));
        vec![
            of("CONTAINERS_CONF", "containers.conf"),
            of("CONTAINERS_STORAGE_CONF", "storage.conf"),
        ]
    }

    fn podman(&self, arguments: &[&str]) -> String {
        run(Command::new("podman").args(arguments).envs(self.environment()), PODMAN)
    }

    /// Puts a container into the registry whose `bootc` is this script. Answers its digest.
    fn put(&self, tag: &str, script: &str) -> String {
        let root = self.home.join("root");
        std::fs::create_dir_all(root.join("bin")).unwrap();
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect(PODMAN);
        for name in ["sh", "dd", "cat", "echo", "["] {
            let link = root.join("bin").join(name);
            std::fs::remove_file(&link).ok();
            std::os::unix::fs::symlink("busybox", &link).unwrap();
        }
        let bootc = root.join("bin/bootc");
        std::fs::write(&bootc, script).unwrap();
        run(Command::new("chmod").arg("755").arg(&bootc), "apt-get install coreutils");
        // An MBR with one partition, from 1 MiB to 129 MiB.
        let table = self.home.join("table");
        std::fs::File::create(&table).unwrap().set_len(DISK_BYTES).unwrap();
        let script = format!(
            "echo 'start=2048, size=262144, type=83' | /sbin/sfdisk -q -X dos {}",
            table.display()
        );
        run(Command::new("sh").args(["-c", &script]), "apt-get install fdisk");
        let sector = std::fs::read(&table).unwrap()[..512].to_vec();
        std::fs::write(root.join("table"), sector).unwrap();

        let archive = self.home.join("root.tar");
        run(
            Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."),
            "apt-get install tar",
        );
        let image = format!("{}/ship/os:{tag}", self.host);
        self.podman(&["import", "-q", &archive.display().to_string(), &image]);
        let digest = self.home.join("digest");
        self.podman(&[
            "push",
            "-q",
            "--tls-verify=false",
            "--creds=me:word",
            &format!("--digestfile={}", digest.display()),
            &image,
        ]);
        self.podman(&["rmi", "--all", "--force"]);
        std::fs::read_to_string(digest).unwrap().trim().to_owned()
    }

    async fn cluster(&self, environment: Vec<(String, String)>) -> (Cluster, Node) {
        let options = Options {
            nats: false,
            members: 1,
            conductors: 1,
            cache_config: format!("[http]\ninsecure_registries = [\"{}\"]\n", self.host),
            conductor_environment: environment,
            ..Options::default()
        };
        let cluster = Cluster::start(&options).await.unwrap();
        let node = cluster.available_node(NAME, DISK_BYTES).await.unwrap();
        (cluster, node)
    }

    fn deployment(&self, tag: &str) -> DeploymentSpec {
        let source = format!("oci://{}/ship/os:{tag}", self.host);
        DeploymentSpec {
            image: Some(ImageSpec { source, ..ImageSpec::default() }),
            deploy_interface: "bootc".to_owned(),
            bootc: Some(BootcOptions {
                authorized_keys: "ssh-ed25519 AAAA captain\n".to_owned(),
                tpm2_luks: false,
            }),
            config_drive: Some(ConfigDrive {
                meta_data: Some(prost_struct([("hostname", "pier")])),
                user_data: b"#cloud-config\n".to_vec(),
                ..ConfigDrive::default()
            }),
            ..DeploymentSpec::default()
        }
    }
}

async fn set_pull_secret(cluster: &Cluster) {
    let update = UpdateNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: NAME.to_owned(),
        spec: Some(NodeSpec {
            driver_info: Some(prost_struct([("image_pull_secret", PULL_SECRET)])),
            ..NodeSpec::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["spec.driver_info.image_pull_secret".to_owned()],
        }),
        ..UpdateNodeRequest::default()
    };
    cluster.client.update_node(update).await.unwrap();
}

async fn failure(cluster: &Cluster, deployment: DeploymentSpec) -> String {
    cluster.deploy(NAME, deployment).await.unwrap();
    let node = wait_for("failed deployment", Duration::from_secs(120), async || {
        let status = cluster.node(NAME).await.map_err(|it| it.to_string())?.status.unwrap();
        match status.provision_state.as_str() {
            "deploy failed" => Ok(status),
            other => Err(format!("{other} ({})", status.last_error)),
        }
    });
    node.await.unwrap().last_error
}

/// What the stand-in left in the partition.
fn installed(cluster: &Cluster, node: &Node) -> String {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; 4096];
    let disk = std::fs::File::open(cluster.disk(node)).unwrap();
    disk.read_exact_at(&mut bytes, 1 << 20).unwrap();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_container_that_the_tag_meant_installs_itself() {
    let harbour = Harbour::open().await;
    let first = harbour.put("latest", &STAND_IN.replace("WORD", "one"));
    harbour.put("broken", BROKEN);
    let (cluster, node) = harbour.cluster(harbour.environment()).await;

    let error = failure(&cluster, harbour.deployment("latest")).await;
    assert!(error.contains("401"), "{error}");

    set_pull_secret(&cluster).await;
    cluster.deploy(NAME, harbour.deployment("latest")).await.unwrap();
    let active = cluster.until_state(NAME, "active").await.unwrap();
    let deployment = active.status.unwrap().deployment.unwrap();
    let reference = format!("{}/ship/os@{first}", harbour.host);
    assert_eq!(deployment.container.unwrap().reference, reference);
    let report = deployment.install.unwrap();
    assert!(report.log.contains("installing one by install to-disk --wipe"), "{}", report.log);
    assert!(report.log.contains("installed on "), "{}", report.log);
    let on_disk = installed(&cluster, &node);
    // 2 GiB less the 768 MiB that stay free.
    for told in [
        "one install to-disk",
        "--skip-fetch-check",
        "--root-size=1280M",
        "--via-loopback",
        "ssh-ed25519 AAAA captain",
    ] {
        assert!(on_disk.contains(told), "{told} in {on_disk}");
    }
    assert_config_drive(&cluster, &node, "pier");
    let events = serde_json::to_string(
        &cluster
            .events(NAME)
            .await
            .unwrap()
            .iter()
            .map(|it| String::from_utf8_lossy(&it.record).into_owned())
            .collect::<Vec<_>>(),
    )
    .unwrap();
    assert!(!events.contains("registry-login") && events.contains("installed on "), "{events}");

    // The tag means another one now.
    let second = harbour.put("latest", &STAND_IN.replace("WORD", "two"));
    assert_ne!(first, second);
    cluster.client.rebuild_node(rebuild()).await.unwrap();
    let active = cluster.until_state(NAME, "active").await.unwrap();
    let deployment = active.status.unwrap().deployment.unwrap();
    assert!(deployment.container.unwrap().reference.ends_with(&second));
    assert!(installed(&cluster, &node).starts_with("two "));

    cluster.client.undeploy_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "available").await.unwrap();
    let error = failure(&cluster, harbour.deployment("broken")).await;
    assert!(error.contains("the disk is not to my taste") && error.contains("3"), "{error}");
    let left = harbour.podman(&["ps", "--all", "--quiet"]);
    assert_eq!(left.trim(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_podman_it_says_so() {
    let harbour = Harbour::open().await;
    harbour.put("latest", STAND_IN);
    let nowhere = ("BESSEMER_AGENT_PODMAN".to_owned(), "/no/such/podman".to_owned());
    let (cluster, _) = harbour.cluster(vec![nowhere]).await;
    set_pull_secret(&cluster).await;
    let error = failure(&cluster, harbour.deployment("latest")).await;
    assert!(error.contains("needs podman") && error.contains("/no/such/podman"), "{error}");
}

fn rebuild() -> bessemer_proto::v1::DeployNodeRequest {
    bessemer_proto::v1::DeployNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: NAME.to_owned(),
        ..Default::default()
    }
}
