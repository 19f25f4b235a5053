//! How long the cluster is without a leader, and nodes without a conductor, when one is killed.
//!
//! There is no peer to run: the figures stand against the bounds that operators are promised.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail};
use bessemer_proto::v1::{CreateNodeRequest, ListNodesRequest, Node, NodeFilter, NodeSpec};
use bessemer_testkit::{Cluster, Options, PartitionedImage, deployment_of, digest_of_file};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::report::Report;

/// What is killed how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Rounds of each case.
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Nodes of the fleet, at rest.
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// Nodes in the middle of an image write.
    #[arg(long, default_value_t = 20)]
    deploying: usize,
}

/// A client is accepted again after the leader is gone.
const LEADER_BOUND: Duration = Duration::from_millis(1500);

/// A lost conductor's nodes go on.
const CONDUCTOR_BOUND: Duration = Duration::from_secs(5);

/// A round that takes longer is a failure and not a figure.
const ROUND_LIMIT: Duration = Duration::from_secs(60);

/// How often nodes are looked at; the figures are no finer.
const LOOK: Duration = Duration::from_millis(20);

/// The network is so slow that no write ends before the last round.
const SLOW_BYTES_PER_SECOND: u64 = 64 << 10;

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut cluster =
        Cluster::start(&Options { members: 3, conductors: 2, nats: false, ..Options::default() })
            .await?;
    let create = (0..arguments.nodes).map(|number| create(&cluster, format!("idle-{number}")));
    stream::iter(create).buffer_unordered(64).try_collect::<()>().await?;
    let mut report = Report::new("failover", &["p50", "p99", "bound"]);
    let seconds = leader(&mut cluster, arguments.rounds).await.context("leader")?;
    add(&mut report, "leader", seconds, LEADER_BOUND);
    start_deployments(&cluster, arguments.deploying).await?;
    let seconds = conductor(&mut cluster, arguments.rounds).await.context("conductor")?;
    add(&mut report, "conductor", seconds, CONDUCTOR_BOUND);
    report.print();
    Ok(())
}

fn add(report: &mut Report, case: &str, mut seconds: Vec<f64>, bound: Duration) {
    seconds.sort_by(f64::total_cmp);
    let quantile = |percent: usize| {
        let place = (seconds.len() * percent).div_ceil(100).saturating_sub(1);
        seconds.get(place).copied().unwrap_or(f64::NAN)
    };
    let row = [quantile(50), quantile(99), bound.as_secs_f64()];
    let row = row.iter().map(|seconds| format!("{seconds:.2} s")).collect();
    report.less_is_better(case, quantile(99), bound.as_secs_f64(), row);
}

async fn create(cluster: &Cluster, name: String) -> anyhow::Result<()> {
    let request = CreateNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        id: Uuid::new_v4().to_string(),
        name,
        spec: Some(NodeSpec { driver: "fake".to_owned(), ..NodeSpec::default() }),
        port_addresses: Vec::new(),
    };
    cluster.client.create_node(request).await?;
    Ok(())
}

/// Seconds from the leader's death to the next accepted command, each round.
async fn leader(cluster: &mut Cluster, rounds: usize) -> anyhow::Result<Vec<f64>> {
    let mut seconds = Vec::new();
    for round in 0..rounds {
        let leader = cluster.leader().await?;
        let killed = Instant::now();
        cluster.members[leader].kill();
        create(cluster, format!("after-leader-{round}")).await?;
        seconds.push(killed.elapsed().as_secs_f64());
        cluster.members[leader].restart()?;
        cluster.ready(2).await?;
    }
    Ok(seconds)
}

async fn start_deployments(cluster: &Cluster, count: usize) -> anyhow::Result<()> {
    let image = PartitionedImage::build(cluster.home(), 96, 40)?;
    let deployment = deployment_of(&image.qcow2, &digest_of_file(&image.qcow2)?);
    cluster.caches[0].proxy.limit_bytes_per_second(SLOW_BYTES_PER_SECOND);
    for number in 0..count {
        let name = format!("busy-{number}");
        cluster.available_node(&name, image.raw_bytes).await?;
        cluster.deploy(&name, deployment.clone()).await?;
    }
    let deadline = Instant::now() + ROUND_LIMIT;
    while deploying(cluster).await?.iter().filter(|node| attempts(node) > 0).count() < count {
        if Instant::now() > deadline {
            bail!("the deployments do not begin");
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Seconds from a conductor's death until another one has claimed and taken up each of its deployments.
async fn conductor(cluster: &mut Cluster, rounds: usize) -> anyhow::Result<Vec<f64>> {
    let mut seconds = Vec::new();
    for round in 0..rounds {
        let place = round % cluster.conductors.len();
        let id = format!("c{place}");
        let its: BTreeMap<_, _> = deploying(cluster)
            .await?
            .iter()
            .filter(|node| owner(node) == id)
            .map(|node| (name(node), attempts(node)))
            .collect();
        let killed = Instant::now();
        cluster.conductors[place].kill();
        loop {
            let nodes = deploying(cluster).await?;
            let goes_on = |node: &&Node| {
                let before = its.get(&name(node));
                before.is_some_and(|before| owner(node) != id && attempts(node) > *before)
            };
            let going_on = nodes.iter().filter(goes_on).count();
            if going_on == its.len() {
                break;
            }
            if killed.elapsed() > ROUND_LIMIT {
                bail!("{going_on} of {} deployments of {id} go on", its.len());
            }
            sleep(LOOK).await;
        }
        if !its.is_empty() {
            seconds.push(killed.elapsed().as_secs_f64());
        }
        cluster.conductors[place].restart()?;
        cluster.ready(2).await?;
    }
    Ok(seconds)
}

async fn deploying(cluster: &Cluster) -> anyhow::Result<Vec<Node>> {
    let filter = NodeFilter {
        provision_states: vec!["deploying".to_owned(), "wait call-back".to_owned()],
        ..NodeFilter::default()
    };
    let request =
        ListNodesRequest { page_size: 1000, filter: Some(filter), ..ListNodesRequest::default() };
    Ok(cluster.client.list_nodes(request).await?.nodes)
}

fn name(node: &Node) -> String {
    node.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default()
}

fn owner(node: &Node) -> String {
    let claim = node.status.as_ref().and_then(|status| status.claim.as_ref());
    claim.map(|claim| claim.conductor_id.clone()).unwrap_or_default()
}

/// How often the image write was begun: each conductor that takes the node over does so.
fn attempts(node: &Node) -> u32 {
    let plan = node.status.as_ref().and_then(|status| status.plan.as_ref());
    let write = plan.and_then(|plan| plan.steps.iter().find(|step| step.name == "write_image"));
    write.map_or(0, |write| write.attempt)
}
