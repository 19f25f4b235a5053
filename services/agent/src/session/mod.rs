//! The agent's life: look up the node, serve its conductor for as long as the connection holds,
//! look up again. The task at hand goes on meanwhile.

mod lookup;

use std::sync::Arc;
use std::time::Duration;

use bessemer_domain::task::{Act, Answer, Desk, Ending, Start};
use bessemer_proto::v1::agent_message::Message as ToConductor;
use bessemer_proto::v1::agent_session_service_client::AgentSessionServiceClient;
use bessemer_proto::v1::conductor_message::Message as FromConductor;
use bessemer_proto::v1::start_task::Task;
use bessemer_proto::v1::task_update::Update;
use bessemer_proto::v1::{
    AgentHeartbeat, AgentHello, AgentMessage, ConductorMessage, LookupRequest, LookupResponse,
    StartTask, TaskUpdate,
};
use bessemer_runtime::tls::InvalidUrl;
use bessemer_wire::step::offered_to_proto;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::backoff::Backoff;
use crate::identity::Identity;
use crate::machine::Machine;
use crate::memory;
use crate::task::{RunningTask, begin, chain};

const AGENT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// How often progress is reported: what a progress bar needs.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// How long a conductor may take to answer a connection, or a keep-alive. The machine on the other
/// side may be gone without a word.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How long a conductor may take to admit an agent: it waits up to 5 s for its own claim.
const ADMISSION_LIMIT: Duration = Duration::from_secs(10);

/// How often an idle connection is probed.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// First and longest pause between a lost or refused session and the next lookup.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// Messages that may wait for the network. Progress is left out when they do.
const OUTBOX_MESSAGES: usize = 16;

/// Largest message of a conductor: a config drive of 64 MiB, and its frame.
const MESSAGE_LIMIT_BYTES: usize = 65 * 1024 * 1024;

