//! Hardware type `redfish` against sushy-tools, the emulator that Ironic is tested with.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bessemer_hardware::redfish::{Machine, Redfish};
use bessemer_hardware::{Bmc, BootDevice, NetworkProtocol};
use bessemer_testkit::{Process, free_port, python, run, wait_for};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::contract;

const EMULATOR: &str = "sushy-tools==2.2.0";

const START_LIMIT: Duration = Duration::from_secs(60);

/// The emulator's `fake` driver has this one system unless told otherwise.
const SYSTEM: &str = "/redfish/v1/Systems/27946b59-9e44-4fa7-8e91-f3527a1ef094";

struct Emulator {
    process: Process,
    _home: tempfile::TempDir,
    address: String,
}

impl Emulator {
    fn start() -> Self {
        Self::start_with("http", "")
    }

    /// Over TLS, with the certificate that it made for itself, as BMCs come: for no name, and an authority.
    fn start_with_own_certificate(home: &Path) -> Self {
        run(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
                .args(["-nodes", "-subj", "/CN=bmc", "-days", "2"])
                .args(["-keyout", "key.pem", "-out", "certificate.pem"])
                .current_dir(home),
            "apt-get install openssl",
        );
        let home = home.display();
        let config = format!(
            "SUSHY_EMULATOR_SSL_CERT = '{home}/certificate.pem'\n\
             SUSHY_EMULATOR_SSL_KEY = '{home}/key.pem'\n"
        );
        Self::start_with("https", &config)
    }

    fn start_with(scheme: &str, more: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let python = python(env!("CARGO_TARGET_TMPDIR").as_ref(), EMULATOR);
        let hash = "import bcrypt; print(bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode())";
        let hash = run(Command::new(&python).args(["-c", hash]), EMULATOR);
        let users = home.path().join("users");
        fs::write(&users, format!("admin:{hash}")).unwrap();
        let port = free_port();
        let config = home.path().join("emulator.conf");
        let home_path = home.path().display();
        fs::write(
            &config,
            format!(
                "SUSHY_EMULATOR_FAKE_DRIVER = True\n\
                 SUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\n\
                 SUSHY_EMULATOR_LISTEN_PORT = {port}\n\
                 SUSHY_EMULATOR_STATE_DIR = '{home_path}'\n\
                 SUSHY_EMULATOR_AUTH_FILE = '{home_path}/users'\n\
                 {more}"
            ),
        )
        .unwrap();
        let arguments = ["-m", "sushy_tools.emulator.main", "--config"].map(str::to_owned);
        let arguments: Vec<_> =
            arguments.into_iter().chain([config.to_str().unwrap().to_owned()]).collect();
        let process = Process::start("emulator", &python, &arguments, home.path()).unwrap();
        Self { process, _home: home, address: format!("{scheme}://127.0.0.1:{port}") }
    }

    fn machine(&self, change: Value) -> Machine {
        let mut info = json!({
            "redfish_address": self.address, "redfish_username": "admin", "redfish_password": "secret",
        });
        info.as_object_mut().unwrap().extend(change.as_object().cloned().unwrap());
        Redfish::default().machine(info.as_object().unwrap()).unwrap()
    }

    /// A machine once it answers.
    async fn ready(&self, change: Value) -> Machine {
        let machine = self.machine(change);
        wait_for("answer of the emulator", START_LIMIT, async || {
            machine.is_on().await.map_err(|error| format!("{error} {}", self.process.last_words()))
        })
        .await
        .unwrap();
        machine
    }

    async fn shows(&self, path: &str) -> Value {
        let url = format!("{}{path}", self.address);
        let request = reqwest::Client::new().get(url).basic_auth("admin", Some("secret"));
        let answer = request.send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&answer).unwrap()
    }

    /// What the machine would boot: the ramdisk when it is in the drive that is to be booted from.
    async fn boots(&self, iso: &str) -> BootDevice {
        let system = self.shows(SYSTEM).await;
        let drive = self.shows(&format!("{SYSTEM}/VirtualMedia/Cd")).await;
        match (system["Boot"]["BootSourceOverrideTarget"].as_str(), drive["Image"].as_str()) {
            (Some("Cd"), Some(image)) if image == iso && drive["Inserted"] == true => {
                BootDevice::Ramdisk
            }
            (Some("Hdd"), Some("")) if drive["Inserted"] == false => BootDevice::Disk,
            other => panic!("boots {other:?}"),
        }
    }
}

