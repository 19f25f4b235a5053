//! The images that the tests deploy, and what a disk must hold afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use bessemer_proto::v1::{DeploymentSpec, Node};
use bessemer_testkit::{Cluster, PartitionedImage, deployment_of, digest_of_file};

/// Size of the disk in the image.
pub(crate) const IMAGE_BYTES: u64 = 1 << 30;

/// Size of machines' disks that are larger than the image.
pub(crate) const LARGE_DISK_BYTES: u64 = 3 << 30;

/// The area at both ends of a disk that a GPT takes: LBA 0 to 33, and 33 more at the end.
const TABLE_BYTES: u64 = 34 * 512;

/// A gibibyte with 128 MiB of files, built once for all tests.
pub(crate) static IMAGE: LazyLock<PartitionedImage> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("partitioned-image");
    fs::remove_dir_all(&directory).ok();
    fs::create_dir_all(&directory).unwrap();
    PartitionedImage::build(&directory, IMAGE_BYTES >> 20, 128).unwrap()
});

/// What `qemu-img` makes of it.
pub(crate) static RAW_DIGEST: LazyLock<String> =
    LazyLock::new(|| IMAGE.converted_digest().unwrap());

/// Puts the image where the cluster's cache may read it.
pub(crate) fn placed(cluster: &Cluster) -> PathBuf {
    let path = cluster.home().join("disk.qcow2");
    if !path.exists() {
        fs::copy(&IMAGE.qcow2, &path).unwrap();
    }
    path
}

/// A deployment of the image.
pub(crate) fn deployment(cluster: &Cluster) -> DeploymentSpec {
    let path = placed(cluster);
    deployment_of(&path, &digest_of_file(&path).unwrap())
}

/// The disk holds the image, all of it but the partition tables, which are rewritten for a larger disk or a config
/// drive; the image's own partitions are in the table as they were.
pub(crate) fn assert_holds_image(cluster: &Cluster, node: &Node) {
    let disk = cluster.disk(node);
    assert_eq!(content_digest(&disk), content_digest(&IMAGE.raw), "{}", disk.display());
    let original = partitions(&IMAGE.raw);
    let found = partitions(&disk);
    assert_eq!(found[..original.len()], original, "{}", disk.display());
    assert_valid_table(&disk);
}

/// SHA-256 of the image's length without the tables at its ends.
fn content_digest(disk: &Path) -> String {
    use sha2::{Digest, Sha256};
    use std::os::unix::fs::FileExt;
    let file = fs::File::open(disk).unwrap();
    let mut hasher = Sha256::new();
    let mut at = TABLE_BYTES;
    let end = IMAGE_BYTES - TABLE_BYTES;
    let mut piece = vec![0; 1 << 20];
    while at < end {
        let count = usize::try_from((end - at).min(1 << 20)).unwrap();
        file.read_exact_at(&mut piece[..count], at).unwrap();
        hasher.update(&piece[..count]);
        at += count as u64;
    }
    hex::encode(hasher.finalize())
}

/// The partitions as `sfdisk` reads them: start, size, type, identity and name of each.
pub(crate) fn partitions(disk: &Path) -> Vec<String> {
    let table = tool("sfdisk", &["--dump"], disk);
    table
        .lines()
        .filter_map(|line| line.split_once(" : start="))
        .map(|(_, fields)| fields.split_whitespace().collect())
        .collect()
}

/// Both copies of the partition table are whole and in their places.
pub(crate) fn assert_valid_table(disk: &Path) {
    let said = tool("sgdisk", &["--verify"], disk);
    assert!(said.contains("No problems found"), "{}: {said}", disk.display());
}

/// No firmware and no kernel finds a partition table on the disk.
pub(crate) fn assert_no_table(disk: &Path) {
    let output =
        Command::new("sfdisk").env("PATH", path()).arg("--dump").arg(disk).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("does not contain a recognized partition table"),
        "{}: {said}{}",
        disk.display(),
        String::from_utf8_lossy(&output.stdout)
    );
}

/// What a tool says of a disk.
pub(crate) fn tool(name: &str, arguments: &[&str], disk: &Path) -> String {
    let output = Command::new(name).env("PATH", path()).args(arguments).arg(disk).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Debian keeps partitioning tools out of an ordinary user's path.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap())
}
