//! `bessemer demo`: a cluster from nothing, machines deployed with a real image, and every byte of their disks checked.

mod compare;
mod fleet;
mod reference;
mod report;
mod sample;
mod story;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bessemer_client::Client;
use bessemer_hardware::fake::AgentRunner;
use bessemer_proto::v1::prepare_image_response::Update;
use bessemer_proto::v1::{
    ConfigDrive, DeployNodeRequest, DeploymentSpec, Image, ImageSpec, Node, NodeVerbRequest,
    PrepareImageRequest,
};
use bessemer_runtime::telemetry;
use clap::Args;
use futures::StreamExt;
use futures::future::try_join_all;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::arguments::to_struct;
use crate::dev::{Cluster, ClusterConfig};
use crate::event::verify;
use crate::failure::{Failure, chain};
use crate::image_argument::{ImageDigest, source_url};
use crate::machines;
use crate::node::history;
use crate::node::verdict::Goal;
use crate::output::{print, quantity};
use crate::progress::{Screen, Transfer};

use compare::Checked;
use story::Story;

/// Name of the agent's program: under it, this program is the agent (see `main`). Agents run as processes of their own,
/// so that the memory that they report is theirs.
pub(crate) const AGENT_PROGRAM: &str = "bessemer-agent";

/// Longest the demo may take, whatever is wrong.
const LIMIT: Duration = Duration::from_secs(30 * 60);

const MIB: u64 = 1024 * 1024;

/// Smallest disk of a machine: larger than the image, as disks are.
const DISK_BYTES_MIN: u64 = 1024 * MIB;

/// Room on the disk behind the image, for the config drive and a partition table.
const DISK_ROOM_BYTES: u64 = 128 * MIB;

/// `bessemer demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Image to deploy, of any format; without it, a small one is made
    #[arg(long, value_name = "PATH|URL")]
    image: Option<String>,
    #[command(flatten)]
    digest: ImageDigest,
    /// How many machines
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=200))]
    machines: u32,
}

/// What is deployed.
struct Subject {
    spec: ImageSpec,
    /// The disk it describes, where that is known without asking the cluster.
    raw: Option<PathBuf>,
}

impl Demo {
    /// Runs the demo in a fresh directory, which goes when all was well and stays when it was not.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let directory = tempfile::Builder::new()
            .prefix("bessemer-demo-")
            .tempdir()
            .map_err(|error| Failure::failed(format!("no temporary directory: {error}")))?;
        let log = directory.path().join("demo.log");
        let logs = telemetry::Config { file: Some(log.clone()), ..telemetry::Config::default() };
        let _telemetry = telemetry::init("bessemer-demo", &logs)
            .map_err(|error| Failure::failed(chain(&error)))?;
        let stop = bessemer_runtime::on_signal()
            .map_err(|error| Failure::failed(format!("cannot handle signals: {error}")))?;
        let result = self.in_directory(directory.path(), &stop).await;
        if let Err(failure) = result {
            let kept = directory.keep();
            return Err(failure.hint(format!(
                "everything is left in {}; what the services said is in {}",
                kept.display(),
                log.display()
            )));
        }
        Ok(())
    }

    async fn in_directory(self, directory: &Path, stop: &CancellationToken) -> Result<(), Failure> {
        let mut story = Story::new();
        let machines = self.machines;
        print(&format!(
            "\nBessemer demo: {machines} simulated machines, one real image, every byte checked.\n\n"
        ))?;
        story.begin("cluster");
        let agents = agent_program(directory)?;
        let config = ClusterConfig {
            data_dir: directory.join("cluster"),
            listen: Some(std::net::SocketAddr::from(([127, 0, 0, 1], 0))),
            members: Some(3),
            dashboard: None,
            rest: None,
            nats: None,
            agents: AgentRunner::Program(agents),
            tls: false,
        };
        let services = stop.child_token();
        let cluster = Cluster::start(config, services.clone()).await?;
        let told = tokio::select! {
            told = tokio::time::timeout(LIMIT, self.tell(&cluster, directory, &mut story)) => {
                told.unwrap_or_else(|_elapsed| {
                    Err(Failure::failed(format!("the demo was not done within {LIMIT:?}")))
                })
            }
            () = services.cancelled() => Err(Failure::failed("interrupted")),
        };
        story.clear();
        services.cancel();
        let stopped = cluster.stopped().await;
        if told.is_err() {
            fleet::pull_the_plug(directory).await;
        }
        told.and(stopped)
    }

    async fn tell(
        self,
        cluster: &Cluster,
        directory: &Path,
        story: &mut Story,
    ) -> Result<(), Failure> {
        let client = Client::new(&cluster.api_urls)?.with_actor("demo");
        cluster.ready(&client).await?;
        story.done("3 members with a leader, 1 conductor, 1 image cache, in one process")?;

        story.begin("image");
        let subject = self.subject(directory).await?;
        let image = prepare(&client, &subject.spec, story).await?;
        story.done(&report::image(&image, subject.raw.is_some()))?;

        story.begin("machines");
        let resolved = image.resolved.clone().unwrap_or_default();
        let disk_bytes =
            (resolved.raw_size_bytes + DISK_ROOM_BYTES).next_multiple_of(MIB).max(DISK_BYTES_MIN);
        let nodes = machines::enrol(&client, "demo", self.machines, disk_bytes).await?;
        fleet::make_available(&client, &nodes, story.screen()).await?;
        story.done(&format!(
            "enrolled, reached, cleaned by their agents: {} available, with disks of {}",
            nodes.len(),
            quantity::bytes(disk_bytes)
        ))?;

        story.begin("deploy");
        let began = Instant::now();
        let nodes = deploy(&client, &nodes, &subject.spec, story.screen()).await?;
        let took = began.elapsed();
        story.done(&format!("{} active, all at once", nodes.len()))?;

        story.begin("check");
        let raw = match subject.raw {
            Some(raw) => raw,
            None => reference::download(&image, directory).await?,
        };
        let checked = compare::all(&nodes, &raw, directory).await?;
        story.done(&report::verdict(&checked, resolved.raw_size_bytes))?;
        story.begin("history");
        let verified = verify(&client, story.screen()).await?;
        story.done(&format!(
            "{} events, none missing, none altered, tip {}",
            verified.events,
            &verified.hash[..16]
        ))?;

        print_results(&client, &nodes, &checked).await?;
        if let Some(wrong) = checked.iter().find_map(Checked::complaint) {
            return Err(Failure::failed(wrong));
        }
        print(&format!(
            "{} machines deployed in {} and checked, {} in all.\n\n",
            nodes.len(),
            quantity::duration(took),
            quantity::duration(story.elapsed())
        ))
    }

    async fn subject(&self, directory: &Path) -> Result<Subject, Failure> {
        if let Some(image) = &self.image {
            let source = source_url(image)?.ok_or_else(|| {
                Failure::refused(format!("`{image}` is neither a URL nor a file"))
            })?;
            return Ok(Subject { spec: self.digest.of(source), raw: None });
        }
        let directory = directory.to_owned();
        let sample = tokio::task::spawn_blocking(move || sample::make(&directory))
            .await
            .map_err(|panic| Failure::failed(chain(&panic)))?
            .map_err(|error| Failure::failed(format!("cannot make an image: {error}")))?;
        let source = source_url(&sample.qcow2.to_string_lossy())?.unwrap_or_default();
        let spec = ImageSpec { disk_format: "qcow2".to_owned(), ..self.digest.of(source) };
        Ok(Subject { spec, raw: Some(sample.raw) })
    }
}

