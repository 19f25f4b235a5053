//! The machines, and whoever wants them deployed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bessemer_client::Client;
use bessemer_proto::v1::{
    CreateNodeRequest, DeployNodeRequest, ListNodesRequest, Node, NodeFilter, NodeSpec,
};
use bessemer_testkit::{deployment_of, digest_of_file, empty_disk, prost_struct, verb};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// How often the nodes are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// Requests under way at once.
const AT_ONCE: usize = 32;

/// How long the fleet may take to become available.
const AVAILABLE_LIMIT: Duration = Duration::from_secs(600);

/// Owner of the machines; other nodes have none.
const OWNER: &str = "fleet";

/// All machines that are deployed.
pub(crate) struct Fleet {
    pub(crate) client: Client,
    pub(crate) machines_dir: PathBuf,
    pub(crate) image: PathBuf,
    pub(crate) image_sha256: String,
    pub(crate) raw_sha256: String,
    /// Deployments that succeeded, each with its disk compared.
    pub(crate) deployments: usize,
}

impl Fleet {
    /// Enrols machines and makes them available.
    pub(crate) async fn enrol(&self, count: usize, disk_bytes: u64) -> anyhow::Result<()> {
        let requests = (0..count).map(|number| self.client_create(number, disk_bytes));
        at_once(requests).await?;
        self.all_in("enroll", "manageable", async |name| {
            self.client.manage_node(verb(&name)).await.map(drop)
        })
        .await?;
        self.all_in("manageable", "available", async |name| {
            self.client.provide_node(verb(&name)).await.map(drop)
        })
        .await
    }

    async fn client_create(
        &self,
        number: usize,
        disk_bytes: u64,
    ) -> Result<(), bessemer_client::Error> {
        let driver_info = prost_struct([("disk_bytes", disk_bytes.to_string().as_str())]);
        let [.., a, b] = number.to_be_bytes();
        let request = CreateNodeRequest {
            command_id: Uuid::new_v4().to_string(),
            id: Uuid::new_v4().to_string(),
            name: format!("node-{number}"),
            spec: Some(NodeSpec {
                driver: "fake".to_owned(),
                driver_info: Some(driver_info),
                owner: OWNER.to_owned(),
                ..NodeSpec::default()
            }),
            port_addresses: vec![format!("52:54:00:00:{a:02x}:{b:02x}")],
        };
        self.client.create_node(request).await.map(drop)
    }

    /// Asks for a change of every node and waits until all have gone through it.
    async fn all_in(
        &self,
        from: &str,
        to: &str,
        ask: impl AsyncFn(String) -> Result<(), bessemer_client::Error>,
    ) -> anyhow::Result<()> {
        let nodes = self.nodes().await?;
        at_once(nodes.iter().map(|node| ask(name_of(node)))).await?;
        let deadline = Instant::now() + AVAILABLE_LIMIT;
        loop {
            let nodes = self.nodes().await?;
            let waiting: Vec<_> = nodes.iter().filter(|node| state_of(node) != to).collect();
            let Some(first) = waiting.first() else { return Ok(()) };
            ensure!(
                Instant::now() < deadline,
                "{} nodes did not get from {from} to {to}, {} among them: {:?}",
                waiting.len(),
                name_of(first),
                first.status
            );
            sleep(LOOK).await;
        }
    }

    /// Asks for the first deployment of all.
    pub(crate) async fn deploy_all(&self) -> anyhow::Result<()> {
        let nodes = self.nodes().await?;
        at_once(nodes.iter().map(async |node| {
            let request = DeployNodeRequest {
                command_id: Uuid::new_v4().to_string(),
                node: name_of(node),
                version: 0,
                deployment: Some(deployment_of(&self.image, &self.image_sha256)),
            };
            self.client.deploy_node(request).await.map(drop)
        }))
        .await
    }

    /// Checks each machine that is deployed and deploys it again, until the time is over; then waits for the last ones.
    pub(crate) async fn keep_deploying(
        &mut self,
        until: Instant,
        settle: Duration,
    ) -> anyhow::Result<()> {
        let mut done = BTreeSet::new();
        loop {
            let nodes = self.nodes().await?;
            for node in &nodes {
                if done.contains(&name_of(node)) {
                    continue;
                }
                match state_of(node) {
                    "active" => {}
                    "deploying" | "wait call-back" => continue,
                    other => bail!("{} is {other}: {:?}", name_of(node), node.status),
                }
                self.check_disk(node).await?;
                self.deployments += 1;
                if Instant::now() < until {
                    // Of an image that is there already, nothing would be written.
                    empty_disk(&self.machine(node).join("disk.img"))?;
                    let request = DeployNodeRequest {
                        command_id: Uuid::new_v4().to_string(),
                        node: name_of(node),
                        ..DeployNodeRequest::default()
                    };
                    self.client.rebuild_node(request).await?;
                } else {
                    done.insert(name_of(node));
                }
            }
            if done.len() == nodes.len() {
                return Ok(());
            }
            if Instant::now() > until + settle {
                let late = nodes.iter().find(|node| !done.contains(&name_of(node)));
                bail!("{} of {} are done; {late:?} is not", done.len(), nodes.len());
            }
            sleep(LOOK).await;
        }
    }

    async fn check_disk(&self, node: &Node) -> anyhow::Result<()> {
        let disk = self.machine(node).join("disk.img");
        let found = tokio::task::spawn_blocking({
            let disk = disk.clone();
            move || digest_of_file(&disk)
        })
        .await??;
        ensure!(found == self.raw_sha256, "{} is not the image: {found}", disk.display());
        Ok(())
    }

    /// All machines of the fleet.
    pub(crate) async fn nodes(&self) -> anyhow::Result<Vec<Node>> {
        let filter = NodeFilter { owner: OWNER.to_owned(), ..NodeFilter::default() };
        let request = ListNodesRequest {
            page_size: 1000,
            filter: Some(filter),
            ..ListNodesRequest::default()
        };
        Ok(self.client.list_nodes(request).await.context("list nodes")?.nodes)
    }

    /// The directory of a node's machine.
    pub(crate) fn machine(&self, node: &Node) -> PathBuf {
        let id = node.metadata.as_ref().map(|metadata| metadata.id.as_str());
        Path::new(&self.machines_dir).join(id.unwrap_or_default())
    }
}

async fn at_once<F>(requests: impl Iterator<Item = F>) -> anyhow::Result<()>
where
    F: Future<Output = Result<(), bessemer_client::Error>>,
{
    stream::iter(requests).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(())
}

pub(crate) fn name_of(node: &Node) -> String {
    node.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default()
}

fn state_of(node: &Node) -> &str {
    node.status.as_ref().map(|status| status.provision_state.as_str()).unwrap_or_default()
}
