//! The control plane against a real Ironic, both by Ironic's REST API and the same load: create, show, list, patch, and the
//! way of fake nodes to `available`.
//!
//! Ours is `bessemer dev`, a whole cluster in one process, which flushes each change to the disk; Ironic has its API and
//! its conductor in one process and SQLite, with power, boot, management and deploy interface `fake`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use bessemer_testkit::{Process, binary, free_port, python, run as run_command, wait_for};
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::report::{Report, mebibytes};

/// What is asked of both.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Nodes that are created, shown, changed and taken to `available` at each number of clients.
    #[arg(long, default_value_t = 200)]
    nodes: usize,
    /// Requests under way at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64])]
    clients: Vec<usize>,
    /// Nodes that a detailed list holds.
    #[arg(long, default_value_t = 1_000)]
    listed: usize,
}

const IRONIC: &str = "ironic==39.0.0";

/// Lists that are asked for.
const LISTS: usize = 10;

/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(180);

/// How long a node may take from one state to the next.
const STATE_LIMIT: Duration = Duration::from_secs(300);

/// How often a client looks whether a node is there.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// A server of the API.
struct Server {
    process: Process,
    http: reqwest::Client,
    base: String,
    /// Answers 409 and 503 so far: clients had to come again.
    refused: std::cell::Cell<usize>,
}

/// What a kind of requests cost.
struct Cost {
    per_second: f64,
    p99_milliseconds: f64,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let home = tempfile::Builder::new().prefix("bessemer-control-plane-").tempdir()?;
    let peer = Server::start_ironic(home.path()).await?;
    let ours = Server::start_ours(home.path()).await?;
    let columns = ["ours/s", "Ironic/s", "ours p99", "Ironic p99"];
    let mut report = Report::new("control-plane", &columns);
    for clients in &arguments.clients {
        let theirs = peer.measure(&arguments, *clients).await.context("Ironic")?;
        let own = ours.measure(&arguments, *clients).await.context("ours")?;
        for ((name, own), (_, theirs)) in own.iter().zip(&theirs) {
            let row = vec![
                format!("{:.0}", own.per_second),
                format!("{:.1}", theirs.per_second),
                format!("{:.1} ms", own.p99_milliseconds),
                format!("{:.1} ms", theirs.p99_milliseconds),
            ];
            let case = format!("{name}-{clients}");
            report.more_is_better(&case, own.per_second, theirs.per_second, row);
            let (own, theirs) = (own.p99_milliseconds, theirs.p99_milliseconds);
            let row = vec![String::new(); columns.len()];
            report.less_is_better(&format!("{case}-p99"), own, theirs, row);
        }
    }
    let (own, theirs) = (ours.memory_bytes()?, peer.memory_bytes()?);
    let row = vec![mebibytes(own), mebibytes(theirs), String::new(), String::new()];
    report.less_is_better("memory", own as f64, theirs as f64, row);
    report.print();
    println!("409 and 503: ours {}, Ironic {}", ours.refused.get(), peer.refused.get());
    Ok(())
}

impl Server {
    /// With the environment in which Ironic is installed beside the bench.
    async fn start_ironic(home: &Path) -> anyhow::Result<Self> {
        let environments = binary("bessemer");
        let environments = environments.parent().context("a program is in a directory")?;
        let python = python(environments, IRONIC);
        let port = free_port().to_string();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ironic/peer.py");
        let arguments =
            [script.display().to_string(), port.clone(), "sleep".to_owned(), "infinity".to_owned()];
        let process = Process::start("ironic", &python, &arguments, home)?;
        Self::ready(process, format!("http://127.0.0.1:{port}")).await
    }

    async fn start_ours(home: &Path) -> anyhow::Result<Self> {
        let rest = format!("127.0.0.1:{}", free_port());
        let data = home.join("data").display().to_string();
        let arguments = ["dev", "--listen", "127.0.0.1:0", "--dashboard", "127.0.0.1:0"];
        let arguments = arguments.into_iter().chain(["--rest", &rest, "--data", &data]);
        let arguments: Vec<_> = arguments.map(str::to_owned).collect();
        let process = Process::start("dev", &binary("bessemer"), &arguments, home)?;
        Self::ready(process, format!("http://{rest}")).await
    }

