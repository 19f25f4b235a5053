//! A machine behind a BMC that speaks IPMI: the conductor switches it with `ipmitool`, and has nothing else of it. Told to boot
//! from the network, it does what iPXE does with the conductor's script.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bessemer_proto::v1::{CreateNodeRequest, DeploymentSpec, Node, NodeSpec};
use bessemer_testkit::{Cluster, IpmiSimulator, Options, binary, free_port, prost_struct, verb};
use tempfile::TempDir;
use uuid::Uuid;

use crate::images::{IMAGE_BYTES, assert_holds_image, deployment};
use crate::refusal::assert_refused;

const NAME: &str = "behind-a-bmc";
const ADDRESS: &str = "52:54:00:0b:0c:0d";

/// What the deploy ramdisk's kernel is told.
const CMDLINE: &str = "console=ttyS0,115200 quiet";

/// The machine: what the BMC's simulator calls for its chassis. Switched on with the network as boot device it asks for its
/// script. With the kernel of the deploy ramdisk it runs an agent, which ends with the power.
const CHASSIS: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
case "$2 $3" in
    "get "*) echo "$3:$(cat "$3")" ;;
    "set boot") echo "$4" > boot ;;
    "set power")
        echo "$4" > power
        if [ -s agent.pid ]; then kill -9 "$(cat agent.pid)"; fi
        rm -rf agent.pid memory
        echo "power $4 boot $(cat boot)" >> orders.log
        if [ "$4" = 1 ] && [ "$(cat boot)" = default ]; then
            curl -sSf "BOOT/boot.ipxe?mac=HYPHENS" > script-at-disk 2>> curl.log
        fi
        if [ "$4" = 1 ] && [ "$(cat boot)" = pxe ]; then
            curl -sSf "BOOT/boot.ipxe?mac=&mac=HYPHENS" > script 2>> curl.log
            grep '^kernel ' script | cut -d' ' -f4- >> kernels.log
            if grep -q ' ramdisk/vmlinuz ' script && grep -q ' ramdisk/initramfs.zst ' script &&
                curl -sSf BOOT/ramdisk/vmlinuz BOOT/ramdisk/initramfs.zst > booted 2>> curl.log; then
                mkdir memory
                AGENT --disk "$PWD/disk.img" --state-dir "$PWD/memory" < /dev/null >> agent.log 2>&1 &
                echo $! > agent.pid
            fi
        fi ;;
esac
"#;

struct Site {
    cluster: Cluster,
    node: Node,
    /// The machine's directory.
    machine: PathBuf,
    /// Where boot scripts are.
    boot_url: String,
    _bmc: IpmiSimulator,
    _ramdisk: TempDir,
}

impl Site {
    /// A machine that is enrolled and available.
    async fn start() -> Self {
        let ramdisk = tempfile::tempdir().unwrap();
        fs::write(ramdisk.path().join("vmlinuz"), "a kernel, ").unwrap();
        fs::write(ramdisk.path().join("initramfs.zst"), "and its ramdisk").unwrap();
        fs::write(ramdisk.path().join("cmdline"), format!("{CMDLINE}\n")).unwrap();
        let port = free_port();
        let options = Options {
            members: 1,
            conductors: 1,
            nats: false,
            conductor_config: format!(
                "[http]\nlisten = \"127.0.0.1:{port}\"\nramdisk_dir = \"{}\"\n",
                ramdisk.path().display()
            ),
            ..Options::default()
        };
        let cluster = Cluster::start(&options).await.unwrap();
        let id = Uuid::new_v4().to_string();
        let machine = cluster.home().join("machines").join(&id);
        let boot_url = format!("http://127.0.0.1:{port}/v1");
        let bmc = assemble(&cluster, &machine, &boot_url);
        let node = enrol(&cluster, id, bmc.port).await;
        Self { cluster, node, machine, boot_url, _bmc: bmc, _ramdisk: ramdisk }
    }

    fn record(&self, name: &str) -> String {
        fs::read_to_string(self.machine.join(name)).unwrap()
    }

    /// What somebody is told who asks for a script.
    fn script(&self, query: &str) -> String {
        let url = format!("{}/boot.ipxe{query}", self.boot_url);
        let output = Command::new("curl").args(["-sSf", "--globoff", &url]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

async fn enrol(cluster: &Cluster, id: String, bmc_port: u16) -> Node {
    let driver_info = prost_struct([
        ("ipmi_address", "127.0.0.1"),
        ("ipmi_port", bmc_port.to_string().as_str()),
        ("ipmi_username", "admin"),
        ("ipmi_password", "secret"),
        // The simulator has no suite 17.
        ("ipmi_cipher_suite", "3"),
        ("kernel_append_params", "console=ttyS1"),
    ]);
    let spec = NodeSpec {
        driver: "ipmi".to_owned(),
        driver_info: Some(driver_info),
        ..NodeSpec::default()
    };
    let request = CreateNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        id,
        name: NAME.to_owned(),
        spec: Some(spec),
        port_addresses: vec![ADDRESS.to_owned()],
    };
    let node = cluster.client.create_node(request).await.unwrap();
    cluster.client.manage_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "manageable").await.unwrap();
    cluster.client.provide_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "available").await.unwrap();
    node
}