const ONCE_BY_PXE: BootDevice =
    BootDevice::Network { protocol: NetworkProtocol::Pxe, lasting: false };

/// A web server with an ISO, which the emulator downloads when it is inserted.
async fn iso() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/deploy.iso", listener.local_addr().unwrap());
    let router = Router::new().route("/deploy.iso", get(|| async { "an ISO" }));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// TLS is not used here, but the HTTP client wants to know its library.
fn install_tls_provider() {
    // Installed already by another test of this process is as good.
    rustls::crypto::ring::default_provider().install_default().ok();
}

#[tokio::test]
async fn redfish_machines_hold_the_contract() {
    install_tls_provider();
    let emulator = Emulator::start();
    let iso = iso().await;
    let machine = emulator.ready(json!({"deploy_iso": iso})).await;
    contract::holds(&machine, BootDevice::Ramdisk, async || emulator.boots(&iso).await).await;
}

#[tokio::test]
async fn redfish_machines_that_boot_from_the_network_hold_the_contract() {
    install_tls_provider();
    let emulator = Emulator::start();
    let machine = emulator.ready(json!({})).await;
    contract::holds(&machine, ONCE_BY_PXE, async || {
        match emulator.shows(SYSTEM).await["Boot"]["BootSourceOverrideTarget"].as_str() {
            Some("Pxe") => ONCE_BY_PXE,
            Some("Hdd") => BootDevice::Disk,
            other => panic!("boots {other:?}"),
        }
    })
    .await;
}

#[tokio::test]
async fn redfish_machines_run_from_isos() {
    install_tls_provider();
    let emulator = Emulator::start();
    let machine = emulator.ready(json!({})).await;
    let isos = [iso().await, iso().await];
    contract::boots_isos(&machine, isos.each_ref().map(String::as_str), async || {
        let boot = emulator.shows(SYSTEM).await["Boot"].clone();
        let is_cd = boot["BootSourceOverrideTarget"] == "Cd"
            && boot["BootSourceOverrideEnabled"] == "Continuous";
        let medium = async |drive| {
            let drive = emulator.shows(&format!("{SYSTEM}/VirtualMedia/{drive}")).await;
            (drive["Inserted"] == true).then(|| drive["Image"].as_str().unwrap().to_owned())
        };
        let (cd, stick) = (medium("Cd").await, medium("Floppy").await);
        // What is not booted is out, and so is what was beside it.
        assert!(is_cd || (cd.is_none() && stick.is_none()), "{boot} {cd:?} {stick:?}");
        cd.map(|cd| (cd, stick))
    })
    .await;
}

#[tokio::test]
async fn an_iso_that_is_not_there_is_a_final_error_in_the_emulators_words() {
    install_tls_provider();
    let emulator = Emulator::start();
    let iso = format!("{}-not", iso().await);
    let info =
        json!({"deploy_iso": iso, "redfish_system_id": SYSTEM, "redfish_auth_type": "basic"});
    let machine = emulator.ready(info).await;
    let error = machine
        .set_boot_device(BootDevice::Ramdisk, &bessemer_hardware::unclaimed)
        .await
        .unwrap_err();
    assert!(!error.is_retryable());
    let error = error.to_string();
    let expected = format!(
        "BMC {}: POST {SYSTEM}/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia: 400 Bad Request: ",
        emulator.address
    );
    assert!(error.starts_with(&expected) && error.len() > expected.len(), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_a_final_error() {
    install_tls_provider();
    let emulator = Emulator::start();
    emulator.ready(json!({})).await;
    let error = emulator.machine(json!({"redfish_password": "hunter2"})).is_on().await.unwrap_err();
    assert!(!error.is_retryable());
    let error = error.to_string();
    assert!(error.contains("401 Unauthorized") && error.contains("redfish_password"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_bmcs_own_certificate_is_taken_from_a_file_and_no_other() {
    install_tls_provider();
    let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let emulator = Emulator::start_with_own_certificate(home.path());
    let of = |home: &tempfile::TempDir| json!(home.path().join("certificate.pem").to_str());
    emulator.ready(json!({"redfish_verify_ca": of(&home)})).await;
    emulator.ready(json!({"redfish_verify_ca": false})).await;

    Emulator::start_with_own_certificate(other.path());
    for trusted in [json!(true), of(&other)] {
        let machine = emulator.machine(json!({"redfish_verify_ca": trusted}));
        let error = machine.is_on().await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        let error = error.to_string();
        assert!(error.contains("certificate") && error.ends_with("redfish_verify_ca"), "{error}");
    }
}
