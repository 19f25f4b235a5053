//! A whole cluster of processes on loopback.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::Context;
use bessemer_client::Client;
use bessemer_proto::v1::{
    CreateNodeRequest, DeployNodeRequest, DeploymentSpec, Event, EventFilter, GetNodeRequest,
    GetStatusRequest, ImageSpec, ListConductorsRequest, ListEventsRequest, Node, NodeSpec,
    NodeVerbRequest,
};
use bessemer_runtime::tls::Transport;
use tempfile::TempDir;
use uuid::Uuid;

use crate::launch::{
    DASHBOARD_LISTEN, ImageCache, METRICS_LISTEN, Place, REST_LISTEN, Security, host_and_port,
    members_toml, start_caches, start_conductor, start_member, start_members,
};
use crate::nats::NatsServer;
use crate::network::Network;
use crate::pki::Pki;
use crate::process::{Agent, Process, binary, kill_all_under};
use crate::wait::wait_for;

/// How long a cluster may take until it can be used; on two busy cores elections and opening files take seconds.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Members of the API.
    pub members: u64,
    /// Conductors.
    pub conductors: usize,
    /// Image caches.
    pub caches: usize,
    /// Whether events are published to a NATS server.
    pub nats: bool,
    /// Deployments that a conductor runs at once.
    pub deploys_at_once: usize,
    /// Where all of it runs.
    pub network: Network,
    /// Host by which agents reach conductors and image caches, if they do not run on this computer.
    pub agents_reach: Option<String>,
    /// More of the conductors' configuration: tables of its own.
    pub conductor_config: String,
    /// More of the conductors' environment, which the agents of `fake` machines have too.
    pub conductor_environment: Vec<(String, String)>,
    /// More of the image caches' configuration.
    pub cache_config: String,
    /// Whether all of it speaks TLS, with certificates of an authority of its own.
    pub tls: bool,
    /// Whether secrets are sealed before they enter the log; needs TLS.
    pub sealed: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            members: 3,
            conductors: 2,
            caches: 1,
            nats: true,
            deploys_at_once: 250,
            network: Network::Loopback,
            agents_reach: None,
            conductor_config: String::new(),
            conductor_environment: Vec::new(),
            cache_config: String::new(),
            tls: false,
            sealed: false,
        }
    }
}

/// A running cluster: API members, conductors, image caches behind proxies, and a NATS server. Everything ends, and
/// every file is removed, when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Members of the API.
    pub members: Vec<Process>,
    /// Conductors, `c0` and on.
    pub conductors: Vec<Process>,
    /// The image caches, which know each other.
    pub caches: Vec<ImageCache>,
    /// The NATS server, if there is one.
    pub nats: Option<NatsServer>,
    /// A client of all members; with TLS, an admin's.
    pub client: Client,
    /// The authority of its certificates, if it has one.
    pub pki: Option<Pki>,
    network: Network,
    security: Security,
    transport: Transport,
    api_urls: Vec<String>,
    cache_urls: Vec<String>,
    // Last, so that it goes after the processes.
    directory: TempDir,
}

