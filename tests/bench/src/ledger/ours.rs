//! Our members, each a process of its own, and writes to the leader through the call that members forward commands with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bessemer_domain::conductor::Registration;
use bessemer_domain::ids::{CommandId, ConductorId, Incarnation, NodeId};
use bessemer_domain::node::{FieldChange, NodeSpec};
use bessemer_domain::{Command, CommandBody, Outcome, Timestamp};
use bessemer_ledger::{Config, Ledger, MemberId};
use bessemer_proto::raft::v1::ForwardRequest;
use bessemer_proto::raft::v1::raft_service_client::RaftServiceClient;
use clap::Args;
use tokio::process::Child;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use uuid::Uuid;

use super::load::{self, Measured};
use super::{Arguments, SUBJECTS, free_port, start};

/// Nodes that are created with one call before the measurement.
const CREATED_AT_ONCE: u64 = 500;

/// Length of the description that a write sets: a whole command has about 300 bytes then.
const DESCRIPTION_BYTES: usize = 60;

/// How long a cluster may take to elect a leader.
const START_LIMIT: Duration = Duration::from_secs(30);

/// One member of a cluster on loopback.
#[derive(Debug, Args)]
pub(crate) struct MemberArguments {
    /// Its place in `addresses`, from 1.
    #[arg(long)]
    id: u64,
    /// Where it keeps its data.
    #[arg(long)]
    data_dir: PathBuf,
    /// The addresses of all members.
    #[arg(long, value_delimiter = ',')]
    addresses: Vec<String>,
}

pub(super) async fn run_member(arguments: MemberArguments) -> anyhow::Result<()> {
    let members: BTreeMap<_, _> = (1..).map(MemberId).zip(arguments.addresses).collect();
    let id = MemberId(arguments.id);
    let address: std::net::SocketAddr = members.get(&id).context("no such member")?.parse()?;
    let (ledger, service) = Ledger::open(Config::new(id, arguments.data_dir, members)).await?;
    let incoming = TcpIncoming::bind(address)?.with_nodelay(Some(true));
    let serving = Server::builder().add_service(service).serve_with_incoming(incoming);
    tokio::select! {
        served = serving => Ok(served?),
        reason = ledger.failed() => bail!("member {id}: {reason}"),
    }
}

/// Measures each case on one cluster.
pub(super) async fn measure(
    members: usize,
    arguments: &Arguments,
) -> anyhow::Result<Vec<Measured>> {
    let dir = tempfile::tempdir()?;
    let (_running, addresses) = start_cluster(members, dir.path())?;
    let leader = leader(&addresses).await?;
    let channels = load::connect(&leader).await?;
    let first = channels.first().context("no connection")?;
    for from in (0..SUBJECTS).step_by(CREATED_AT_ONCE as usize) {
        let nodes = from..SUBJECTS.min(from + CREATED_AT_ONCE);
        commit(first.clone(), nodes.map(create).collect()).await?;
    }
    let mut measured = Vec::new();
    for case in arguments.cases() {
        let running = load::run(case, &channels, arguments.seconds, |channel, numbers| {
            commit(channel, numbers.map(update).collect())
        });
        measured.push(running.await?);
    }
    Ok(measured)
}

fn start_cluster(
    members: usize,
    dir: &std::path::Path,
) -> anyhow::Result<(Vec<Child>, Vec<String>)> {
    let addresses = (0..members)
        .map(|_| Ok(format!("127.0.0.1:{}", free_port()?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mut running = Vec::new();
    for id in 1..=members {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command
            .arg("ledger-member")
            .args(["--id", &id.to_string(), "--addresses", &addresses.join(",")])
            .arg("--data-dir")
            .arg(dir.join(id.to_string()));
        running.push(start(&mut command, &dir.join(format!("{id}.log")))?);
    }
    Ok((running, addresses))
}

/// The address of the member that leads: the only one that takes what is forwarded to it.
async fn leader(addresses: &[String]) -> anyhow::Result<String> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        for address in addresses {
            let Ok(channels) = load::connect(address).await else { continue };
            let channel = channels.first().context("no connection")?.clone();
            if commit(channel, vec![register_conductor()]).await.is_ok() {
                return Ok(address.clone());
            }
        }
        if Instant::now() > deadline {
            bail!("the cluster has no leader after {START_LIMIT:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Commits commands; a rejected one is an error.
async fn commit(channel: Channel, commands: Vec<Command>) -> anyhow::Result<()> {
    let commands = commands
        .iter()
        .map(|command| Ok(serde_json::to_vec(command)?.into()))
        .collect::<anyhow::Result<_>>()?;
    let response =
        RaftServiceClient::new(channel).forward(ForwardRequest { commands }).await?.into_inner();
    for outcome in serde_json::from_slice::<Vec<Outcome>>(&response.outcomes)? {
        outcome?;
    }
    Ok(())
}

fn command(body: CommandBody) -> Command {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    Command {
        id: CommandId::new(Uuid::new_v4()),
        fingerprint: 0,
        actor: "bench".to_owned(),
        at: Timestamp::from_micros(u64::try_from(now.as_micros()).unwrap_or(u64::MAX)),
        body,
    }
}

fn node_id(number: u64) -> NodeId {
    NodeId::new(Uuid::from_u128(u128::from(number % SUBJECTS) + 1))
}

fn register_conductor() -> Command {
    command(CommandBody::RegisterConductor {
        conductor: ConductorId::try_new("bench").expect("a valid name"),
        registration: Box::new(Registration {
            incarnation: Incarnation::new(Uuid::nil()),
            conductor_group: String::new(),
            hardware_types: BTreeSet::from(["fake".to_owned()]),
            address: "127.0.0.1:1".to_owned(),
        }),
    })
}

fn create(number: u64) -> Command {
    command(CommandBody::CreateNode {
        node: node_id(number),
        name: None,
        spec: Box::new(NodeSpec { driver: "fake".to_owned(), ..NodeSpec::default() }),
        ports: Vec::new(),
    })
}

fn update(number: u64) -> Command {
    command(CommandBody::UpdateNode {
        node: node_id(number),
        expected_version: None,
        changes: vec![FieldChange::Description(format!("{number:0>DESCRIPTION_BYTES$}"))],
    })
}
