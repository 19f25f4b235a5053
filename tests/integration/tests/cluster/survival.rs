//! Kill -9 in the middle of an image write: the deployment completes, once, and goes on where it was.

use std::time::Duration;

use bessemer_proto::v1::Node;
use bessemer_testkit::{Cluster, Options, assert_stream_complete, wait_for};

use crate::images::{LARGE_DISK_BYTES, assert_holds_image, deployment};

/// Slow enough that something can be killed in the middle: about 64 MiB come over the wire.
const SLOW_BYTES_PER_SECOND: u64 = 12 << 20;

/// What is fetched twice after a cut: at most what was under way.
const REPEATED_BYTES_MAX: u64 = 8 << 20;

const NAME: &str = "survivor";

/// A cluster in the middle of an image write.
async fn half_written() -> (Cluster, Node) {
    half_written_in(&Options::default()).await
}

async fn half_written_in(options: &Options) -> (Cluster, Node) {
    let cluster = Cluster::start(options).await.unwrap();
    let node = cluster.available_node(NAME, LARGE_DISK_BYTES).await.unwrap();
    limit_caches(&cluster, SLOW_BYTES_PER_SECOND);
    cluster.deploy(NAME, deployment(&cluster)).await.unwrap();
    wait_for("half of the image", Duration::from_secs(90), async || {
        let node = cluster.node(NAME).await.map_err(|error| error.to_string())?;
        let status = node.status.unwrap();
        let progress = status.progress.unwrap_or_default();
        let image = status.deployment.and_then(|deployment| deployment.image).unwrap_or_default();
        // By what comes over the wire: the zeros of the image cost no time.
        if progress.wire_bytes > 0 && progress.wire_bytes * 2 >= image.pack_size_bytes {
            return Ok(());
        }
        Err(format!("{}, {progress:?}", status.provision_state))
    })
    .await
    .unwrap();
    (cluster, node)
}

fn limit_caches(cluster: &Cluster, bytes_per_second: u64) {
    for cache in &cluster.caches {
        cache.proxy.limit_bytes_per_second(bytes_per_second);
    }
}

/// The deployment completes, the disk is right, nothing was fetched from the start again, no event is missing or twice.
async fn assert_completes(cluster: &Cluster, node: &Node) {
    limit_caches(cluster, 0);
    let active = cluster.until_state(NAME, "active").await.unwrap();
    assert_holds_image(cluster, node);
    let deployment = active.status.unwrap().deployment.unwrap();
    let (image, write) = (deployment.image.unwrap(), deployment.write.unwrap());
    assert!(
        write.wire_bytes <= image.pack_size_bytes + REPEATED_BYTES_MAX,
        "{write:?} of a pack of {} bytes",
        image.pack_size_bytes
    );
    let events = cluster.events(NAME).await.unwrap();
    let written = events.iter().filter(|event| {
        event.r#type == "node.step_completed"
            && String::from_utf8_lossy(&event.record).contains("deploy.write_image")
    });
    assert_eq!(written.count(), 1);
    assert_stream_complete(cluster).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_is_killed() {
    let (mut cluster, node) = half_written().await;
    let leader = cluster.leader().await.unwrap();
    cluster.members[leader].kill();
    assert_completes(&cluster, &node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owning_conductor_is_killed() {
    let (mut cluster, node) = half_written().await;
    let claim = cluster.node(NAME).await.unwrap().status.unwrap().claim.unwrap();
    let owner: usize = claim.conductor_id.trim_start_matches('c').parse().unwrap();
    cluster.conductors[owner].kill();
    assert_completes(&cluster, &node).await;
    let after = cluster.node(NAME).await.unwrap().status.unwrap().claim.unwrap();
    assert!(after.conductor_id != claim.conductor_id && after.epoch > claim.epoch);
}

/// Nothing is waited for and nothing is begun again: the agent goes on writing and reports to whoever drives it now.
#[tokio::test(flavor = "multi_thread")]
async fn the_owning_conductor_is_drained() {
    let (cluster, node) = half_written().await;
    let claim = cluster.node(NAME).await.unwrap().status.unwrap().claim.unwrap();
    let drain = ["conductor", "drain", &claim.conductor_id, "--wait", "--timeout", "30s"];
    let output = cluster.bessemer(&[1], &drain).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("online, drained"), "{output:?}");
    wait_for("another claim", Duration::from_secs(10), async || {
        let status = cluster.node(NAME).await.map_err(|error| error.to_string())?.status.unwrap();
        let after = status.claim.unwrap();
        let moved = after.conductor_id != claim.conductor_id && after.epoch > claim.epoch;
        if moved { Ok(()) } else { Err(after.conductor_id) }
    })
    .await
    .unwrap();
    assert_completes(&cluster, &node).await;

    // The other one is the last; it may go only by force.
    let last = if claim.conductor_id == "c0" { "c1" } else { "c0" };
    let output = cluster.bessemer(&[2], &["conductor", "drain", last]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(said.contains("no other online conductor can take over 1 of the nodes"), "{said}");
    let output = cluster.bessemer(&[3], &["conductor", "resume", &claim.conductor_id]).unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = cluster.bessemer(&[3], &["conductor", "drain", last, "--wait"]).unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_cache_is_killed() {
    let (mut cluster, node) = half_written().await;
    cluster.caches[0].process.kill();
    cluster.caches[0].process.restart().unwrap();
    assert_completes(&cluster, &node).await;
}

/// One of two caches dies and stays away, whichever of them the agent reads from. They ask for signed URLs.
async fn an_image_cache_is_lost(place: usize) {
    let key = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key.path(), "a secret of the site's, at least 32 bytes of it").unwrap();
    let options = Options {
        caches: 2,
        cache_config: format!("url_key_files = [{:?}]\n", key.path()),
        conductor_config: format!("[signed_urls]\nkey_file = {:?}\n", key.path()),
        ..Options::default()
    };
    let (mut cluster, node) = half_written_in(&options).await;
    cluster.caches[place].process.kill();
    assert_completes(&cluster, &node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_image_cache_is_lost() {
    an_image_cache_is_lost(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_image_cache_is_lost() {
    an_image_cache_is_lost(1).await;
}

/// Its store is lost as well: the stream is completed from the ledger.
#[tokio::test(flavor = "multi_thread")]
async fn nats_is_killed_and_its_store_lost() {
    let (mut cluster, node) = half_written().await;
    cluster.nats.as_mut().unwrap().lose_everything().unwrap();
    assert_completes(&cluster, &node).await;
}

/// A machine that stops in the middle is booted again, and what is on its disk is not fetched twice.
#[tokio::test(flavor = "multi_thread")]
async fn the_agent_is_killed() {
    let (cluster, node) = half_written().await;
    let program = cluster.agent_of(&node).unwrap();
    program.kill().unwrap();
    assert_completes(&cluster, &node).await;
    let active = cluster.node(NAME).await.unwrap().status.unwrap();
    let write = active.deployment.unwrap().write.unwrap();
    assert!(write.resumed_bytes > 0, "{write:?}");
}
