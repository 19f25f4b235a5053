//! Hardware type `ipmi`, by `ipmitool` against OpenIPMI's simulator.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use bessemer_hardware::ipmi::{Ipmi, Machine};
use bessemer_hardware::{Bmc, BootDevice, NetworkProtocol, unclaimed};
use bessemer_testkit::{IpmiSimulator, wait_for};
use serde_json::{Value, json};

use crate::contract;

const START_LIMIT: Duration = Duration::from_secs(30);

const ONCE_BY_PXE: BootDevice =
    BootDevice::Network { protocol: NetworkProtocol::Pxe, lasting: false };

/// A chassis that remembers. What runs on it shuts down at once when it is asked to.
const CHASSIS: &str = r#"#!/bin/sh
cd "$(dirname "$0")"
case "$2" in
    set) case "$3" in shutdown) echo 0 > power ;; *) echo "$4" > "$3" ;; esac ;;
    get) echo "$3:$(cat "$3")" ;;
esac
"#;

struct Peer {
    bmc: IpmiSimulator,
    home: tempfile::TempDir,
}

impl Peer {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("power"), "0").unwrap();
        fs::write(home.path().join("boot"), "none").unwrap();
        let bmc = IpmiSimulator::start(home.path(), CHASSIS, "secret").unwrap();
        Self { bmc, home }
    }

    fn machine(&self, change: Value) -> Machine {
        let mut info = json!({
            "ipmi_address": "127.0.0.1", "ipmi_port": self.bmc.port, "ipmi_username": "admin",
            // The simulator has no suite 17.
            "ipmi_password": "secret", "ipmi_cipher_suite": "3",
        });
        info.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap());
        let ipmi = Ipmi { program: PathBuf::from("ipmitool") };
        ipmi.machine(info.as_object().unwrap()).unwrap()
    }

    /// A machine once it answers.
    async fn ready(&self) -> Machine {
        let machine = self.machine(json!({}));
        wait_for(
            "answer of ipmi_sim; apt-get install openipmi ipmitool",
            START_LIMIT,
            async || {
                machine
                    .is_on()
                    .await
                    .map_err(|error| format!("{error} {}", self.bmc.process.last_words()))
            },
        )
        .await
        .unwrap();
        machine
    }
}

#[tokio::test]
async fn ipmi_machines_hold_the_contract() {
    let peer = Peer::start();
    let machine = peer.ready().await;
    contract::holds(&machine, ONCE_BY_PXE, async || {
        // The simulator's word for "force boot from the default hard drive" is `default`.
        match fs::read_to_string(peer.home.path().join("boot")).unwrap().trim() {
            "pxe" => ONCE_BY_PXE,
            "default" => BootDevice::Disk,
            other => panic!("boots from {other}"),
        }
    })
    .await;
}

#[tokio::test]
async fn what_ipmi_does_not_have_is_a_final_error() {
    let peer = Peer::start();
    let machine = peer.machine(json!({}));
    let http = BootDevice::Network { protocol: NetworkProtocol::UefiHttp, lasting: false };
    for (device, words) in [(BootDevice::Ramdisk, "virtual media"), (http, "over HTTP")] {
        let error = machine.set_boot_device(device, &unclaimed).await.unwrap_err();
        assert!(!error.is_retryable());
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn ipmi_errors_name_bmc_request_and_answer() {
    let peer = Peer::start();
    let address = format!("127.0.0.1:{}", peer.bmc.port);
    peer.ready().await;

    let no_suite = peer.machine(json!({"ipmi_cipher_suite": 17}));
    let error = no_suite.power_on(&unclaimed).await.unwrap_err();
    assert!(!error.is_retryable());
    let error = error.to_string();
    assert!(
        error.starts_with(&format!("BMC {address}: ipmitool chassis power status: ")),
        "{error}"
    );
    assert!(error.ends_with("another driver_info.ipmi_cipher_suite may do"), "{error}");

    let stranger = peer.machine(json!({"ipmi_password": "hunter2"}));
    let error = format!("{0:?} {0}", stranger.is_on().await.unwrap_err());
    assert!(error.contains("Unable to establish IPMI v2 / RMCP+ session"), "{error}");
    assert!(!error.contains("hunter2") && !format!("{stranger:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_chassis_that_does_not_obey_is_an_error_and_ipmitool_is_not_left_behind() {
    let home = tempfile::tempdir().unwrap();
    let pid_file = home.path().join("pid");
    let program = home.path().join("ipmitool");
    // Says what it was called with by hanging, as one whose BMC swallows every packet.
    let script = format!(
        "#!/bin/sh\necho $$ > {0}.new\nmv {0}.new {0}\nexec sleep 1000\n",
        pid_file.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let info = json!({"ipmi_address": "10.0.0.1"});
    let machine = Ipmi { program }.machine(info.as_object().unwrap()).unwrap();
    let started = wait_for("start", START_LIMIT, async || {
        fs::read_to_string(&pid_file).map_err(|error| error.to_string())
    });
    let pid = tokio::select! {
        answer = machine.is_on() => panic!("{answer:?}"),
        pid = started => pid.unwrap(),
    };
    wait_for("end of a dropped ipmitool", START_LIMIT, async || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let gone = stat.is_empty() || stat.contains(") Z ");
        if gone { Ok(()) } else { Err(stat) }
    })
    .await
    .unwrap();
}

#[test]
fn a_wrong_driver_info_names_key_and_value() {
    let ipmi = Ipmi { program: PathBuf::from("ipmitool") };
    for (info, expected) in [
        (json!({}), "driver_info.ipmi_address is missing"),
        (
            json!({"ipmi_address": "a", "ipmi_port": "70000"}),
            "driver_info.ipmi_port `70000` is not a number in its range",
        ),
        (
            json!({"ipmi_address": "a", "ipmi_priv_level": "ROOT"}),
            "driver_info.ipmi_priv_level `ROOT` is none of ADMINISTRATOR, OPERATOR, USER and CALLBACK",
        ),
        (
            json!({"ipmi_address": "a", "ipmi_password": 7}),
            "driver_info.ipmi_password `******` is not text; in JSON, text is in quotes",
        ),
    ] {
        let error = ipmi.machine(info.as_object().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn a_host_without_ipmitool_says_which_package_has_it() {
    let ipmi = Ipmi { program: PathBuf::from("/nonexistent/ipmitool") };
    let info = json!({"ipmi_address": "10.0.0.1"});
    let machine = ipmi.machine(info.as_object().unwrap()).unwrap();
    let error = machine.is_on().await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("it is in the package of the same name"));
}
