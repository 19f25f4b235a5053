//! Agents' sessions: who is connected, what each is doing, and the gRPC service they dial.
//!
//! A session carries at most one task. It ends when the agent is silent, when another agent takes its place, or when
//! the node is no longer this conductor's; the agent then looks up its node again, and its task goes on meanwhile.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bessemer_domain::Invalid;
use bessemer_domain::ids::NodeId;
use bessemer_domain::node::{Inventory, Node, OfferedStep};
use bessemer_proto::v1::agent_message::Message as FromAgent;
use bessemer_proto::v1::agent_session_service_server::AgentSessionService;
use bessemer_proto::v1::conductor_message::Message as ToAgent;
use bessemer_proto::v1::{
    AgentHello, AgentMessage, CancelTask, ConductorMessage, StartTask, TaskUpdate, Welcome,
};
use bessemer_runtime::tls::Peer;
use bessemer_wire::Failure;
use futures::Stream;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::replica::Replica;

/// How often agents say that they live.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Three heartbeats missed: the connection is dead even if TCP has not noticed.
const SILENCE_MAX: Duration = Duration::from_secs(6);

/// How long a new session waits for the claim that lets it begin. A conductor that takes over claims within a second.
const CLAIM_WAIT_MAX: Duration = Duration::from_secs(5);

/// Messages to an agent that may wait for the network: a task and its cancellation.
const OUTBOX_MESSAGES: usize = 8;

/// The sessions of this conductor.
#[derive(Debug, Clone)]
pub(crate) struct Sessions {
    replica: Replica,
    own: Arc<crate::Identity>,
    by_node: Arc<Mutex<HashMap<NodeId, Session>>>,
    /// Counts sessions, and tells waiters that one began.
    arrived: Arc<watch::Sender<u64>>,
    number: Arc<AtomicU64>,
}

/// One connected agent.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    number: u64,
    /// Where the agent's connection comes from: the machine, as this conductor reaches it.
    pub(crate) address: Option<IpAddr>,
    pub(crate) inventory: Inventory,
    /// What the agent's plug-ins can do.
    pub(crate) steps: Arc<[OfferedStep]>,
    /// Plug-ins that cannot be used, and why.
    pub(crate) plugin_faults: Arc<[String]>,
    outbox: mpsc::Sender<Result<ConductorMessage, Status>>,
    updates: watch::Receiver<Option<TaskUpdate>>,
    end: CancellationToken,
}

impl Session {
    /// Starts a task, or attaches to it if the agent has it already. Answers with its updates; they end when the
    /// session does.
    pub(crate) async fn start(
        &self,
        task: StartTask,
    ) -> Option<watch::Receiver<Option<TaskUpdate>>> {
        let message = ConductorMessage { message: Some(ToAgent::StartTask(task)) };
        self.outbox.send(Ok(message)).await.ok()?;
        Some(self.updates.clone())
    }
}

impl Sessions {
    pub(crate) fn new(replica: Replica, own: Arc<crate::Identity>) -> Self {
        let arrived = Arc::new(watch::Sender::new(0));
        Self { replica, own, by_node: Arc::default(), arrived, number: Arc::default() }
    }

    /// The node's session now, if it has one.
    pub(crate) fn get(&self, node: NodeId) -> Option<Session> {
        self.lock().get(&node).cloned()
    }