impl Cluster {
    /// Starts a cluster and waits until it can be used.
    ///
    /// # Errors
    /// When a program is missing, or the cluster does not get ready in time; says what its parts said last.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        // Another part of the test may have installed it.
        rustls::crypto::ring::default_provider().install_default().ok();
        let directory = tempfile::Builder::new().prefix("bessemer-").tempdir()?;
        let home = directory.path();
        let (security, transport) = secure(home, options)?;
        let start_nats =
            || NatsServer::start_on(options.network.host()?, home, security.pki.as_ref());
        let nats = options.nats.then(start_nats).transpose()?;
        let (caches, cache_urls) = start_caches(home, options, &security).await?;
        let places: Vec<_> = (0..options.members)
            .map(|_| Place::new(options.network))
            .collect::<anyhow::Result<_>>()?;
        let api_urls: Vec<_> = places.iter().map(|place| security.url(place)).collect();
        let members = start_members(home, places, &cache_urls, &security)?;
        let conductors = (0..options.conductors)
            .map(|number| {
                let nats = nats.as_ref();
                start_conductor(home, number, options, &api_urls, &cache_urls, nats, &security)
            })
            .collect::<anyhow::Result<_>>()?;
        let client = Client::over(&transport, &api_urls)?.with_actor("test");
        let cluster = Self {
            members,
            conductors,
            caches,
            nats,
            client,
            pki: security.pki.clone(),
            security,
            transport,
            network: options.network,
            api_urls,
            cache_urls,
            directory,
        };
        cluster.ready(options.conductors).await?;
        Ok(cluster)
    }

    /// Starts a member that is new and has an empty directory; it is to be added. Its id follows the last one's.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn start_new_member(&mut self) -> anyhow::Result<u64> {
        let place = Place::new(self.network)?;
        self.api_urls.push(self.security.url(&place));
        let id = self.api_urls.len() as u64;
        let known = members_toml(&self.api_urls);
        let (home, security) = (self.directory.path(), &self.security);
        let member = start_member(home, id, place, &self.cache_urls, &known, security)?;
        self.members.push(member);
        self.client = Client::over(&self.transport, &self.api_urls)?.with_actor("test");
        Ok(id)
    }

    /// `host:port` of a member.
    #[must_use]
    pub fn member_address(&self, id: u64) -> String {
        host_and_port(&self.api_urls[place(id)]).to_owned()
    }

    /// Where a member keeps its data.
    #[must_use]
    pub fn member_directory(&self, id: u64) -> PathBuf {
        self.home().join(format!("api-{id}"))
    }

    /// A client of some members only.
    ///
    /// # Errors
    /// Never: the addresses are the cluster's own.
    pub fn client_of(&self, ids: &[u64]) -> anyhow::Result<Client> {
        let urls: Vec<_> = ids.iter().map(|id| &self.api_urls[place(*id)]).collect();
        Ok(Client::over(&self.transport, &urls)?.with_actor("test"))
    }

    /// Runs the `bessemer` command against some members.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn bessemer(&self, ids: &[u64], arguments: &[&str]) -> anyhow::Result<Output> {
        let urls: Vec<_> = ids.iter().map(|id| self.api_urls[place(*id)].as_str()).collect();
        let mut command = Command::new(binary("bessemer"));
        if let Some(pki) = &self.pki {
            let config = pki.issue("admin", "command", &["--force"])?;
            let files = [config.ca_file, config.certificate_file, config.key_file];
            let names = ["BESSEMER_CA_FILE", "BESSEMER_CERTIFICATE_FILE", "BESSEMER_KEY_FILE"];
            command.envs(names.into_iter().zip(files.into_iter().flatten()));
        }
        Ok(command.args(["--api", &urls.join(",")]).args(arguments).output()?)
    }

    /// Waits until there is a leader and so many conductors are online.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn ready(&self, conductors: usize) -> anyhow::Result<()> {
        wait_for("cluster that is ready", READY_LIMIT, async || {
            let status = self.client.get_status(GetStatusRequest {}).await.map_err(text)?;
            let known =
                self.client.list_conductors(ListConductorsRequest {}).await.map_err(text)?;
            let online = known.conductors.iter().filter(|conductor| conductor.online).count();
            if status.leader_id != 0 && online == conductors {
                return Ok(());
            }
            Err(format!("leader {}, {online} conductors online", status.leader_id))
        })
        .await
        .with_context(|| self.last_words())
    }

    /// What every part said last.
    #[must_use]
    pub fn last_words(&self) -> String {
        let processes = self.members.iter().chain(&self.conductors);
        let processes = processes.chain(self.caches.iter().map(|cache| &cache.process));
        processes.map(Process::last_words).collect::<Vec<_>>().join("\n")
    }

    /// Where a process serves metrics and health: `api-1` and on, `conductor-0` and on, `image-cache-0` and on.
    ///
    /// # Errors
    /// When there is no process of that name.
    pub fn metrics_url(&self, name: &str) -> anyhow::Result<String> {
        let config = std::fs::read_to_string(self.home().join(format!("{name}.toml")))?;
        let address = config.strip_prefix(METRICS_LISTEN).and_then(|it| it.split('"').nth(1));
        Ok(format!("{}://{}", self.security.scheme(), address.context("no metrics_listen")?))
    }

    /// Where a member serves Ironic's REST API.
    ///
    /// # Errors
    /// When there is no such member.
    pub fn rest_url(&self, id: u64) -> anyhow::Result<String> {
        self.url_of(id, REST_LISTEN)
    }

    /// Where a member serves the dashboard, which it does with TLS.
    ///
    /// # Errors
    /// When there is no such member, or it does not.
    pub fn dashboard_url(&self, id: u64) -> anyhow::Result<String> {
        self.url_of(id, DASHBOARD_LISTEN)
    }

    fn url_of(&self, id: u64, field: &str) -> anyhow::Result<String> {
        let config = std::fs::read_to_string(self.home().join(format!("api-{id}.toml")))?;
        let address = config.lines().find_map(|line| line.strip_prefix(field));
        let address = address.with_context(|| format!("no {field}"))?.trim_matches('"');
        Ok(format!("{}://{address}", self.security.scheme()))
    }

    /// A directory for the test's own files; the image cache may read `file://` sources below it.
    #[must_use]
    pub fn home(&self) -> &Path {
        self.directory.path()
    }

    /// Addresses of the members.
    #[must_use]
    pub fn api_urls(&self) -> &[String] {
        &self.api_urls
    }

    /// Place in `members` of the leader.
    ///
    /// # Errors
    /// When there is none for too long.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        wait_for("leader", READY_LIMIT, async || {
            let status = self.client.get_status(GetStatusRequest {}).await.map_err(text)?;
            usize::try_from(status.leader_id)
                .ok()
                .and_then(|id| id.checked_sub(1))
                .ok_or_else(|| "no leader".to_owned())
        })
        .await
    }

    /// Enrols a simulated machine and makes it available.
    ///
    /// # Errors
    /// When the cluster refuses, or the node does not become available.
    pub async fn available_node(&self, name: &str, disk_bytes: u64) -> anyhow::Result<Node> {
        let node = self.enrol(name, disk_bytes).await?;
        self.client.manage_node(verb(name)).await?;
        self.until_state(name, "manageable").await?;
        self.client.provide_node(verb(name)).await?;
        self.until_state(name, "available").await?;
        Ok(node)
    }

    /// Enrols a simulated machine.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn enrol(&self, name: &str, disk_bytes: u64) -> anyhow::Result<Node> {
        let driver_info = prost_struct([("disk_bytes", disk_bytes.to_string().as_str())]);
        let spec = NodeSpec {
            driver: "fake".to_owned(),
            driver_info: Some(driver_info),
            ..NodeSpec::default()
        };
        let id = Uuid::new_v4();
        let [.., a, b, c] = *id.as_bytes();
        let node = self
            .client
            .create_node(CreateNodeRequest {
                command_id: Uuid::new_v4().to_string(),
                id: id.to_string(),
                name: name.to_owned(),
                spec: Some(spec),
                port_addresses: vec![format!("52:54:00:{a:02x}:{b:02x}:{c:02x}")],
            })
            .await?;
        Ok(node)
    }

    /// Asks for a deployment.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn deploy(&self, name: &str, deployment: DeploymentSpec) -> anyhow::Result<Node> {
        let request = DeployNodeRequest {
            command_id: Uuid::new_v4().to_string(),
            node: name.to_owned(),
            version: 0,
            deployment: Some(deployment),
        };
        Ok(self.client.deploy_node(request).await?)
    }

    /// The node as it is now.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn node(&self, name: &str) -> anyhow::Result<Node> {
        let request = GetNodeRequest { node: name.to_owned(), ..GetNodeRequest::default() };
        Ok(self.client.get_node(request).await?)
    }

    /// Waits until a node is in a state.
    ///
    /// # Errors
    /// When it fails on the way, or takes longer than two minutes.
    pub async fn until_state(&self, name: &str, state: &str) -> anyhow::Result<Node> {
        wait_for(&format!("{name} {state}"), Duration::from_secs(120), async || {
            let node = self.node(name).await.map_err(text)?;
            let status = node.status.clone().unwrap_or_default();
            if status.provision_state == state {
                return Ok(node);
            }
            Err(format!("{} ({})", status.provision_state, status.last_error))
        })
        .await
        .with_context(|| self.last_words())
    }

    /// The file that is the disk of a node's machine.
    #[must_use]
    pub fn disk(&self, node: &Node) -> PathBuf {
        let id = node.metadata.as_ref().map(|metadata| metadata.id.as_str()).unwrap_or_default();
        self.home().join("machines").join(id).join("disk.img")
    }

    /// The agent that runs on a node's machine.
    ///
    /// # Errors
    /// When there is none.
    pub fn agent_of(&self, node: &Node) -> anyhow::Result<Agent> {
        let disk = self.disk(node);
        Agent::with_argument(&disk.to_string_lossy())
            .with_context(|| format!("no agent writes {}", disk.display()))
    }

    /// Every event, or every event of a node.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn events(&self, node: &str) -> anyhow::Result<Vec<Event>> {
        let mut events = Vec::new();
        let mut after_revision = 0;
        loop {
            let page = self
                .client
                .list_events(ListEventsRequest {
                    after_revision,
                    page_size: 1000,
                    filter: Some(EventFilter { node: node.to_owned(), ..EventFilter::default() }),
                    after_sequence: 0,
                })
                .await?;
            events.extend(page.events);
            if !page.more {
                return Ok(events);
            }
            after_revision = page.revision;
        }
    }
}