/// The agent between and during its sessions.
pub(crate) struct Agent {
    machine: Arc<Machine>,
    identity: Identity,
    desk: Desk<Option<Task>, Update>,
    running: Option<RunningTask>,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum SessionEnd {
    #[error("conductor {0}")]
    Url(#[from] InvalidUrl),
    #[error("cannot connect to conductor")]
    Connect(#[from] tonic::transport::Error),
    #[error("conductor ended the session")]
    Refused(#[from] tonic::Status),
    #[error("conductor did not admit the agent within {} s", ADMISSION_LIMIT.as_secs())]
    NotAdmitted,
    #[error("conductor closed the session")]
    Closed,
    #[error("conductor's claim is not the newest")]
    Stale,
    #[error(transparent)]
    State(#[from] crate::identity::StateError),
}

impl Agent {
    pub(crate) fn new(machine: Arc<Machine>, identity: Identity) -> Self {
        let desk = Desk::new(identity.epoch());
        Self { machine, identity, desk, running: None }
    }

    /// Serves whichever conductor drives the machine, for ever.
    pub(crate) async fn serve(&mut self, api_urls: &[String]) {
        let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LONGEST);
        loop {
            let request = || LookupRequest {
                mac_addresses: self.machine.mac_addresses(),
                system_uuid: self.machine.system_uuid(),
                token: self.identity.token().to_owned(),
                agent_version: AGENT_VERSION.to_owned(),
            };
            let found = lookup::lookup(api_urls, self.machine.transport(), request).await;
            let mut was_welcome = false;
            let Err(end) = self.session(&found, &mut was_welcome).await;
            tracing::info!(
                node.id = found.node_id,
                conductor.address = found.conductor_address,
                reason = chain(&end),
                "session ended"
            );
            if was_welcome {
                backoff.reset();
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn session(
        &mut self,
        found: &LookupResponse,
        was_welcome: &mut bool,
    ) -> Result<std::convert::Infallible, SessionEnd> {
        let (outbox, messages) = mpsc::channel(OUTBOX_MESSAGES);
        let hello = AgentHello {
            node_id: found.node_id.clone(),
            token: found.token.clone(),
            agent_version: AGENT_VERSION.to_owned(),
            inventory: Some(self.machine.inventory()),
            steps: self.machine.plugins().steps().map(offered_to_proto).collect(),
            plugin_faults: self.machine.plugins().faults().to_vec(),
        };
        // The channel is new and empty.
        outbox.try_send(message(ToConductor::Hello(hello))).ok();
        let transport = self.machine.transport();
        let endpoint = transport
            .endpoint(&found.conductor_address)?
            .connect_timeout(ANSWER_LIMIT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(ANSWER_LIMIT)
            .keep_alive_while_idle(true);
        let mut client = AgentSessionServiceClient::new(transport.connect(&endpoint).await?)
            .max_decoding_message_size(MESSAGE_LIMIT_BYTES);
        let mut inbox = timeout(ADMISSION_LIMIT, client.session(ReceiverStream::new(messages)))
            .await
            .map_err(|_| SessionEnd::NotAdmitted)??
            .into_inner();

        let Some(FromConductor::Welcome(welcome)) = receive(&mut inbox).await? else {
            return Err(SessionEnd::Closed);
        };
        let act = self.desk.welcome(welcome.epoch);
        self.carry_out(act, &outbox).await?;
        self.identity.raise_epoch(self.desk.highest_epoch())?;
        *was_welcome = true;
        tracing::info!(node.id = found.node_id, node.name = found.node_name, "session began");

        let heartbeat = Duration::from_millis(welcome.heartbeat_milliseconds.max(1).into());
        self.carry(heartbeat, inbox, &outbox).await
    }

    /// Carries a session until it ends.
    async fn carry(
        &mut self,
        heartbeat: Duration,
        mut inbox: Streaming<ConductorMessage>,
        outbox: &mpsc::Sender<AgentMessage>,
    ) -> Result<std::convert::Infallible, SessionEnd> {
        let mut heartbeats = interval(heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reports = interval(PROGRESS_INTERVAL);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let acts = tokio::select! {
                message = receive(&mut inbox) => {
                    let act = match message? {
                        Some(FromConductor::StartTask(start)) => self.start(wanted(start)),
                        Some(FromConductor::CancelTask(cancel)) => {
                            self.desk.cancel(&cancel.task_id, cancel.epoch)
                        },
                        Some(FromConductor::Welcome(welcome)) => self.desk.welcome(welcome.epoch),
                        None => None,
                    };
                    self.identity.raise_epoch(self.desk.highest_epoch())?;
                    act.into_iter().collect()
                }
                ending = end_of(&mut self.running) => {
                    self.running = None;
                    self.desk.ended(ending)
                }
                _ = heartbeats.tick() => {
                    let rss_bytes = memory::resident_bytes();
                    let heartbeat = ToConductor::Heartbeat(AgentHeartbeat { rss_bytes });
                    // A full outbox means that the conductor is not reading; keep-alive finds out.
                    outbox.try_send(message(heartbeat)).ok();
                    Vec::new()
                }
                _ = reports.tick(), if self.running.is_some() => vec![Act::ReportProgress],
            };
            self.carry_out(acts, outbox).await?;
        }
    }

    /// A conductor wants a task done, or tells what it has learnt about the one that runs.
    fn start(&mut self, start: Start<Option<Task>>) -> Option<Act<Option<Task>, Update>> {
        let (task_id, task) = (start.task_id.clone(), start.task.clone());
        let act = self.desk.start(start);
        if let (Some(Act::ReportProgress), Some(running)) = (&act, &self.running)
            && running.task_id() == task_id
        {
            running.tell(task.as_ref());
        }
        act
    }

    async fn carry_out(
        &mut self,
        acts: impl IntoIterator<Item = Act<Option<Task>, Update>>,
        outbox: &mpsc::Sender<AgentMessage>,
    ) -> Result<(), SessionEnd> {
        for act in acts {
            match act {
                Act::Begin(start) => self.running = Some(begin(Arc::clone(&self.machine), start)),
                Act::Stop => self.running.iter().for_each(RunningTask::stop),
                Act::ReportProgress => {
                    if let Some(running) = &mut self.running {
                        let update = TaskUpdate {
                            task_id: running.task_id().to_owned(),
                            update: Some(Update::Progress(running.progress())),
                        };
                        // The next report tells all that this one would have.
                        outbox.try_send(message(ToConductor::TaskUpdate(update))).ok();
                    }
                }
                Act::Send(Answer { task_id, answer }) => {
                    let update = TaskUpdate { task_id, update: Some(answer) };
                    let sent = outbox.send(message(ToConductor::TaskUpdate(update))).await;
                    sent.map_err(|_| SessionEnd::Closed)?;
                }
                Act::Leave => return Err(SessionEnd::Stale),
            }
        }
        Ok(())
    }
}

fn wanted(StartTask { task_id, epoch, resume, task }: StartTask) -> Start<Option<Task>> {
    Start { task_id, epoch, resume, task }
}

fn message(message: ToConductor) -> AgentMessage {
    AgentMessage { message: Some(message) }
}

/// The next message; none when it is of a kind that this agent does not know.
async fn receive(
    inbox: &mut Streaming<ConductorMessage>,
) -> Result<Option<FromConductor>, SessionEnd> {
    Ok(inbox.message().await?.ok_or(SessionEnd::Closed)?.message)
}

/// The end of the running task; never, when none runs. Safe to drop before it is there.
async fn end_of(running: &mut Option<RunningTask>) -> Ending<Update> {
    match running {
        Some(task) => task.ended().await,
        None => std::future::pending().await,
    }
}
