//! The peer: Debian's etcd-server with its defaults.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::process::{Child, Command};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use super::load::{self, Measured};
use super::{Arguments, SUBJECTS, free_port, start};

/// Bytes of a value: as many as one of our commands has.
const VALUE_BYTES: usize = 300;

/// How long a cluster may take to elect a leader.
const START_LIMIT: Duration = Duration::from_secs(30);

/// From etcd's rpc.proto: the fields that a plain put has.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct TxnRequest {
    #[prost(message, repeated, tag = "2")]
    success: Vec<RequestOp>,
}

/// One of several kinds, of which this is one.
#[derive(Clone, PartialEq, prost::Message)]
struct RequestOp {
    #[prost(message, optional, tag = "2")]
    put: Option<PutRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TxnResponse {
    #[prost(bool, tag = "2")]
    succeeded: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
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
    let mut measured = Vec::new();
    for case in arguments.cases() {
        measured.push(load::run(case, &channels, arguments.seconds, write).await?);
    }
    Ok(measured)
}

fn start_cluster(
    members: usize,
    dir: &std::path::Path,
) -> anyhow::Result<(Vec<Child>, Vec<String>)> {
    let ports = (0..members)
        .map(|_| Ok((free_port()?, free_port()?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let initial = ports.iter().enumerate();
    let initial: Vec<_> =
        initial.map(|(n, (_, peer))| format!("m{n}=http://127.0.0.1:{peer}")).collect();
    let mut running = Vec::new();
    for (n, (client, peer)) in ports.iter().enumerate() {
        let client = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{n}"), "--log-level", "warn"])
            .arg("--data-dir")
            .arg(dir.join(n.to_string()))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &initial.join(",")]);
        running.push(start(&mut command, &dir.join(format!("{n}.log")))?);
    }
    let addresses = ports.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect();
    Ok((running, addresses))
}

/// The address of the member that leads.
async fn leader(addresses: &[String]) -> anyhow::Result<String> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        for address in addresses {
            if leads(address).await.unwrap_or(false) {
                return Ok(address.clone());
            }
        }
        if Instant::now() > deadline {
            bail!("etcd has no leader after {START_LIMIT:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn leads(address: &str) -> anyhow::Result<bool> {
    let channels = load::connect(address).await?;
    let channel = channels.first().context("no connection")?.clone();
    let path = "/etcdserverpb.Maintenance/Status";
    let status: StatusResponse = call(channel, path, StatusRequest {}).await?;
    Ok(status.header.is_some_and(|header| header.member_id == status.leader))
}

/// One put is a call of its own, several are a transaction.
async fn write(channel: Channel, numbers: Range<u64>) -> anyhow::Result<()> {
    if numbers.end - numbers.start == 1 {
        let _: PutResponse = call(channel, "/etcdserverpb.KV/Put", put(numbers.start)).await?;
        return Ok(());
    }
    let success = numbers.map(|number| RequestOp { put: Some(put(number)) }).collect();
    let transaction = TxnRequest { success };
    let answer: TxnResponse = call(channel, "/etcdserverpb.KV/Txn", transaction).await?;
    ensure!(answer.succeeded, "a transaction without a condition did not succeed");
    Ok(())
}

fn put(number: u64) -> PutRequest {
    let key = format!("nodes/{:08}", number % SUBJECTS).into_bytes();
    let mut value = number.to_string().into_bytes();
    value.resize(VALUE_BYTES, b'x');
    PutRequest { key, value }
}

async fn call<Q, A>(channel: Channel, path: &'static str, request: Q) -> anyhow::Result<A>
where
    Q: prost::Message + Send + Sync + 'static,
    A: prost::Message + Default + Send + Sync + 'static,
{
    let mut client = Grpc::new(channel);
    client.ready().await?;
    let codec = ProstCodec::<Q, A>::default();
    let path = PathAndQuery::from_static(path);
    Ok(client.unary(tonic::Request::new(request), path, codec).await?.into_inner())
}