/// Builds the machine, off and with an empty disk, and its BMC.
fn assemble(cluster: &Cluster, machine: &Path, boot_url: &str) -> IpmiSimulator {
    fs::create_dir_all(machine).unwrap();
    fs::write(machine.join("power"), "0").unwrap();
    fs::write(machine.join("boot"), "none").unwrap();
    fs::File::create(machine.join("disk.img")).unwrap().set_len(IMAGE_BYTES).unwrap();
    let urls: Vec<_> = cluster.api_urls().iter().map(|url| format!("--api-url {url}")).collect();
    let agent =
        format!("{} --mac {ADDRESS} {}", binary("bessemer-agent").display(), urls.join(" "));
    let chassis = CHASSIS
        .replace("HYPHENS", &ADDRESS.replace(':', "-"))
        .replace("BOOT", boot_url)
        .replace("AGENT", &agent);
    IpmiSimulator::start(machine, &chassis, "secret").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_deployed_over_ipmi_and_network_boot() {
    let site = Site::start().await;
    let cluster = &site.cluster;
    cluster.deploy(NAME, deployment(cluster)).await.unwrap();
    cluster.until_state(NAME, "active").await.unwrap();
    assert_holds_image(cluster, &site.node);
    let orders = site.record("orders.log");
    // `default` is the simulator's word for the disk.
    assert!(
        orders.ends_with("power 1 boot pxe\npower 0 boot default\npower 1 boot default\n"),
        "{orders}"
    );
    assert_eq!(site.record("booted"), "a kernel, and its ramdisk");
    let told = format!("ramdisk/vmlinuz initrd=initrd {CMDLINE} console=ttyS1 || goto again");
    assert_eq!(site.record("kernels.log").lines().last(), Some(told.as_str()));

    // One that comes by the network all the same, be it when it is switched on, and strangers, go on to their disks.
    let at_disk = site.record("script-at-disk");
    assert!(at_disk.contains("boots from its disk"), "{at_disk}");
    let own = site.script(&format!("?mac={ADDRESS}"));
    assert!(own.contains(&format!("node {NAME} boots from its disk")), "{own}");
    let stranger = site.script("?mac=52:54:00:ff:ff:ff&mac=no-address");
    assert!(stranger.contains("no node has an address of this machine"), "{stranger}");
    let nobody = site.script("");
    assert!(nobody.contains("chain --replace boot.ipxe?mac=${net0/mac:hexhyp}&mac="), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_runs_from_a_kernel_that_it_boots_over_the_network() {
    let site = Site::start().await;
    let cluster = &site.cluster;
    let spec = || DeploymentSpec {
        deploy_interface: "ramdisk".to_owned(),
        kernel: "http://images.example/live.vmlinuz".to_owned(),
        ramdisk: "http://images.example/live.initrd".to_owned(),
        kernel_arguments: "  root=live:net   rd.neednet ".to_owned(),
        ..DeploymentSpec::default()
    };
    let refused = [
        (DeploymentSpec { ramdisk: String::new(), ..spec() }, "ramdisk", "is required with kernel"),
        (
            DeploymentSpec { kernel_arguments: "a ${net0/ip}".into(), ..spec() },
            "kernel_arguments",
            "would take for a setting",
        ),
        (
            DeploymentSpec { kernel: "http://a/b c".into(), ..spec() },
            "kernel",
            "percent-encoded in URLs",
        ),
        (
            DeploymentSpec {
                kernel: String::new(),
                ramdisk: String::new(),
                kernel_arguments: String::new(),
                boot_iso: "http://images.example/live.iso".into(),
                ..spec()
            },
            "boot_iso",
            "needs boot_interface `redfish-virtual-media`, and the node's is `ipxe`",
        ),
    ];
    for (spec, field, reason) in refused {
        let error = cluster.deploy(NAME, spec).await.unwrap_err();
        assert_refused(&error, "INVALID_FIELD", &[&format!("deployment.{field} "), reason]);
    }

    cluster.deploy(NAME, spec()).await.unwrap();
    let active = cluster.until_state(NAME, "active").await.unwrap().status.unwrap();
    let held = active.deployment.unwrap().spec.unwrap();
    assert_eq!(held.kernel_arguments, "root=live:net rd.neednet");
    assert!(site.record("orders.log").ends_with("power 1 boot pxe\n"));
    let told =
        "http://images.example/live.vmlinuz initrd=initrd root=live:net rd.neednet || goto again";
    assert_eq!(site.record("kernels.log").lines().last(), Some(told));

    // It boots it again, until it is taken off.
    let script = site.script(&format!("?mac={ADDRESS}"));
    assert!(script.contains("initrd --name initrd http://images.example/live.initrd"), "{script}");
    cluster.client.undeploy_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "available").await.unwrap();
    let script = site.script(&format!("?mac={ADDRESS}"));
    assert!(script.contains("boots from its disk"), "{script}");
}