    /// The node's session, as soon as there is one.
    pub(crate) async fn connected(&self, node: NodeId) -> Session {
        let mut arrived = self.arrived.subscribe();
        loop {
            if let Some(session) = self.get(node) {
                return session;
            }
            if arrived.changed().await.is_err() {
                // The sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Tells the agent to stop a task; one that is not connected will find out when it is.
    pub(crate) fn cancel(&self, node: NodeId, task_id: String, epoch: u64) {
        if let Some(session) = self.get(node) {
            let cancel = CancelTask { task_id, epoch };
            let message = ConductorMessage { message: Some(ToAgent::CancelTask(cancel)) };
            // A full outbox means that the agent is not reading; it will be found silent.
            session.outbox.try_send(Ok(message)).ok();
        }
    }

    /// Ends the node's session: it is no longer this conductor's, or its machine is about to be switched off.
    pub(crate) fn end(&self, node: NodeId) {
        if let Some(session) = self.lock().remove(&node) {
            session.end.cancel();
        }
    }

    fn begin(&self, node: NodeId, session: Session) {
        // A machine has one agent: the one that came last.
        if let Some(replaced) = self.lock().insert(node, session) {
            replaced.end.cancel();
        }
        self.arrived.send_modify(|count| *count += 1);
    }

    /// Ends a session unless another one has taken its place.
    fn finish(&self, node: NodeId, number: u64) {
        let mut by_node = self.lock();
        if by_node.get(&node).is_some_and(|session| session.number == number) {
            by_node.remove(&node);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Session>> {
        self.by_node.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch under which the agent may serve, once this conductor holds the node's claim and the token is right.
    async fn admit(&self, hello: &AgentHello) -> Result<(NodeId, u64), Status> {
        let node_id: NodeId = hello.node_id.parse().map_err(Failure::Invalid)?;
        let digest = hex::encode(Sha256::digest(hello.token.as_bytes()));
        let admitted = self.replica.until(|state| {
            let node = state.node(node_id)?;
            let bound = node.agent.as_ref()?;
            (bound.token_digest == digest).then_some(())?;
            self.held_epoch(node)
        });
        match timeout(CLAIM_WAIT_MAX, admitted).await {
            Ok(epoch) => Ok((node_id, epoch)),
            Err(_) => Err(Failure::SessionNotAdmitted { node: hello.node_id.clone() }.into()),
        }
    }

    fn held_epoch(&self, node: &Node) -> Option<u64> {
        let claim = node.claim.as_ref()?;
        claim.is_held_by(&self.own.id, self.own.incarnation).then_some(claim.epoch)
    }

    /// Carries one session until it ends.
    async fn carry(
        self,
        node: NodeId,
        number: u64,
        mut messages: Streaming<AgentMessage>,
        updates: watch::Sender<Option<TaskUpdate>>,
        end: CancellationToken,
    ) {
        loop {
            let message = tokio::select! {
                message = timeout(SILENCE_MAX, messages.message()) => message,
                () = end.cancelled() => break,
            };
            match message {
                Ok(Ok(Some(AgentMessage { message: Some(FromAgent::TaskUpdate(update)) }))) => {
                    updates.send_replace(Some(update));
                }
                Ok(Ok(Some(_))) => {}
                Ok(Ok(None) | Err(_)) | Err(_) => break,
            }
        }
        self.finish(node, number);
        tracing::info!(node.id = %node, "agent session ended");
    }
}

type SessionStream = Pin<Box<dyn Stream<Item = Result<ConductorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl AgentSessionService for Sessions {
    type SessionStream = SessionStream;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let address =
            request.extensions().get::<Peer>().map(|peer| peer.address.ip().to_canonical());
        let mut messages = request.into_inner();
        let first = timeout(SILENCE_MAX, messages.message()).await;
        let Ok(Ok(Some(AgentMessage { message: Some(FromAgent::Hello(hello)) }))) = first else {
            let missing = Invalid::new("message.hello", "", "must come first, and soon");
            return Err(Failure::Invalid(missing).into());
        };
        let (node, epoch) = self.admit(&hello).await?;
        let (outbox, inbox) = mpsc::channel(OUTBOX_MESSAGES);
        let (updates_in, updates) = watch::channel(None);
        let welcome = Welcome {
            heartbeat_milliseconds: u32::try_from(HEARTBEAT.as_millis()).unwrap_or(u32::MAX),
            epoch,
        };
        // The channel is new and empty.
        outbox.try_send(Ok(ConductorMessage { message: Some(ToAgent::Welcome(welcome)) })).ok();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let end = CancellationToken::new();
        let inventory = bessemer_wire::inventory::from_proto(hello.inventory.unwrap_or_default());
        let steps = hello.steps.into_iter().map(bessemer_wire::step::offered_from_proto);
        let session = Session {
            number,
            address,
            inventory,
            steps: steps.collect(),
            plugin_faults: hello.plugin_faults.into(),
            outbox,
            updates,
            end: end.clone(),
        };
        self.begin(node, session);
        tracing::info!(node.id = %node, claim.epoch = epoch, "agent session began");
        tokio::spawn(self.clone().carry(node, number, messages, updates_in, end));
        Ok(Response::new(Box::pin(ReceiverStream::new(inbox))))
    }
}
