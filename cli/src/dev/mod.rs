//! `bessemer dev`: a whole cluster in one process, on this machine only.

mod addresses;
mod cluster;
mod pki;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bessemer_hardware::fake::{AgentRunner, InProcessAgents};
use bessemer_runtime::telemetry;
use clap::Args;

pub(crate) use cluster::{Cluster, ClusterConfig, machines_dir};

use crate::failure::{Failure, chain};
use crate::machines;
use crate::output::print;

/// What is logged unless `BESSEMER_LOG` says otherwise. openraft calls it an error that its peers stop, which on Ctrl-C
/// they all do; what an operator must know of it, the ledger says.
const LOG_FILTER: &str = "warn,openraft=off";

/// Where the dashboard is served if nothing else is said: beside the API and the conductors.
const DASHBOARD_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 6387);

/// `bessemer dev`.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Where it keeps its data, across restarts [default: ~/.local/share/bessemer/dev]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the first member listens [default: 127.0.0.1:6385, then as before]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// How many members the cluster has [default: 1, then as before]
    #[arg(long, value_name = "1|3", value_parser = ["1", "3"])]
    members: Option<String>,
    /// Where the dashboard is served [default: 127.0.0.1:6387, or any free port]
    #[arg(long, value_name = "ADDRESS")]
    dashboard: Option<SocketAddr>,
    /// Where Ironic's REST API is served, on this machine only, without a sign-in [default: it is not]
    #[arg(long, value_name = "ADDRESS")]
    rest: Option<SocketAddr>,
    /// NATS server that gets the events in JetStream
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// Everything by TLS, with an authority of its own: callers must then be somebody
    #[arg(long)]
    tls: bool,
    /// Enrol so many simulated machines, named machine-1 and on
    #[arg(long, value_name = "N", default_value_t = 0)]
    machines: u32,
}

impl Dev {
    /// Runs the cluster until it is interrupted.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let data_dir = self.data.map_or_else(default_data_dir, Ok)?;
        let logs =
            telemetry::Config { filter: LOG_FILTER.to_owned(), ..telemetry::Config::default() };
        let _telemetry = telemetry::init("bessemer-dev", &logs)
            .map_err(|error| Failure::refused(chain(&error)))?;
        let stop = bessemer_runtime::on_signal()
            .map_err(|error| Failure::failed(format!("cannot handle signals: {error}")))?;
        let config = ClusterConfig {
            data_dir: data_dir.clone(),
            listen: self.listen,
            members: self.members.as_deref().map(|members| if members == "3" { 3 } else { 1 }),
            dashboard: Some(self.dashboard.unwrap_or_else(free_dashboard_address)),
            rest: self.rest,
            nats: self.nats,
            agents: in_process_agents(),
            tls: self.tls,
        };
        let cluster = Cluster::start(config, stop.clone()).await?;
        let ready = async {
            let client = cluster.client("dev")?;
            cluster.ready(&client).await?;
            machines::enrol(&client, "machine", self.machines, machines::DISK_BYTES_DEFAULT).await
        };
        match Box::pin(stop.run_until_cancelled(ready)).await {
            Some(Ok(_)) => print(&welcome(&cluster, &data_dir))?,
            Some(Err(failure)) => {
                stop.cancel();
                cluster.stopped().await?;
                return Err(failure);
            }
            None => {}
        }
        cluster.stopped().await?;
        print("stopped\n")
    }
}

fn welcome(cluster: &Cluster, data_dir: &std::path::Path) -> String {
    let api = cluster.api_urls.join(",");
    let credentials = cluster.pki.as_ref().map(pki::Pki::exports).unwrap_or_default();
    format!(
        "\
Bessemer is up: {} members, a conductor for simulated machines, an image cache.

  api        {api}
  dashboard  {}
  images     {}
  data       {}, with the agents' plug-ins in steps.d

In another terminal:

  export BESSEMER_API={api}
{credentials}  bessemer node create --name m1 --driver fake --port 52:54:00:00:00:01
  bessemer node manage m1 --wait
  bessemer node provide m1 --wait
  bessemer node deploy m1 --image /path/to/image.qcow2 --wait
  bessemer node history m1

Ctrl-C stops it; started again, it goes on where it was.
",
        cluster.api_urls.len(),
        cluster.dashboard_url.as_deref().unwrap_or("none"),
        cluster.image_cache_url,
        data_dir.display()
    )
    .replace("1 members", "1 member")
}

/// The dashboard's usual address, or any port of this machine when another cluster has it.
fn free_dashboard_address() -> SocketAddr {
    let is_free = std::net::TcpListener::bind(DASHBOARD_DEFAULT).is_ok();
    SocketAddr::new(DASHBOARD_DEFAULT.ip(), if is_free { DASHBOARD_DEFAULT.port() } else { 0 })
}

/// Agents as tasks of this process: what a simulated machine boots is as short-lived as its cluster.
fn in_process_agents() -> AgentRunner {
    AgentRunner::InProcess(InProcessAgents::new(Arc::new(|boot, cancel| {
        Box::pin(async move {
            let config = bessemer_agent::Config {
                api_urls: boot.api_urls,
                ca_file: boot.ca_file,
                ca_sha256: None,
                mac_addresses: boot.mac_addresses,
                system_uuid: None,
                disks: vec![boot.disk],
                state_dir: boot.state_dir,
                steps_dir: boot.steps_dir.unwrap_or_default(),
                // The machine is a part of this host: nobody is to log in to that.
                podman: "podman".into(),
                rescue_program: "/bin/true".into(),
                log_file: None,
            };
            if let Err(error) = bessemer_agent::run(config, cancel).await {
                tracing::warn!(error = chain(&error), "an agent ended");
            }
        })
    })))
}

/// `$XDG_DATA_HOME/bessemer/dev`, or the same below the home directory.
fn default_data_dir() -> Result<PathBuf, Failure> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("bessemer/dev"))
        .ok_or_else(|| Failure::refused("no home directory is known; give --data DIR"))
}
