//! Damaged bytes, on the wire and in the cache: refused before they touch a disk, and healed or explained.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_proto::v1::{DeployNodeRequest, Node};
use bessemer_testkit::{Cluster, Options, empty_disk, verb, wait_for};
use uuid::Uuid;

use crate::images::{LARGE_DISK_BYTES, assert_holds_image, assert_no_table, deployment, placed};

const NAME: &str = "doubter";

async fn cluster() -> (Cluster, Node) {
    let options = Options { members: 1, conductors: 1, nats: false, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    let node = cluster.available_node(NAME, LARGE_DISK_BYTES).await.unwrap();
    (cluster, node)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_damaged_in_transit_is_refused_and_fetched_again() {
    let (cluster, node) = cluster().await;
    // Past the manifest, in the middle of the frames.
    cluster.caches[0].proxy.damage_byte_after(20 << 20);
    cluster.deploy(NAME, deployment(&cluster)).await.unwrap();
    let active = cluster.until_state(NAME, "active").await.unwrap();
    assert_eq!(cluster.caches[0].proxy.damaged(), 1);
    let write = active.status.unwrap().deployment.unwrap().write.unwrap();
    assert_eq!(write.refused_chunks, 1, "{write:?}");
    assert_holds_image(&cluster, &node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cache_heals_itself_from_the_source() {
    let (cluster, node) = deployed_once().await;
    damage(&pack(&cluster));
    rebuild(&cluster, &node).await;
    cluster.until_state(NAME, "active").await.unwrap();
    assert_holds_image(&cluster, &node);
}

/// The source is gone as well: the deployment fails and says so, and the half-written disk boots nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_cannot_heal_says_why() {
    let (cluster, node) = deployed_once().await;
    let source = placed(&cluster);
    // Everything is prepared and checked; then the pack goes bad under the write, and the source with it.
    cluster.caches[0].proxy.limit_bytes_per_second(8 << 20);
    rebuild(&cluster, &node).await;
    write_begun(&cluster).await;
    fs::write(&source, b"something else").unwrap();
    damage(&pack(&cluster));
    cluster.caches[0].proxy.limit_bytes_per_second(0);
    let failed = cluster.until_state(NAME, "deploy failed").await.unwrap();
    let error = failed.status.unwrap().last_error;
    assert!(error.contains("the source cannot be had again"), "{error}");
    assert!(error.contains("disk.qcow2"), "names the source: {error}");
    assert_no_table(&cluster.disk(&node));
}

/// A cut write: no partition table from the moment it begins.
#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_write_leaves_no_partition_table() {
    let (cluster, node) = deployed_once().await;
    cluster.caches[0].proxy.limit_bytes_per_second(8 << 20);
    rebuild(&cluster, &node).await;
    write_begun(&cluster).await;
    cluster.client.abort_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "deploy failed").await.unwrap();
    assert_no_table(&cluster.disk(&node));
}

async fn deployed_once() -> (Cluster, Node) {
    let (cluster, node) = cluster().await;
    cluster.deploy(NAME, deployment(&cluster)).await.unwrap();
    cluster.until_state(NAME, "active").await.unwrap();
    (cluster, node)
}

/// The manifest comes before anything is written, and is much smaller than this.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;

/// Waits until the agent has received something of the image itself, and so has wiped the old tables.
async fn write_begun(cluster: &Cluster) {
    wait_for("begun write", Duration::from_secs(60), async || {
        let status = cluster.node(NAME).await.map_err(|error| error.to_string())?.status.unwrap();
        let progress = status.progress.unwrap_or_default();
        let begun = progress.wire_bytes > MANIFEST_BYTES_MAX;
        if begun { Ok(()) } else { Err(status.provision_state) }
    })
    .await
    .unwrap();
}

/// Begins to put the image on the machine again, all of it.
async fn rebuild(cluster: &Cluster, node: &Node) {
    empty_disk(&cluster.disk(node)).unwrap();
    let request = DeployNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: NAME.to_owned(),
        version: 0,
        deployment: None,
    };
    cluster.client.rebuild_node(request).await.unwrap();
}

/// The one pack in the cache: its largest file.
fn pack(cluster: &Cluster) -> PathBuf {
    let mut files = Vec::new();
    collect(&cluster.home().join("image-cache-0"), &mut files);
    files.into_iter().max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// Flips one bit near the end, behind what a running write has fetched.
fn damage(pack: &Path) {
    let file = fs::File::options().read(true).write(true).open(pack).unwrap();
    let place = file.metadata().unwrap().len() * 7 / 8;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place).unwrap();
    file.write_all_at(&[byte[0] ^ 1], place).unwrap();
}