/// This program under the agent's name.
fn agent_program(directory: &Path) -> Result<PathBuf, Failure> {
    let program = directory.join(AGENT_PROGRAM);
    std::env::current_exe()
        .and_then(|this| std::os::unix::fs::symlink(this, &program))
        .map_err(|error| Failure::failed(format!("cannot make {}: {error}", program.display())))?;
    Ok(program)
}

async fn prepare(client: &Client, spec: &ImageSpec, story: &mut Story) -> Result<Image, Failure> {
    let request =
        PrepareImageRequest { image: Some(spec.clone()), ..PrepareImageRequest::default() };
    let mut updates = client.prepare_image(request);
    while let Some(update) = updates.next().await {
        match update?.update {
            Some(Update::Progress(progress)) => {
                let transfer = Transfer {
                    done_bytes: progress.done_bytes,
                    total_bytes: progress.total_bytes,
                    bytes_per_second: progress.bytes_per_second,
                };
                story.progress(&progress.phase, transfer);
            }
            Some(Update::Image(image)) => return Ok(image),
            None => {}
        }
    }
    Err(Failure::failed("the preparation of the image ended without an image"))
}

async fn deploy(
    client: &Client,
    nodes: &[Node],
    image: &ImageSpec,
    screen: &mut Screen,
) -> Result<Vec<Node>, Failure> {
    let accepted = try_join_all(nodes.iter().map(|node| {
        let name = crate::node::label(node);
        client.deploy_node(DeployNodeRequest {
            node: name.to_owned(),
            deployment: Some(DeploymentSpec {
                image: Some(image.clone()),
                config_drive: Some(config_drive(name)),
                ..DeploymentSpec::default()
            }),
            ..DeployNodeRequest::default()
        })
    }))
    .await?;
    fleet::settle(client, &accepted, &Goal::State("active"), screen).await
}

fn config_drive(name: &str) -> ConfigDrive {
    ConfigDrive {
        meta_data: json!({ "hostname": name }).as_object().map(to_struct),
        user_data: format!("#cloud-config\nhostname: {name}\n").into_bytes(),
        ..ConfigDrive::default()
    }
}

fn verb(node: &Node) -> NodeVerbRequest {
    NodeVerbRequest { node: crate::node::label(node).to_owned(), ..NodeVerbRequest::default() }
}

async fn print_results(
    client: &Client,
    nodes: &[Node],
    checked: &[Checked],
) -> Result<(), Failure> {
    if let Some(first) = nodes.first() {
        let name = crate::node::label(first);
        let events = history::of_node(client, name).await?;
        print(&format!("\nWhat happened to {name}:\n\n{}", history::timeline(&events).render()))?;
    }
    print(&format!("\n{}\n", report::machines(nodes, checked).render()))
}