    async fn ready(process: Process, base: String) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(STATE_LIMIT).build()?;
        let server = Self { process, http, base, refused: std::cell::Cell::new(0) };
        wait_for("a conductor", START_LIMIT, async || {
            let found = server.ask(Method::GET, "/v1/drivers", None).await;
            let found = found.map_err(|_| server.process.last_words())?;
            let any = found["drivers"].as_array().is_some_and(|drivers| !drivers.is_empty());
            if any { Ok(()) } else { Err(found.to_string()) }
        })
        .await?;
        Ok(server)
    }

    /// Asks until it is answered with something else than 409 and 503.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        loop {
            let request = self.http.request(method.clone(), format!("{}{path}", self.base));
            let mut request = request.header("x-openstack-ironic-api-version", "1.109");
            if let Some(body) = body {
                request = request.header("content-type", "application/json").body(body.to_string());
            }
            let response = request.send().await?;
            let status = response.status().as_u16();
            let text = response.text().await?;
            if status == 409 || status == 503 {
                self.refused.set(self.refused.get() + 1);
                tokio::time::sleep(LOOK_INTERVAL).await;
                continue;
            }
            ensure!(status < 300, "{method} {path}: {status} {text}");
            return Ok(serde_json::from_str(&text).unwrap_or_default());
        }
    }

    /// Everything that is measured at one number of clients, on nodes of its own that are gone afterwards.
    async fn measure(
        &self,
        arguments: &Arguments,
        clients: usize,
    ) -> anyhow::Result<Vec<(&'static str, Cost)>> {
        eprintln!("{}: {clients} clients", self.base);
        let nodes = arguments.nodes;
        let path = |number: usize| format!("/v1/nodes/node-{number}");
        let mut costs = Vec::new();
        costs.push(("create", timed(nodes, clients, |number| self.create(number)).await?));
        let show = |number| async move {
            self.ask(Method::GET, &path(number), None).await?;
            Ok(())
        };
        costs.push(("show", timed(nodes, clients, show).await?));
        let patch = |number| async move {
            let patch = json!([{"op": "add", "path": "/extra/rack", "value": number}]);
            self.ask(Method::PATCH, &path(number), Some(&patch)).await?;
            Ok(())
        };
        costs.push(("patch", timed(nodes, clients, patch).await?));
        let lifecycle = |number| async move {
            self.provision(number, "manage", "manageable").await?;
            self.provision(number, "provide", "available").await
        };
        costs.push(("lifecycle", timed(nodes, clients, lifecycle).await?));
        let more = nodes..arguments.listed.max(nodes);
        stream::iter(more.clone().map(|number| self.create(number)))
            .buffer_unordered(clients)
            .try_collect::<()>()
            .await?;
        let list = |_| async move {
            let listed = self.ask(Method::GET, "/v1/nodes/detail?limit=1000", None).await?;
            let count = listed["nodes"].as_array().map_or(0, Vec::len);
            ensure!(count == arguments.listed.max(nodes).min(1000), "{count} nodes are listed");
            Ok(())
        };
        costs.push(("list", timed(LISTS, clients, list).await?));
        let delete = |number| async move {
            self.ask(Method::DELETE, &path(number), None).await?;
            Ok::<_, anyhow::Error>(())
        };
        stream::iter((0..more.end).map(delete)).buffer_unordered(8).try_collect::<()>().await?;
        Ok(costs)
    }

    async fn create(&self, number: usize) -> anyhow::Result<()> {
        let node = json!({
            "name": format!("node-{number}"), "driver": "fake-hardware", "automated_clean": false,
            "driver_info": {"address": "10.0.0.1"}, "properties": {"cpus": 8, "memory_mb": 65536},
        });
        self.ask(Method::POST, "/v1/nodes", Some(&node)).await?;
        Ok(())
    }

    async fn provision(&self, number: usize, target: &str, state: &str) -> anyhow::Result<()> {
        let path = format!("/v1/nodes/node-{number}");
        let body = json!({ "target": target });
        self.ask(Method::PUT, &format!("{path}/states/provision"), Some(&body)).await?;
        let begun = Instant::now();
        loop {
            let node =
                self.ask(Method::GET, &format!("{path}?fields=provision_state"), None).await?;
            if node["provision_state"] == state {
                return Ok(());
            }
            ensure!(begun.elapsed() < STATE_LIMIT, "{path} is {node} and not {state}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Most memory that it has held, all its processes together.
    fn memory_bytes(&self) -> anyhow::Result<u64> {
        let own = self.process.peak_rss_bytes()?;
        let mut list = Command::new("ps");
        let pids = run_command(list.args(["-eo", "pid=,ppid="]), "apt-get install procps");
        let pairs: Vec<(u32, u32)> = pids
            .lines()
            .filter_map(|line| {
                let mut numbers = line.split_whitespace().map(str::parse);
                Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
            })
            .collect();
        let mut family = vec![self.process.id().context("it is gone")?];
        let mut at = 0;
        while let Some(parent) = family.get(at).copied() {
            family.extend(pairs.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        let children = family.iter().skip(1);
        let children: u64 =
            children.filter_map(|pid| bessemer_testkit::peak_rss_bytes(*pid).ok()).sum();
        Ok(own + children)
    }
}

/// Does something so many times, by so many clients at once.
async fn timed<F: Future<Output = anyhow::Result<()>>>(
    times: usize,
    clients: usize,
    call: impl Fn(usize) -> F,
) -> anyhow::Result<Cost> {
    let begun = Instant::now();
    let one = |number| {
        let call = call(number);
        async move {
            let begun = Instant::now();
            call.await?;
            Ok::<_, anyhow::Error>(begun.elapsed().as_secs_f64() * 1e3)
        }
    };
    let mut took: Vec<f64> =
        stream::iter((0..times).map(one)).buffer_unordered(clients).try_collect().await?;
    let seconds = begun.elapsed().as_secs_f64();
    took.sort_by(f64::total_cmp);
    let p99 = took.get((took.len() * 99 / 100).min(took.len().saturating_sub(1)));
    Ok(Cost {
        per_second: times as f64 / seconds,
        p99_milliseconds: p99.copied().unwrap_or(f64::NAN),
    })
}
