//! The other side of the protocol: answers the lookup and drives one agent, as a test wants it.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bessemer_proto::v1::agent_lookup_service_server::{
    AgentLookupService, AgentLookupServiceServer,
};
use bessemer_proto::v1::agent_message::Message as FromAgent;
use bessemer_proto::v1::agent_session_service_server::{
    AgentSessionService, AgentSessionServiceServer,
};
use bessemer_proto::v1::conductor_message::Message as ToAgent;
use bessemer_proto::v1::task_update::Update;
use bessemer_proto::v1::{
    AgentHello, AgentMessage, ConductorMessage, LookupRequest, LookupResponse, StartTask, Welcome,
};
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// How long an agent may take for what a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A conductor that holds the machine's claim under one epoch.
#[derive(Clone)]
pub(crate) struct Conductor {
    epoch: u64,
    address: SocketAddr,
    state: Arc<State>,
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    hello: Mutex<Option<AgentHello>>,
    outbox: Mutex<Option<mpsc::Sender<Result<ConductorMessage, Status>>>>,
    /// How many sessions began.
    sessions: watch::Sender<u64>,
    /// The newest update of a task.
    update: watch::Sender<Option<(String, Update)>>,
}

impl Conductor {
    pub(crate) fn start(epoch: u64) -> Self {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let stop = CancellationToken::new();
        let conductor = Self { epoch, address, state: Arc::default(), stop: stop.clone() };
        let server = tonic::transport::Server::builder()
            .add_service(AgentSessionServiceServer::new(conductor.clone()))
            .serve_with_incoming(incoming.with_nodelay(Some(true)));
        // Stopped, it is gone as a killed process is: with all its connections.
        tokio::spawn(async move { stop.run_until_cancelled(server).await });
        conductor
    }

    /// Is gone from now on.
    pub(crate) fn kill(&self) {
        self.stop.cancel();
        self.state.outbox.lock().unwrap().take();
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for the session with this number, from 1.
    pub(crate) async fn session(&self, number: u64) -> AgentHello {
        let mut sessions = self.state.sessions.subscribe();
        let began = sessions.wait_for(|count| *count >= number);
        tokio::time::timeout(PATIENCE, began).await.expect("no session").unwrap();
        self.state.hello.lock().unwrap().clone().unwrap()
    }

    pub(crate) async fn send(&self, task: StartTask) {
        let outbox = self.state.outbox.lock().unwrap().clone().expect("no session");
        let start = StartTask { epoch: self.epoch, ..task };
        let message = ConductorMessage { message: Some(ToAgent::StartTask(start)) };
        outbox.send(Ok(message)).await.expect("session ended");
    }

    /// The first update of a task that is as wanted.
    pub(crate) async fn update(
        &self,
        task_id: &str,
        is_wanted: impl Fn(&Update) -> bool,
    ) -> Update {
        let mut updates = self.state.update.subscribe();
        let wanted = updates.wait_for(|update| {
            update.as_ref().is_some_and(|(id, update)| id == task_id && is_wanted(update))
        });
        let update = tokio::time::timeout(PATIENCE, wanted).await.expect("no such update");
        update.unwrap().clone().unwrap().1
    }

    /// How a task ends.
    pub(crate) async fn end(&self, task_id: &str) -> Update {
        self.update(task_id, |update| !matches!(update, Update::Progress(_))).await
    }
}

type SessionStream = Pin<Box<dyn Stream<Item = Result<ConductorMessage, Status>> + Send>>;

#[tonic::async_trait]
impl AgentSessionService for Conductor {
    type SessionStream = SessionStream;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<SessionStream>, Status> {
        let mut messages = request.into_inner();
        let Some(AgentMessage { message: Some(FromAgent::Hello(hello)) }) =
            messages.message().await?
        else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (outbox, inbox) = mpsc::channel(8);
        let welcome = Welcome { heartbeat_milliseconds: 200, epoch: self.epoch };
        outbox.try_send(Ok(ConductorMessage { message: Some(ToAgent::Welcome(welcome)) })).unwrap();
        *self.state.hello.lock().unwrap() = Some(hello);
        *self.state.outbox.lock().unwrap() = Some(outbox);
        self.state.sessions.send_modify(|count| *count += 1);
        let (state, stop) = (Arc::clone(&self.state), self.stop.clone());
        tokio::spawn(async move {
            while let Some(Ok(Some(message))) = stop.run_until_cancelled(messages.message()).await {
                if let Some(FromAgent::TaskUpdate(update)) = message.message {
                    state.update.send_replace(update.update.map(|news| (update.task_id, news)));
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(inbox))))
    }
}

/// The API's part: leads agents to whichever conductor is the owner.
#[derive(Clone)]
pub(crate) struct Api {
    address: SocketAddr,
    state: Arc<Mutex<(String, Vec<LookupRequest>)>>,
}

impl Api {
    pub(crate) fn start(owner: &Conductor) -> Self {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let api = Self { address, state: Arc::new(Mutex::new((owner.url(), Vec::new()))) };
        let server = tonic::transport::Server::builder()
            .add_service(AgentLookupServiceServer::new(api.clone()))
            .serve_with_incoming(incoming.with_nodelay(Some(true)));
        tokio::spawn(server);
        api
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set_owner(&self, owner: &Conductor) {
        self.state.lock().unwrap().0 = owner.url();
    }

    /// All lookups so far.
    pub(crate) fn lookups(&self) -> Vec<LookupRequest> {
        self.state.lock().unwrap().1.clone()
    }
}

#[tonic::async_trait]
impl AgentLookupService for Api {
    async fn lookup(
        &self,
        request: Request<LookupRequest>,
    ) -> Result<Response<LookupResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        let response = LookupResponse {
            node_id: "b0a7".to_owned(),
            node_name: "machine".to_owned(),
            token: request.token.clone(),
            conductor_address: state.0.clone(),
        };
        state.1.push(request);
        Ok(Response::new(response))
    }
}
