//! Many machines read one image at once from two image caches, each behind a link of its own; one cache is lost in the
//! middle of the second case.
//!
//! There is no peer to run: the figures stand against the time that the links need for the bytes. Hosts are network
//! namespaces, so it takes root.

use std::time::{Duration, SystemTime};

use bessemer_proto::v1::{DeploymentSpec, GetImageRequest, ListNodesRequest, Node, Step};
use bessemer_testkit::{
    Cluster, Network, Options, PartitionedImage, deployment_of, digest_of_file, digest_of_prefix,
    wait_for,
};
use futures::{StreamExt, TryStreamExt, stream};

use crate::report::Report;

/// How many machines, and how fast the links.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Machines.
    #[arg(long, default_value_t = 64)]
    nodes: usize,
    /// Size of the image's data in MiB; it does not compress.
    #[arg(long, default_value_t = 32)]
    data_mib: u64,
    /// What each cache's link carries, in MiB a second.
    #[arg(long, default_value_t = 64)]
    link_mib: u64,
}

/// What each machine gets before all of them are at the start.
const HELD_BYTES_PER_SECOND: u64 = 4 << 10;

/// How long anything may take before it counts as failed.
const LIMIT: Duration = Duration::from_secs(300);

/// The total time may be so much longer than the links need.
const BOUND: f64 = 1.2;

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Less than the link carries, headers included, so that the cache and not a queue on the way decides who is next.
    let pace = (arguments.link_mib << 20) * 9 / 10;
    // All machines are on one host, so it is by their deployments that the caches tell them apart.
    let key = tempfile::NamedTempFile::new()?;
    std::fs::write(key.path(), uuid::Uuid::new_v4().to_string())?;
    let options = Options {
        members: 1,
        nats: false,
        caches: 2,
        network: Network::Hosts,
        cache_config: format!(
            "send_limit_bytes_per_second = {pace}\nurl_key_files = [{:?}]\n",
            key.path()
        ),
        conductor_config: format!("[signed_urls]\nkey_file = {:?}\n", key.path()),
        ..Options::default()
    };
    let cluster = Cluster::start(&options).await?;
    let image =
        PartitionedImage::build(cluster.home(), arguments.data_mib * 2, arguments.data_mib)?;
    let deployment = deployment_of(&image.qcow2, &digest_of_file(&image.qcow2)?);
    let raw_sha256 = image.converted_digest()?;
    let mut swarm =
        Swarm { cluster, deployment, raw_bytes: image.raw_bytes, raw_sha256, arguments };
    let wire_bytes = swarm.prepare().await?;
    let mut report = Report::new("swarm", &["links alone", "all written", "spread"]);
    swarm.measure(&mut report, "two caches", wire_bytes, false).await?;
    swarm.measure(&mut report, "one lost half way", wire_bytes, true).await?;
    report.print();
    Ok(())
}

/// The cluster, and what its machines are to get.
struct Swarm {
    cluster: Cluster,
    deployment: DeploymentSpec,
    raw_bytes: u64,
    raw_sha256: String,
    arguments: Arguments,
}

impl Swarm {
    /// Has both caches hold the image. Answers what of it travels to each machine, in bytes.
    async fn prepare(&self) -> anyhow::Result<u64> {
        let node = "warm-up";
        self.cluster.available_node(node, self.raw_bytes).await?;
        self.cluster.deploy(node, self.deployment.clone()).await?;
        let active = self.cluster.until_state(node, "active").await?;
        let deployment = active.status.unwrap_or_default().deployment.unwrap_or_default();
        let id = deployment.image.unwrap_or_default().id;
        wait_for("the image in both caches", LIMIT, async || {
            let request = GetImageRequest { image: id.clone() };
            let image =
                self.cluster.client.get_image(request).await.map_err(|it| it.to_string())?;
            if image.urls.len() == 2 { Ok(()) } else { Err(format!("{:?}", image.urls)) }
        })
        .await?;
        Ok(deployment.write.unwrap_or_default().wire_bytes)
    }

