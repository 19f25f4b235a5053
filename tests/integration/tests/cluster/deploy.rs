//! Four machines at once, and every byte, event and megabyte accounted for.

use bessemer_proto::v1::{ConfigDrive, DeploymentSpec, Node};
use bessemer_testkit::{Cluster, Options, assert_stream_complete, digest_of_prefix, prost_struct};

use crate::images::{
    IMAGE_BYTES, LARGE_DISK_BYTES, RAW_DIGEST, assert_holds_image, deployment, partitions, tool,
};

/// Memory that an agent may take, whatever the image.
const AGENT_RSS_BYTES_MAX: u64 = 64 << 20;

/// The manifest travels besides the pack: less than 64 bytes for each MiB of the image.
const MANIFEST_BYTES_MAX: u64 = (IMAGE_BYTES >> 20) * 64;

/// Two machines get the image alone, on disks of its size, so that every byte must be the image's. Two get a config drive
/// beside it on larger disks, for which their partition tables must change.
#[tokio::test(flavor = "multi_thread")]
async fn four_machines_at_once() {
    let cluster = Cluster::start(&Options::default()).await.unwrap();
    let names = ["exact-0", "exact-1", "drive-0", "drive-1"];
    let mut nodes = Vec::new();
    for name in names {
        let disk = if name.starts_with("exact") { IMAGE_BYTES } else { LARGE_DISK_BYTES };
        nodes.push(cluster.available_node(name, disk).await.unwrap());
    }
    for name in names {
        let mut wanted = deployment(&cluster);
        if name.starts_with("drive") {
            wanted = with_config_drive(wanted, name);
        }
        cluster.deploy(name, wanted).await.unwrap();
    }
    for (name, node) in names.iter().zip(&nodes) {
        let active = cluster.until_state(name, "active").await.unwrap();
        assert_write_report(&active);
        assert_holds_image(&cluster, node);
        let disk = cluster.disk(node);
        if name.starts_with("exact") {
            assert_eq!(digest_of_prefix(&disk, IMAGE_BYTES).unwrap(), *RAW_DIGEST);
        } else {
            assert_config_drive(&cluster, node, name);
        }
        let console = disk.with_file_name("console.log");
        assert!(std::fs::read_to_string(console).unwrap().ends_with("booted from disk\n"));
    }
    assert_stream_complete(&cluster).await.unwrap();
}

fn assert_write_report(node: &Node) {
    let deployment = node.status.as_ref().unwrap().deployment.as_ref().unwrap();
    let (image, write) = (deployment.image.as_ref().unwrap(), deployment.write.as_ref().unwrap());
    assert_eq!(image.raw_hash_value, *RAW_DIGEST);
    assert_eq!(write.image_bytes, IMAGE_BYTES);
    assert!(
        write.wire_bytes <= image.pack_size_bytes + MANIFEST_BYTES_MAX,
        "{write:?} of {image:?}"
    );
    assert!(write.agent_peak_rss_bytes <= AGENT_RSS_BYTES_MAX, "{write:?}");
    assert!(write.agent_peak_rss_bytes > 0);
}

fn with_config_drive(deployment: DeploymentSpec, host_name: &str) -> DeploymentSpec {
    let config_drive = ConfigDrive {
        meta_data: Some(prost_struct([("hostname", host_name)])),
        user_data: b"#cloud-config\n".to_vec(),
        ..ConfigDrive::default()
    };
    DeploymentSpec { config_drive: Some(config_drive), ..deployment }
}

/// The last partition is a config drive that others can read.
pub(crate) fn assert_config_drive(cluster: &Cluster, node: &Node, host_name: &str) {
    let disk = cluster.disk(node);
    let last = partitions(&disk).pop().unwrap();
    let number = |field: &str| -> u64 {
        last.split(',').find_map(|part| part.strip_prefix(field)).unwrap().parse().unwrap()
    };
    // The dump's first field lost its name when the line was split.
    let (start, size) = (last.split(',').next().unwrap().parse::<u64>().unwrap(), number("size="));
    let volume = disk.with_file_name("config-drive.iso");
    let bytes = {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; usize::try_from(size * 512).unwrap()];
        std::fs::File::open(&disk).unwrap().read_exact_at(&mut bytes, start * 512).unwrap();
        bytes
    };
    std::fs::write(&volume, bytes).unwrap();
    let label = tool("blkid", &["-p", "-o", "value", "-s", "LABEL"], &volume);
    assert_eq!(label.trim(), "config-2");
    let said = tool("isoinfo", &["-J", "-x", "/openstack/latest/meta_data.json", "-i"], &volume);
    let meta_data: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(meta_data["hostname"], host_name);
    let said = tool("isoinfo", &["-J", "-x", "/openstack/latest/user_data", "-i"], &volume);
    assert_eq!(said, "#cloud-config\n");
}
