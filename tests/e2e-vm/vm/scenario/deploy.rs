//! From an empty disk to a system that says its host name and key on the console, and back to an empty disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use bessemer_proto::v1::{ConfigDrive, CreateNodeRequest, DeploymentSpec, ImageSpec, NodeSpec};
use bessemer_testkit::{prost_struct, verb};
use prost_types::Struct;
use prost_types::value::Kind;
use uuid::Uuid;

use super::{BOOT_LIMIT, NODE};
use crate::site::Site;

const OWNERS_KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJlc3NlbWVyLXRlc3Qta2V5LW5vdC1hLXNlY3JldC0x owner@example";

/// Where partition tables are, at both ends of a disk.
const TABLE_BYTES: usize = 34 * 512;

pub(crate) async fn run(site: &mut Site) -> anyhow::Result<()> {
    available(site).await?;
    site.machine.console.forget();
    site.cluster.deploy(NODE, deployment(site, "first.example")).await?;
    site.cluster.until_state(NODE, "active").await?;
    says_its_name(site, "first.example").await?;
    has_valid_partition_table(&site.machine.disk)?;

    site.cluster.client.undeploy_node(verb(NODE)).await?;
    site.cluster.until_state(NODE, "available").await?;
    has_no_partition_table(&site.machine.disk)
}

/// Enrols the machine, if that was not done yet, and has it cleaned.
pub(super) async fn available(site: &Site) -> anyhow::Result<()> {
    if site.cluster.node(NODE).await.is_ok() {
        return Ok(());
    }
    let uuid = site.machine.uuid;
    let driver_info = prost_struct([
        ("redfish_address", site.lab.bmc_url().as_str()),
        ("redfish_system_id", format!("/redfish/v1/Systems/{uuid}").as_str()),
        ("redfish_username", "admin"),
        ("redfish_password", "password"),
        ("deploy_iso", site.iso_url.as_str()),
    ]);
    let spec = NodeSpec {
        driver: "redfish".to_owned(),
        driver_info: Some(driver_info),
        ..NodeSpec::default()
    };
    let request = CreateNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        id: Uuid::new_v4().to_string(),
        name: NODE.to_owned(),
        spec: Some(spec),
        port_addresses: vec![site.machine.mac_address.clone()],
    };
    site.cluster.client.create_node(request).await?;
    site.cluster.client.manage_node(verb(NODE)).await?;
    site.cluster.until_state(NODE, "manageable").await?;
    site.cluster.client.provide_node(verb(NODE)).await?;
    site.cluster.until_state(NODE, "available").await?;
    Ok(())
}

/// The operating system, with a host name and the owner's key.
pub(super) fn deployment(site: &Site, host_name: &str) -> DeploymentSpec {
    let mut meta_data = prost_struct([("hostname", host_name), ("name", NODE)]);
    let keys = prost_struct([("owner", OWNERS_KEY)]);
    meta_data.fields.insert("public_keys".to_owned(), nested(keys));
    DeploymentSpec {
        image: Some(ImageSpec {
            source: format!("file://{}", site.image.display()),
            checksum: site.image_digest.clone(),
            ..ImageSpec::default()
        }),
        config_drive: Some(ConfigDrive { meta_data: Some(meta_data), ..ConfigDrive::default() }),
        ..DeploymentSpec::default()
    }
}

fn nested(fields: Struct) -> prost_types::Value {
    prost_types::Value { kind: Some(Kind::StructValue(fields)) }
}

/// What was deployed runs, and has read its config drive.
pub(super) async fn says_its_name(site: &Site, host_name: &str) -> anyhow::Result<()> {
    let words = ["DEPLOYED-SYSTEM", &format!("host {host_name} "), &format!("key {OWNERS_KEY}")];
    site.machine.console.line(&words, BOOT_LIMIT).await?;
    Ok(())
}

/// The image's GPT reaches to the end of the disk, and has the config drive in it.
fn has_valid_partition_table(disk: &Path) -> anyhow::Result<()> {
    // Debian keeps it out of an ordinary path.
    let output = Command::new("/usr/sbin/sgdisk").args(["--verify", "--print"]).arg(disk).output();
    let output = output.context("cannot start sgdisk; run installs it")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let holds = |words: &str| said.contains(words);
    anyhow::ensure!(holds("No problems found") && holds("ESP") && holds("config-2"), "{said}");
    Ok(())
}

fn has_no_partition_table(disk: &Path) -> anyhow::Result<()> {
    let file = File::open(disk).with_context(|| format!("cannot open {}", disk.display()))?;
    let end = file.metadata()?.len() - TABLE_BYTES as u64;
    for offset in [0, end] {
        let mut area = [0; TABLE_BYTES];
        file.read_exact_at(&mut area, offset)?;
        let left = area.iter().position(|byte| *byte != 0);
        anyhow::ensure!(left.is_none(), "byte {offset} + {left:?} of the disk is not erased");
    }
    Ok(())
}
