//! A machine behind a BMC: the conductor drives it over the network with `ipmitool`, and has nothing else of it.

use std::fs;
use std::path::Path;

use bessemer_proto::v1::{CreateNodeRequest, NodeSpec};
use bessemer_testkit::{Cluster, IpmiSimulator, Options, binary, prost_struct, verb};
use uuid::Uuid;

use crate::images::{IMAGE_BYTES, assert_holds_image, deployment};

const NAME: &str = "behind-a-bmc";
const ADDRESS: &str = "52:54:00:0b:0c:0d";

/// The machine: what the BMC's simulator calls for its chassis. Switched on with the network as boot device it runs an
/// agent, which ends with the power.
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
        if [ "$4" = 1 ] && [ "$(cat boot)" = pxe ]; then
            mkdir memory
            AGENT --disk "$PWD/disk.img" --state-dir "$PWD/memory" < /dev/null >> agent.log 2>&1 &
            echo $! > agent.pid
        fi ;;
esac
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_deployed_over_ipmi() {
    let options = Options { members: 1, conductors: 1, nats: false, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    let id = Uuid::new_v4().to_string();
    let machine = cluster.home().join("machines").join(&id);
    let bmc = assemble(&cluster, &machine);
    let driver_info = prost_struct([
        ("ipmi_address", "127.0.0.1"),
        ("ipmi_port", bmc.port.to_string().as_str()),
        ("ipmi_username", "admin"),
        ("ipmi_password", "secret"),
        // The simulator has no suite 17.
        ("ipmi_cipher_suite", "3"),
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
    cluster.deploy(NAME, deployment(&cluster)).await.unwrap();
    cluster.until_state(NAME, "active").await.unwrap();
    assert_holds_image(&cluster, &node);
    let orders = fs::read_to_string(machine.join("orders.log")).unwrap();
    // `default` is the simulator's word for the disk.
    assert!(
        orders.ends_with("power 1 boot pxe\npower 0 boot default\npower 1 boot default\n"),
        "{orders}"
    );
}

/// Builds the machine, off and with an empty disk, and its BMC.
fn assemble(cluster: &Cluster, machine: &Path) -> IpmiSimulator {
    fs::create_dir_all(machine).unwrap();
    fs::write(machine.join("power"), "0").unwrap();
    fs::write(machine.join("boot"), "none").unwrap();
    fs::File::create(machine.join("disk.img")).unwrap().set_len(IMAGE_BYTES).unwrap();
    let urls: Vec<_> = cluster.api_urls().iter().map(|url| format!("--api-url {url}")).collect();
    let agent =
        format!("{} --mac {ADDRESS} {}", binary("bessemer-agent").display(), urls.join(" "));
    IpmiSimulator::start(machine, &CHASSIS.replace("AGENT", &agent), "secret").unwrap()
}
