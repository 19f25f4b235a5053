//! An image of one file system, by the whole way from the request to a disk that boots.

use std::path::{Path, PathBuf};

use bessemer_proto::v1::{ConfigDrive, DeploymentSpec, ImageSpec, PartitionLayout};
use bessemer_testkit::{Cluster, Options, deployment_of, digest_of_file, prost_struct};

use crate::images::{assert_valid_table, partitions, tool};

const ROOT_UUID: &str = "0ddba11c-0ffe-4e55-9a3f-8c0ffee0c0de";

/// A root file system of 64 MiB with a loader where systems have it.
fn root_image(home: &Path) -> PathBuf {
    let loader = home.join("root/boot/efi/EFI/BOOT/BOOTX64.EFI");
    std::fs::create_dir_all(loader.parent().unwrap()).unwrap();
    std::fs::write(loader, vec![7; 100_000]).unwrap();
    let image = home.join("root.ext4");
    std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let tree = home.join("root").display().to_string();
    tool("mke2fs", &["-q", "-F", "-t", "ext4", "-U", ROOT_UUID, "-d", &tree], &image);
    image
}

fn partition_image(cluster: &Cluster, partitions: PartitionLayout) -> DeploymentSpec {
    let image = root_image(cluster.home());
    let spec = deployment_of(&image, &digest_of_file(&image).unwrap());
    let image = ImageSpec { image_type: "partition".into(), ..spec.image.unwrap() };
    DeploymentSpec { image: Some(image), partitions: Some(partitions), ..spec }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_is_deployed_with_swap_and_a_config_drive() {
    let cluster = Cluster::start(&Options::default()).await.unwrap();
    let node = cluster.available_node("divided", 4 << 30).await.unwrap();
    let layout = PartitionLayout { swap_mb: 128, ephemeral_gb: 1, ..PartitionLayout::default() };
    let config_drive = ConfigDrive {
        meta_data: Some(prost_struct([("hostname", "divided")])),
        ..ConfigDrive::default()
    };
    let wanted = DeploymentSpec {
        config_drive: Some(config_drive),
        ..partition_image(&cluster, layout.clone())
    };
    cluster.deploy("divided", wanted).await.unwrap();
    let active = cluster.until_state("divided", "active").await.unwrap();

    let deployment = active.status.unwrap().deployment.unwrap();
    assert_eq!(deployment.write.unwrap().root_uuid, ROOT_UUID);
    assert_eq!(deployment.spec.unwrap().partitions.unwrap().swap_mb, layout.swap_mb);
    let disk = cluster.disk(&node);
    assert_valid_table(&disk);
    let found = partitions(&disk);
    let names: Vec<&str> =
        found.iter().filter_map(|line| line.split("name=\"").nth(1)?.split('"').next()).collect();
    assert_eq!(names, ["esp", "ephemeral0", "swap", "root", "config-2"], "{found:?}");
    let console = disk.with_file_name("console.log");
    assert!(std::fs::read_to_string(console).unwrap().ends_with("booted from disk\n"));
}
