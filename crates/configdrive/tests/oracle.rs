//! Config drives as other programs see them: `isoinfo` (genisoimage) and `blkid` (util-linux).

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write;
use std::process::Command;

use bessemer_configdrive::{ConfigDrive, LABEL, read_file};
use serde_json::{Map, Value, json};

fn fields(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn sample() -> ConfigDrive {
    ConfigDrive {
        meta_data: fields(json!({"uuid": "5f0c", "name": "rack-1-07", "hostname": "ahab"})),
        network_data: Some(fields(json!({"links": [{"id": "eth0"}]}))),
        user_data: b"#cloud-config\nhostname: ahab\n".to_vec(),
        vendor_data: Some(fields(json!({"maker": "Bessemer"}))),
    }
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program} must be installed for this test: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// Every document comes out of `isoinfo` unchanged, through the Rock Ridge names and through the
/// Joliet names.
#[test]
fn isoinfo_extracts_every_document() {
    let drive = sample();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&drive.build().unwrap()).unwrap();
    let path = file.path().to_str().unwrap();

    for names in ["-R", "-J"] {
        for version in ["2012-08-10", "latest"] {
            for (name, content) in [
                ("meta_data.json", serde_json::to_vec(&drive.meta_data).unwrap()),
                ("network_data.json", serde_json::to_vec(&drive.network_data).unwrap()),
                ("user_data", drive.user_data.clone()),
                ("vendor_data2.json", serde_json::to_vec(&drive.vendor_data).unwrap()),
            ] {
                let inside = format!("/openstack/{version}/{name}");
                let extracted = run("isoinfo", &["-i", path, names, "-x", &inside]);
                assert_eq!(extracted, content, "{inside} read with {names}");
            }
        }
    }
}

/// A guest finds the volume by type and label.
#[test]
fn blkid_sees_the_label() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&sample().build().unwrap()).unwrap();
    let path = file.path().to_str().unwrap();

    let tags = |tag| {
        let value = run("blkid", &["-p", "-o", "value", "-s", tag, path]);
        String::from_utf8(value).unwrap().trim().to_owned()
    };
    assert_eq!(tags("LABEL"), LABEL);
    assert_eq!(tags("TYPE"), "iso9660");
}

/// A volume made by another program is read as well as our own.
#[test]
fn reads_what_genisoimage_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let latest = directory.path().join("tree/openstack/latest");
    std::fs::create_dir_all(&latest).unwrap();
    std::fs::write(latest.join("user_data"), b"#!/bin/sh\n").unwrap();
    let iso = directory.path().join("drive.iso");
    let tree = directory.path().join("tree");
    run(
        "genisoimage",
        &["-quiet", "-R", "-J", "-V", LABEL, "-o", iso.to_str().unwrap(), tree.to_str().unwrap()],
    );

    let volume = std::fs::read(iso).unwrap();
    assert_eq!(read_file(&volume, "openstack/latest/user_data").unwrap(), b"#!/bin/sh\n");
}