    /// Deploys to new machines, all at once, and compares with the time that the links need alone.
    async fn measure(
        &mut self,
        report: &mut Report,
        case: &str,
        wire_bytes: u64,
        is_lost: bool,
    ) -> anyhow::Result<()> {
        let prefix = if is_lost { "lost" } else { "both" };
        let names: Vec<_> =
            (0..self.arguments.nodes).map(|number| format!("{prefix}-{number}")).collect();
        let enrol = names.iter().map(|name| self.cluster.available_node(name, self.raw_bytes));
        stream::iter(enrol).buffer_unordered(16).try_collect::<Vec<_>>().await?;
        self.limit(self.arguments.link_mib << 20)?;
        self.hold(HELD_BYTES_PER_SECOND);
        for name in &names {
            self.cluster.deploy(name, self.deployment.clone()).await?;
        }
        self.until_all("at the start", &names, |step| step.attempt > 0).await?;
        eprintln!("{case}: {} machines at the start", names.len());

        let link = self.arguments.link_mib << 20;
        let total = wire_bytes * names.len() as u64;
        let began = SystemTime::now();
        self.hold(0);
        let mut alone = total as f64 / (2 * link) as f64;
        if is_lost {
            let passed = || self.cluster.caches.iter().map(|cache| cache.proxy.passed_bytes());
            let before: u64 = passed().sum();
            wait_for("half of the bytes", LIMIT, async || {
                let now = passed().sum::<u64>() - before;
                if now * 2 >= total { Ok(()) } else { Err(format!("{now} of {total} bytes")) }
            })
            .await?;
            self.cluster.caches[0].process.kill();
            // The second half passes one link.
            alone *= 1.5;
        }
        let nodes = self.until_all("written", &names, |step| step.finished_at.is_some()).await?;
        let mut seconds = nodes
            .iter()
            .map(|node| {
                let ended = write_step(node).and_then(|step| step.finished_at);
                let ended = SystemTime::try_from(ended.unwrap_or_default())?;
                Ok(ended.duration_since(began)?.as_secs_f64())
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        seconds.sort_by(f64::total_cmp);
        let (first, last) = (seconds[0], seconds[seconds.len() - 1]);
        for node in &nodes {
            let found = digest_of_prefix(&self.cluster.disk(node), self.raw_bytes)?;
            anyhow::ensure!(found == self.raw_sha256, "a disk does not hold the image");
        }
        let spread = format!("{:.0} %", 100.0 * (last - first) / last);
        let row = vec![format!("{alone:.1} s"), format!("{last:.1} s"), spread];
        report.less_is_better(case, last, alone * BOUND, row);
        Ok(())
    }

    /// Lets every machine have that much a second; 0 is what the links carry.
    fn hold(&self, bytes_per_second: u64) {
        let proxies = self.cluster.caches.iter().map(|cache| &cache.proxy);
        proxies.for_each(|proxy| proxy.limit_bytes_per_second(bytes_per_second));
    }

    fn limit(&self, bytes_per_second: u64) -> anyhow::Result<()> {
        let mut hosts = self.cluster.caches.iter().map(|cache| cache.process.host());
        hosts.try_for_each(|host| host.limit_sent_bytes_per_second(bytes_per_second))
    }

    /// The nodes, once the step that writes the image is so far on each of them.
    async fn until_all(
        &self,
        what: &str,
        names: &[String],
        is_so_far: impl Fn(&Step) -> bool,
    ) -> anyhow::Result<Vec<Node>> {
        wait_for(&format!("all {what}"), LIMIT, async || {
            let request = ListNodesRequest { page_size: 1000, ..ListNodesRequest::default() };
            let list =
                self.cluster.client.list_nodes(request).await.map_err(|it| it.to_string())?;
            let is_meant = |node: &Node| {
                node.metadata.as_ref().is_some_and(|metadata| names.contains(&metadata.name))
            };
            let there = list.nodes.into_iter().filter(is_meant);
            let there: Vec<_> = there
                .filter(|node| write_step(node).is_some_and(|step| is_so_far(&step)))
                .collect();
            if there.len() == names.len() { Ok(there) } else { Err(format!("{} are", there.len())) }
        })
        .await
    }
}

fn write_step(node: &Node) -> Option<Step> {
    let plan = node.status.as_ref()?.plan.as_ref()?;
    plan.steps.iter().find(|step| step.name == "write_image").cloned()
}
