//! Commands to the ledger, many at a time.

use std::sync::Arc;
use std::time::SystemTime;

use bessemer_domain::command::CommandBody;
use bessemer_domain::ids::{CommandId, ConductorId};
use bessemer_domain::{Accepted, Command, Outcome, Rejection, Timestamp};
use bessemer_proto::v1::ProposeRequest;
use bessemer_proto::v1::conductor_service_client::ConductorServiceClient;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use uuid::Uuid;

use super::{ANSWER_BYTES_MAX, Members};

/// Commands sent in one request: what gathers while the request before is under way.
const COMMANDS_MAX: usize = 512;

/// A command and who waits for its outcome.
type Proposal = (Command, oneshot::Sender<Outcome>);

/// The way for commands into the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Proposals {
    queue: mpsc::Sender<Proposal>,
    actor: String,
}

impl Proposals {
    /// The way in, and what must run for anything to pass it.
    pub(crate) fn new(
        members: Arc<Members>,
        conductor: &ConductorId,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (queue, proposals) = mpsc::channel(COMMANDS_MAX);
        (Self { queue, actor: format!("conductor/{conductor}") }, send(members, proposals))
    }

    /// Sends a command and waits for its outcome, for as long as that takes: the same id is repeated until a member
    /// answers, so it happens once.
    pub(crate) async fn propose(&self, body: CommandBody) -> Result<Accepted, Rejection> {
        let command = Command {
            id: CommandId::new(Uuid::new_v4()),
            fingerprint: 0,
            actor: self.actor.clone(),
            at: Timestamp::from(SystemTime::now()),
            body,
        };
        let (answer, outcome) = oneshot::channel();
        if self.queue.send((command, answer)).await.is_ok()
            && let Ok(outcome) = outcome.await
        {
            return outcome;
        }
        // The conductor is stopping; nothing that waits here goes on.
        std::future::pending().await
    }
}

async fn send(members: Arc<Members>, mut proposals: mpsc::Receiver<Proposal>) {
    let mut batch = Vec::new();
    while proposals.recv_many(&mut batch, COMMANDS_MAX).await > 0 {
        let (commands, waiting): (Vec<_>, Vec<_>) = batch.drain(..).unzip();
        let commands: Vec<_> = commands
            .iter()
            .map(|command| serde_json::to_vec(command).expect("commands are plain data"))
            .collect();
        let outcomes = members
            .ask("propose commands", |channel| {
                let request = ProposeRequest { commands: commands.clone() };
                let mut client = ConductorServiceClient::new(channel)
                    .max_decoding_message_size(ANSWER_BYTES_MAX);
                async move {
                    let answer = client.propose(request).await?;
                    read_outcomes(&answer.into_inner().outcomes)
                }
            })
            .await;
        for (waiting, outcome) in waiting.into_iter().zip(outcomes) {
            // Whoever asked may have been stopped meanwhile.
            waiting.send(outcome).ok();
        }
    }
}

fn read_outcomes(outcomes: &[Vec<u8>]) -> Result<Vec<Outcome>, Status> {
    outcomes
        .iter()
        .map(|bytes| serde_json::from_slice(bytes))
        .collect::<Result<_, _>>()
        .map_err(|error| Status::from_error(Box::new(error)))
}
