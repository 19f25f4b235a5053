//! The conductor that drives the machine is killed in the middle of the image's write; the other one finishes.

use anyhow::Context;
use bessemer_testkit::wait_for;

use super::deploy::{available, deployment, says_its_name};
use super::{BOOT_LIMIT, NODE};
use crate::site::Site;

/// Slow enough that a conductor can be killed in the middle: about 16 MiB come over the wire.
const SLOW_BYTES_PER_SECOND: u64 = 2 << 20;

pub(crate) async fn run(site: &mut Site) -> anyhow::Result<()> {
    available(site).await?;
    site.machine.console.forget();
    site.cluster.caches[0].proxy.limit_bytes_per_second(SLOW_BYTES_PER_SECOND);
    site.cluster.deploy(NODE, deployment(site, "second.example")).await?;
    half_written(site).await?;

    let before = claim(site).await?;
    let owner: usize = before.conductor_id.trim_start_matches('c').parse()?;
    site.cluster.conductors[owner].kill();
    site.cluster.caches[0].proxy.limit_bytes_per_second(0);
    site.cluster.until_state(NODE, "active").await?;
    says_its_name(site, "second.example").await?;

    let after = claim(site).await?;
    anyhow::ensure!(
        after.conductor_id != before.conductor_id && after.epoch > before.epoch,
        "{before:?} is now {after:?}"
    );
    let events = site.cluster.events(NODE).await?;
    // Those of the deployment at hand.
    let begun = events.iter().rposition(|event| event.r#type == "node.deployment_requested");
    let begun = begun.context("no deployment in the node's history")?;
    let written = events[begun..].iter().filter(|event| {
        event.r#type == "node.step_completed"
            && String::from_utf8_lossy(&event.record).contains("deploy.write_image")
    });
    let count = written.count();
    anyhow::ensure!(count == 1, "the image's write was completed {count} times");
    site.cluster.conductors[owner].restart()?;
    site.cluster.ready(site.cluster.conductors.len()).await
}

async fn half_written(site: &Site) -> anyhow::Result<()> {
    wait_for("half of the image", BOOT_LIMIT, async || {
        let node = site.cluster.node(NODE).await.map_err(|error| error.to_string())?;
        let status = node.status.unwrap_or_default();
        let progress = status.progress.unwrap_or_default();
        let image = status.deployment.and_then(|deployment| deployment.image).unwrap_or_default();
        if progress.wire_bytes > 0 && progress.wire_bytes * 2 >= image.pack_size_bytes {
            return Ok(());
        }
        Err(format!("{} ({}), {progress:?}", status.provision_state, status.last_error))
    })
    .await
}

async fn claim(site: &Site) -> anyhow::Result<bessemer_proto::v1::Claim> {
    let status = site.cluster.node(NODE).await?.status.unwrap_or_default();
    status.claim.context("nobody drives the node")
}