/// With TLS, an authority, a file of tokens that nobody has yet, keys for secrets if wanted, and the transport of an admin.
fn secure(home: &Path, options: &Options) -> anyhow::Result<(Security, Transport)> {
    if !options.tls {
        let open = Security { pki: None, token_file: None, secret_keys_file: None };
        return Ok((open, Transport::plain()));
    }
    let secret_keys_file = options.sealed.then(|| home.join("secret-keys"));
    if let Some(path) = &secret_keys_file {
        let output = Command::new(binary("bessemer")).args(["secrets", "key"]).output()?;
        std::fs::write(path, output.stdout)?;
    }
    let pki = Pki::init(&home.join("pki"))?;
    let token_file = home.join("tokens");
    std::fs::write(&token_file, "# NAME ROLE sha256:HEX\n")?;
    let transport = pki.transport("admin", "test")?;
    let (pki, token_file) = (Some(pki), Some(token_file));
    Ok((Security { pki, token_file, secret_keys_file }, transport))
}

impl Drop for Cluster {
    /// Machines outlive their conductors; they must not outlive the test.
    fn drop(&mut self) {
        self.conductors.iter_mut().for_each(Process::kill);
        kill_all_under(self.directory.path());
    }
}

/// A verb for a node, with a command id of its own.
#[must_use]
pub fn verb(node: &str) -> NodeVerbRequest {
    NodeVerbRequest { command_id: Uuid::new_v4().to_string(), node: node.to_owned(), version: 0 }
}

/// A deployment of an image file by its SHA-256.
#[must_use]
pub fn deployment_of(image: &Path, sha256: &str) -> DeploymentSpec {
    DeploymentSpec {
        image: Some(ImageSpec {
            source: format!("file://{}", image.display()),
            checksum: sha256.to_owned(),
            ..ImageSpec::default()
        }),
        ..DeploymentSpec::default()
    }
}

/// A JSON object of strings.
#[must_use]
pub fn prost_struct<'a>(
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> prost_types::Struct {
    let value = |text: &str| prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(text.to_owned())),
    };
    prost_types::Struct {
        fields: fields.into_iter().map(|(key, text)| (key.to_owned(), value(text))).collect(),
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Place of a member among all that were started.
fn place(id: u64) -> usize {
    usize::try_from(id).expect("members are few") - 1
}
