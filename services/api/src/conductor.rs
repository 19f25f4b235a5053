//! What conductors ask: commands, heartbeats, a replica.

use std::time::Duration;

use bessemer_access::{Identity, Refusal, Who};
use bessemer_domain::ids::{ConductorId, Incarnation, NodeId};
use bessemer_domain::{Command, CommandBody, Invalid, Revision, State};
use bessemer_proto::v1;
use bessemer_proto::v1::conductor_service_server::ConductorService;
use bessemer_proto::v1::replicate_response::Update;
use bessemer_wire::Failure;
use futures::StreamExt;
use futures::stream::{iter, select};
use prost::bytes::Bytes;
use tokio::time::{Instant, interval};
use tokio_stream::wrappers::IntervalStream;
use tonic::{Request, Response, Status};

use crate::api::{Answers, Api, Freshness};
use crate::caller::who;
use crate::event::{filter, reached};
use crate::ledger_error;

/// A slice of the state: well below the limit of a message.
const STATE_SLICE_BYTES: usize = 1024 * 1024;

/// How often a conductor that follows is told that nothing happened; it gives up after three times that.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

#[tonic::async_trait]
impl ConductorService for Api {
    type ReplicateStream = Answers<v1::ReplicateResponse>;

    async fn propose(
        &self,
        request: Request<v1::ProposeRequest>,
    ) -> Result<Response<v1::ProposeResponse>, Status> {
        let conductor = conductor(&request);
        let commands = decode(&request.into_inner().commands).map_err(Failure::from)?;
        if let Some(conductor) = &conductor {
            for command in &commands {
                self.check_job(conductor, command)?;
            }
        }
        let proposed = self.commits.propose(commands).await.map_err(ledger_error::proposing)?;
        let outcomes = proposed.outcomes.iter().map(|outcome| {
            serde_json::to_vec(outcome).expect("outcomes hold only strings and numbers")
        });
        Ok(Response::new(v1::ProposeResponse {
            outcomes: outcomes.collect(),
            revision: proposed.revision.0,
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let caller = conductor(&request);
        let request = request.into_inner();
        let conductor = ConductorId::try_new(&request.conductor_id).map_err(Failure::from)?;
        if let Some(caller) = &caller {
            self.check_name(caller, &conductor)?;
        }
        let incarnation = request.incarnation.parse().map_err(Failure::Invalid)?;
        let registered = self.heard(&conductor, incarnation, request.progress);
        let grants = registered && self.leads().await;
        let lease_milliseconds = if grants { self.config.conductor_lease_milliseconds } else { 0 };
        Ok(Response::new(v1::HeartbeatResponse { registered, lease_milliseconds }))
    }

    async fn replicate(
        &self,
        request: Request<v1::ReplicateRequest>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let state = self.state(Freshness::Latest).await?;
        let after = request.into_inner().after_revision;
        let (slices, after) = match after {
            0 => (slices(&state).await?, state.tip().revision),
            after => (Vec::new(), reached("after_revision", after, &state)?),
        };
        let events = select(self.events_after(after), self.signs_of_life());
        let responses = iter(slices.into_iter().map(Ok)).chain(events);
        Ok(Response::new(self.until_stopped(responses)))
    }
}

/// The conductor that calls, where callers are asked who they are.
fn conductor<T>(request: &Request<T>) -> Option<Identity> {
    match who(request) {
        Who::Known(identity) => Some(identity),
        Who::Unasked(_) | Who::Nobody => None,
    }
}

impl Api {
    /// Whether a command is what a conductor is there for, and its own. People's commands come by other ways, where it is
    /// seen whose they are.
    fn check_job(&self, caller: &Identity, command: &Command) -> Result<(), Failure> {
        if command.actor != caller.actor() {
            return Err(self.denied(caller, &format!("a command by `{}`", command.actor)));
        }
        match &command.body {
            CommandBody::RegisterConductor { conductor, .. }
            | CommandBody::UnregisterConductor { conductor, .. }
            | CommandBody::ClaimNode { conductor, .. } => self.check_name(caller, conductor),
            CommandBody::ReleaseNode { .. }
            | CommandBody::ReportStep { .. }
            | CommandBody::ReportPower { .. }
            | CommandBody::ResetAgent { .. } => Ok(()),
            other => Err(self.denied(caller, &format!("the command {}", other.name()))),
        }
    }

    fn check_name(&self, caller: &Identity, conductor: &ConductorId) -> Result<(), Failure> {
        if caller.name == conductor.as_str() {
            return Ok(());
        }
        Err(self.denied(caller, &format!("what is said for conductor `{conductor}`")))
    }

    fn denied(&self, caller: &Identity, what: &str) -> Failure {
        let refusal = Refusal::Denied {
            who: caller.to_string(),
            what: "bessemer.v1.ConductorService".to_owned(),
            needed: format!(
                "another caller for {what}; a conductor's id is the name in its certificate"
            ),
        };
        self.guard.note(&refusal);
        refusal.into()
    }

    /// Notes what a heartbeat says; false when the conductor must register first.
    fn heard(
        &self,
        conductor: &ConductorId,
        incarnation: Incarnation,
        progress: Vec<v1::NodeProgress>,
    ) -> bool {
        let state = self.ledger.state();
        let now = Instant::now();
        let registered = self.leases.lock().expect("nothing panics while it holds the lock").heard(
            &state,
            conductor,
            incarnation,
            now.into_std(),
        );
        if !registered {
            return false;
        }
        let of_its_nodes = progress.into_iter().filter_map(|progress| {
            let node: NodeId = progress.node_id.parse().ok()?;
            let owner = state.node(node).and_then(|node| state.owner(node));
            Some((node, progress.progress?)).filter(|_| owner == Some(conductor))
        });
        self.progress
            .lock()
            .expect("nothing panics while it holds the lock")
            .note(of_its_nodes, now);
        true
    }

    /// Whether this member leads, confirmed by a majority.
    async fn leads(&self) -> bool {
        let leadership = self.ledger.leadership();
        let (before, confirmed) = (*leadership.borrow(), self.state(Freshness::Latest));
        before && confirmed.await.is_ok() && *leadership.borrow()
    }

    /// Empty batches, for as long as this member follows a leader: a conductor that hears nothing leaves it.
    fn signs_of_life(
        &self,
    ) -> impl futures::Stream<Item = Result<v1::ReplicateResponse, Failure>> + Send + use<> {
        let ledger = self.ledger.clone();
        IntervalStream::new(interval(SIGN_OF_LIFE)).filter_map(move |_| {
            let sign = ledger.status().leader.map(|_| {
                let update = Update::Events(v1::EventBatch { events: Vec::new() });
                Ok(v1::ReplicateResponse { update: Some(update) })
            });
            std::future::ready(sign)
        })
    }

    fn events_after(
        &self,
        after: Revision,
    ) -> impl futures::Stream<Item = Result<v1::ReplicateResponse, Failure>> + Send + use<> {
        self.ledger.watch(after).map(|batch| {
            let events = filter::messages(&batch.map_err(ledger_error::watching)?)?;
            Ok(v1::ReplicateResponse { update: Some(Update::Events(v1::EventBatch { events })) })
        })
    }
}

fn decode(commands: &[Vec<u8>]) -> Result<Vec<Command>, Invalid> {
    commands
        .iter()
        .enumerate()
        .map(|(place, command)| {
            serde_json::from_slice(command).map_err(|error| {
                let field = format!("commands[{place}]");
                let value = String::from_utf8_lossy(command);
                Invalid::new(&field, &value, format!("is not a command: {error}"))
            })
        })
        .collect()
}

/// The state, encoded off the runtime's threads: it may be hundreds of megabytes.
async fn slices(state: &State) -> Result<Vec<v1::ReplicateResponse>, Failure> {
    let revision = state.tip().revision.0;
    let state = state.clone();
    let encoded = tokio::task::spawn_blocking(move || serde_json::to_vec(&state)).await;
    let encoded = match encoded {
        Ok(Ok(encoded)) => Bytes::from(encoded),
        Ok(Err(error)) => return Err(unencoded(&error)),
        Err(error) => return Err(unencoded(&error)),
    };
    let slices = (0..encoded.len()).step_by(STATE_SLICE_BYTES).map(|start| {
        Update::StateSlice(encoded.slice(start..encoded.len().min(start + STATE_SLICE_BYTES)))
    });
    let end = Update::StateEnd(v1::StateEnd { revision });
    Ok(slices.chain([end]).map(|update| v1::ReplicateResponse { update: Some(update) }).collect())
}

fn unencoded(error: &dyn std::fmt::Display) -> Failure {
    tracing::error!(%error, "the state cannot be encoded");
    Failure::Stored { what: "the state cannot be encoded".to_owned() }
}
