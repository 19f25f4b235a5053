//! Ironic's REST API on a whole cluster, by the clients that Ironic has: the `baremetal` command and openstacksdk.

use std::path::Path;
use std::process::Command;

use bessemer_testkit::{Cluster, Options, digest_of_file, python};
use serde_json::json;
use uuid::Uuid;

use crate::images::{LARGE_DISK_BYTES, assert_holds_image, placed};

/// It brings openstacksdk along.
const CLIENT: &str = "python-ironicclient==6.3.0";

/// Runs a script of `tests/ironic`.
async fn script(cluster: &Cluster, name: &str, deployment: String) {
    let url = cluster.rest_url(1).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ironic").join(name);
    let run = move || {
        let mut command = Command::new(python(env!("CARGO_TARGET_TMPDIR").as_ref(), CLIENT));
        // The client keeps the version that it agreed on with a server in its user's home.
        let cache = tempfile::tempdir().unwrap();
        command.env("XDG_CACHE_HOME", cache.path()).env("HOME", cache.path());
        command.arg(script).arg(url).env("DEPLOYMENT", deployment).output().unwrap()
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaints}\n{}", cluster.last_words());
}

/// What the scripts deploy on which machine.
fn deployment(cluster: &Cluster, name: &str, machine: Uuid, number: u8) -> String {
    let image = placed(cluster);
    json!({
        "a": name,
        "machine": machine,
        "disk_bytes": LARGE_DISK_BYTES.to_string(),
        "address": format!("52:54:00:bb:00:{number:02x}"),
        "image": format!("file://{}", image.display()),
        "checksum": digest_of_file(&image).unwrap(),
        "drive": r#"{"meta_data":{"hostname":"h"},"user_data":"x"}"#,
        "file": cluster.home().join("inventory.json"),
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_ironic_do_what_they_always_did() {
    let options = Options { members: 3, conductors: 1, nats: false, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    let by_command = deployment(&cluster, "by-command", Uuid::new_v4(), 1);
    script(&cluster, "session.py", by_command).await;
    let machine = Uuid::new_v4();
    let by_sdk = deployment(&cluster, "by-sdk", machine, 2);
    script(&cluster, "sdk.py", by_sdk).await;
    // The script leaves its node, with what it deployed.
    let node = cluster.node("by-sdk").await.unwrap();
    assert_eq!(node.metadata.as_ref().unwrap().id, machine.to_string());
    assert_holds_image(&cluster, &node);
}
