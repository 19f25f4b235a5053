//! A fleet's life: enrolled, made available (verified and cleaned), deployed. What it costs by the fleet's size.
//!
//! Runs `bessemer dev`, the whole cluster in one process, whose simulated machines run real agents as tasks: they look
//! their node up, open their session, erase, write the image from the cache and report, as on a machine. The image is as
//! small as an image can be, so that what is measured is the control plane. There is no peer: each size is held against the
//! smallest, and a cost that lies on a line has a ratio of 1.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use bessemer_client::Client;
use bessemer_proto::v1::{CreateNodeRequest, DeployNodeRequest, GetStatusRequest, NodeSpec};
use bessemer_testkit::{
    Process, binary, deployment_of, digest_of_file, prost_struct, verb, wait_for,
};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::report::{Report, mebibytes};

/// How large the fleets are.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Nodes of each fleet, smallest first.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 3_000, 10_000, 30_000])]
    nodes: Vec<usize>,
}

/// Size of the image and of each disk.
const IMAGE_BYTES: u64 = 1 << 20;

/// What of the image is not zeros.
const CONTENT_BYTES: usize = 64 << 10;

/// Calls under way at once.
const CLIENTS: usize = 64;

/// How long the cluster may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long a phase may take for each node, and at the least.
const NODE_LIMIT: Duration = Duration::from_millis(200);
const PHASE_LIMIT: Duration = Duration::from_secs(60);

/// What a fleet of some size cost.
struct Life {
    enrolled_seconds: f64,
    available_seconds: f64,
    deployed_seconds: f64,
    events: u64,
    peak_rss_bytes: u64,
}

impl Life {
    fn seconds(&self) -> f64 {
        self.enrolled_seconds + self.available_seconds + self.deployed_seconds
    }
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let columns = ["enrolled", "available", "deployed", "total", "per node", "events/s", "memory"];
    let mut report = Report::new("fleet", &columns);
    let mut first = None;
    for nodes in arguments.nodes {
        eprintln!("{nodes} nodes");
        let life = live(nodes).await.with_context(|| format!("{nodes} nodes"))?;
        let (seconds, memory) =
            (life.seconds() / nodes as f64, life.peak_rss_bytes as f64 / nodes as f64);
        let (first_seconds, first_memory) = *first.get_or_insert((seconds, memory));
        let row = vec![
            format!("{:.1} s", life.enrolled_seconds),
            format!("{:.1} s", life.available_seconds),
            format!("{:.1} s", life.deployed_seconds),
            format!("{:.1} s", life.seconds()),
            format!("{:.2} ms", seconds * 1e3),
            format!("{:.0}", life.events as f64 / life.seconds()),
            mebibytes(life.peak_rss_bytes),
        ];
        report.less_is_better(&nodes.to_string(), seconds * 1e3, first_seconds * 1e3, row);
        let row = vec![String::new(); columns.len()];
        report.less_is_better(&format!("{nodes}-memory"), memory, first_memory, row);
    }
    report.print();
    Ok(())
}

async fn live(nodes: usize) -> anyhow::Result<Life> {
    let directory = tempfile::Builder::new().prefix("bessemer-fleet-").tempdir()?;
    let image = directory.path().join("image.raw");
    make_image(&image)?;
    let data = directory.path().join("data").display().to_string();
    let arguments = ["dev", "--listen", "127.0.0.1:0", "--data", &data].map(str::to_owned);
    let dev = Process::start("dev", &binary("bessemer"), &arguments, directory.path())?;
    let url = wait_for("a cluster", START_LIMIT, async || {
        let log = dev.log();
        let url = log.lines().find_map(|line| line.strip_prefix("  api "));
        url.map(|url| url.trim().to_owned()).ok_or_else(|| dev.last_words())
    })
    .await?;
    let client = &Client::new(&[url])?.with_actor("bench");

    let begin = Instant::now();
    for_all(nodes, |number| enrol(client, number)).await?;
    let enrolled = Instant::now();
    for_all(nodes, |number| async move {
        client.manage_node(verb(&name(number))).await?;
        Ok(())
    })
    .await?;
    all_in(client, nodes, "manageable").await?;
    for_all(nodes, |number| async move {
        client.provide_node(verb(&name(number))).await?;
        Ok(())
    })
    .await?;
    all_in(client, nodes, "available").await?;
    let available = Instant::now();
    let deployment = deployment_of(&image, &digest_of_file(&image)?);
    for_all(nodes, |number| {
        let request = DeployNodeRequest {
            node: name(number),
            deployment: Some(deployment.clone()),
            ..DeployNodeRequest::default()
        };
        async {
            client.deploy_node(request).await?;
            Ok(())
        }
    })
    .await?;
    all_in(client, nodes, "active").await?;
    let deployed = Instant::now();
    Ok(Life {
        enrolled_seconds: (enrolled - begin).as_secs_f64(),
        available_seconds: (available - enrolled).as_secs_f64(),
        deployed_seconds: (deployed - available).as_secs_f64(),
        events: client.get_status(GetStatusRequest {}).await?.revision,
        peak_rss_bytes: dev.peak_rss_bytes()?,
    })
}

fn name(number: usize) -> String {
    format!("node-{number}")
}

/// A disk that begins with bytes that do not compress and ends with zeros.
fn make_image(path: &Path) -> anyhow::Result<()> {
    let mut file = fs::File::create(path)?;
    let mut content = vec![0; CONTENT_BYTES];
    let mut word = 0x9e37_79b9_u32;
    for byte in &mut content {
        // xorshift32
        word ^= word << 13;
        word ^= word >> 17;
        word ^= word << 5;
        *byte = word.to_le_bytes()[0];
    }
    file.write_all(&content)?;
    Ok(file.set_len(IMAGE_BYTES)?)
}

async fn for_all<F: Future<Output = anyhow::Result<()>>>(
    nodes: usize,
    call: impl FnMut(usize) -> F,
) -> anyhow::Result<()> {
    stream::iter((0..nodes).map(call)).buffer_unordered(CLIENTS).try_collect().await
}

async fn enrol(client: &Client, number: usize) -> anyhow::Result<()> {
    let [.., a, b, c] = number.to_be_bytes();
    let driver_info = prost_struct([("disk_bytes", IMAGE_BYTES.to_string().as_str())]);
    let request = CreateNodeRequest {
        name: name(number),
        spec: Some(NodeSpec {
            driver: "fake".to_owned(),
            driver_info: Some(driver_info),
            ..NodeSpec::default()
        }),
        port_addresses: vec![format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")],
        ..CreateNodeRequest::default()
    };
    client.create_node(request).await?;
    Ok(())
}

async fn all_in(client: &Client, nodes: usize, state: &str) -> anyhow::Result<()> {
    let limit = PHASE_LIMIT + NODE_LIMIT * u32::try_from(nodes)?;
    wait_for(&format!("{nodes} nodes {state}"), limit, async || {
        let status = client.get_status(GetStatusRequest {}).await;
        let states = status.map_err(|error| error.to_string())?.provision_states;
        if states.get(state) == Some(&(nodes as u64)) { Ok(()) } else { Err(format!("{states:?}")) }
    })
    .await
}
