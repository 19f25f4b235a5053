//! How members reach each other: one gRPC channel for each purpose and peer, so that bulk never delays a heartbeat.

mod convert;
mod envelope;
mod replicate;
mod send_snapshot;
mod service;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bessemer_proto::raft::v1 as pb;
use bessemer_runtime::tls::{InvalidUrl, Transport};
use openraft::RaftNetworkFactory;
use pb::raft_service_client::RaftServiceClient;
use tokio::sync::watch;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

pub(crate) use self::convert::{from_message, to_message};
use self::envelope::Envelope;
use self::replicate::Connection;
pub use self::service::{PeerService, RaftServiceServer};
use crate::raft::TypeConfig;
use crate::store::Store;
use crate::{MemberAddress, MemberId};

/// Largest message between members: entries are read up to 2 MiB at a time, and the last one may be as large as a
/// proposal (4 MiB).
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A peer that does not accept a connection for so long is taken to be gone for now.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// An open connection on which nothing is heard for an interval and then a timeout is given up: a machine that lost its
/// power sends no goodbye.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) type Client = RaftServiceClient<InterceptedService<Channel, Envelope>>;

/// A peer's address that is not `host:port`.
#[derive(Debug, thiserror::Error)]
#[error("member address `{address}` is not of the form HOST:PORT")]
pub(crate) struct BadAddress {
    address: String,
    source: InvalidUrl,
}

/// Clients of other members, each with connections of its own. Clones are alike.
#[derive(Debug, Clone)]
pub(crate) struct Dialler {
    pub(crate) transport: Transport,
    pub(crate) history: watch::Receiver<Option<String>>,
}

impl Dialler {
    /// A client that connects when it is first used, and again whenever the connection was lost.
    pub(crate) fn client(&self, id: MemberId, address: &str) -> Result<Client, BadAddress> {
        let endpoint = self
            .transport
            .endpoint(&format!("{}://{address}", self.transport.scheme()))
            .map_err(|source| BadAddress { address: address.to_owned(), source })?
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let envelope = Envelope { to: id, history: self.history.clone() };
        let channel = InterceptedService::new(self.transport.channel(&endpoint), envelope);
        Ok(RaftServiceClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }
}

/// Clients for what is asked of members now and then. Clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    dialler: Dialler,
    clients: Arc<Mutex<HashMap<(MemberId, String), Client>>>,
}

impl Clients {
    pub(crate) fn new(dialler: Dialler) -> Self {
        Self { dialler, clients: Arc::default() }
    }

    pub(crate) fn client(&self, id: MemberId, address: &str) -> Result<Client, BadAddress> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (id, address.to_owned());
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = self.dialler.client(id, address)?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// Gives Raft its connections.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) dialler: Dialler,
    pub(crate) store: Arc<Store>,
    /// Dropped when the store is used no more.
    pub(crate) in_use: TaskTrackerToken,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: MemberId, member: &MemberAddress) -> Connection {
        let client = self.dialler.client(target, &member.address);
        Connection::new(target, client, Arc::clone(&self.store), self.in_use.clone())
    }
}
