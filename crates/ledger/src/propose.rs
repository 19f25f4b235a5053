//! Takes commands into the log. What arrives while entries are under way shares the next entry.

use std::sync::Arc;
use std::time::Duration;

use bessemer_domain::Revision;
use bessemer_proto::raft::v1 as pb;
use bytes::Bytes;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::ProposeError;
use crate::entry::{Applied, Batch};
use crate::route::{Failure, Leader, Route, judge};
use crate::view::View;

/// Commands in one proposal, and in one log entry.
pub(crate) const COMMANDS_MAX: usize = 2048;

/// Bytes of commands in one proposal: the largest config drive twice over.
pub(crate) const PROPOSAL_BYTES_MAX: usize = 4 << 20;

/// An entry takes no further proposal from here on, so that a flush stays short.
const ENTRY_BYTES_TARGET: usize = 512 << 10;

/// Entries under way. With fewer, a disk with a slow flush starves; with more, entries get small.
const ENTRIES_UNDER_WAY_MAX: usize = 4;

/// Memory for proposals that wait. Beyond it callers wait.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Proposals that wait. Reached only by tiny ones.
const WAITING_MAX: usize = 65_536;

/// Commands that were committed and applied on this member.
#[derive(Debug, Clone)]
pub(crate) struct Committed {
    pub(crate) applied: Applied,
    pub(crate) log_index: u64,
}

/// Why a proposal that another member forwarded was not committed here.
#[derive(Debug)]
pub(crate) enum Refused {
    /// This member does not lead.
    NotLeader,
    /// As for its own.
    Failed(ProposeError),
}

struct Proposal {
    commands: Vec<Bytes>,
    /// From another member, which looks for the leader itself.
    forwarded: bool,
    answer: oneshot::Sender<Result<Committed, Refused>>,
    _waiting: OwnedSemaphorePermit,
}

/// Takes proposals. Clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct Proposer {
    queue: mpsc::Sender<Proposal>,
    waiting_bytes: Arc<Semaphore>,
    timeout: Duration,
}

/// Turns proposals into entries.
pub(crate) struct Packer {
    queue: mpsc::Receiver<Proposal>,
    worker: Worker,
}

#[derive(Clone)]
struct Worker {
    route: Route,
    view: View,
    timeout: Duration,
}

impl Proposer {
    pub(crate) fn new(route: Route, view: View, timeout: Duration) -> (Self, Packer) {
        let (queue, proposals) = mpsc::channel(WAITING_MAX);
        let waiting_bytes = Arc::new(Semaphore::new(WAITING_BYTES_MAX));
        let packer = Packer { queue: proposals, worker: Worker { route, view, timeout } };
        (Self { queue, waiting_bytes, timeout }, packer)
    }

    /// Proposes encoded commands and waits until they are applied here.
    pub(crate) async fn propose(
        &self,
        commands: Vec<Bytes>,
        forwarded: bool,
    ) -> Result<Committed, Refused> {
        let size_bytes = commands.iter().map(Bytes::len).sum();
        if commands.len() > COMMANDS_MAX || size_bytes > PROPOSAL_BYTES_MAX {
            return Err(Refused::Failed(ProposeError::TooLarge {
                count: commands.len(),
                size_bytes,
                count_max: COMMANDS_MAX,
                size_bytes_max: PROPOSAL_BYTES_MAX,
            }));
        }
        let proposing = self.enqueue(commands, size_bytes, forwarded);
        // The packer keeps the time of what it has taken; this bounds the wait before that.
        match tokio::time::timeout(self.timeout * 2, proposing).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(Refused::Failed(ProposeError::Stopped {
                reason: "the ledger is shut down".to_owned(),
            })),
            Err(_) => Err(Refused::Failed(ProposeError::TimedOut { waited: self.timeout * 2 })),
        }
    }

    async fn enqueue(
        &self,
        commands: Vec<Bytes>,
        size_bytes: usize,
        forwarded: bool,
    ) -> Option<Result<Committed, Refused>> {
        let permits = u32::try_from(size_bytes).expect("bounded by PROPOSAL_BYTES_MAX");
        let waiting = Arc::clone(&self.waiting_bytes).acquire_many_owned(permits).await.ok()?;
        let (answer, answered) = oneshot::channel();
        let proposal = Proposal { commands, forwarded, answer, _waiting: waiting };
        self.queue.send(proposal).await.ok()?;
        answered.await.ok()
    }
}

impl Packer {
    /// Runs until the ledger is shut down.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let under_way = Arc::new(Semaphore::new(ENTRIES_UNDER_WAY_MAX));
        let mut left_over = None;
        loop {
            let slot = Arc::clone(&under_way).acquire_owned();
            let next = async { (slot.await, self.next(&mut left_over).await) };
            let (slot, proposals) = tokio::select! {
                () = shutdown.cancelled() => return,
                next = next => next,
            };
            let (Ok(slot), Some(proposals)) = (slot, proposals) else { return };
            let worker = self.worker.clone();
            let shutdown = shutdown.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = worker.commit(proposals) => {}
                }
                drop(slot);
            });
        }
    }

    /// The proposals for the next entry: all that wait, up to the bounds.
    async fn next(&mut self, left_over: &mut Option<Proposal>) -> Option<Vec<Proposal>> {
        let first = match left_over.take() {
            Some(proposal) => proposal,
            None => self.queue.recv().await?,
        };
        let (mut count, mut bytes) = (0, 0);
        let mut proposals = Vec::new();
        let mut next = Some(first);
        while let Some(proposal) = next {
            let size: usize = proposal.commands.iter().map(Bytes::len).sum();
            let full =
                count + proposal.commands.len() > COMMANDS_MAX || bytes + size > ENTRY_BYTES_TARGET;
            if full && !proposals.is_empty() {
                *left_over = Some(proposal);
                break;
            }
            count += proposal.commands.len();
            bytes += size;
            proposals.push(proposal);
            next = self.queue.try_recv().ok();
        }
        Some(proposals)
    }
}

impl Worker {
    /// Tries until the proposals are applied here or the time is over. Commands are idempotent, so trying again is safe
    /// even when it is not known whether the last try succeeded.
    async fn commit(&self, mut proposals: Vec<Proposal>) {
        let deadline = Instant::now() + self.timeout;
        let mut sent = false;
        let failure = loop {
            let leader = self.route.leader();
            if !matches!(leader, Leader::Me) {
                refuse_forwarded(&mut proposals);
                if proposals.is_empty() {
                    return;
                }
            }
            sent |= !matches!(leader, Leader::Unknown);
            let tried = tokio::time::timeout_at(deadline, self.commit_once(leader, &proposals));
            match tried.await {
                Ok(Ok(committed)) => return answer(proposals, committed),
                Ok(Err(Failure::Stopped(reason))) => break ProposeError::Stopped { reason },
                Ok(Err(Failure::Again)) if Instant::now() < deadline => {
                    self.route.pause(deadline).await;
                }
                Ok(Err(Failure::Again)) | Err(_) if sent => {
                    break ProposeError::TimedOut { waited: self.timeout };
                }
                Ok(Err(Failure::Again)) | Err(_) => {
                    break ProposeError::NoLeader { waited: self.timeout };
                }
            }
        };
        for proposal in proposals {
            // A caller that left needs no answer.
            let _ = proposal.answer.send(Err(Refused::Failed(failure.clone())));
        }
    }

    async fn commit_once(
        &self,
        leader: Leader,
        proposals: &[Proposal],
    ) -> Result<Committed, Failure> {
        if let Some(reason) = self.route.stopped() {
            return Err(Failure::Stopped(reason));
        }
        match leader {
            Leader::Me => self.write(proposals).await,
            Leader::Other(client) => self.forward(client, proposals).await,
            Leader::Unknown => Err(Failure::Again),
        }
    }

    async fn write(&self, proposals: &[Proposal]) -> Result<Committed, Failure> {
        let commands = proposals.iter().flat_map(|proposal| &proposal.commands);
        let written = self.route.raft.client_write(Batch::pack(commands)).await;
        match written {
            Ok(response) => {
                Ok(Committed { applied: response.data, log_index: response.log_id.index })
            }
            Err(RaftError::APIError(
                ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_),
            )) => Err(Failure::Again),
            Err(error) => Err(Failure::Stopped(error.to_string())),
        }
    }

    async fn forward(
        &self,
        mut client: crate::network::Client,
        proposals: &[Proposal],
    ) -> Result<Committed, Failure> {
        let commands = proposals.iter().flat_map(|proposal| &proposal.commands).cloned().collect();
        let mut request = Request::new(pb::ForwardRequest { commands });
        request.set_timeout(self.timeout);
        let response = client.forward(request).await.map_err(|status| judge(&status))?;
        let response = response.into_inner();
        let outcomes = serde_json::from_slice(&response.outcomes).map_err(|error| {
            Failure::Stopped(format!("this member cannot read the leader's outcomes: {error}"))
        })?;
        let applied = Applied { outcomes, revision: Revision(response.revision) };
        let log_index = response.log_index;
        if self.view.until(|reached| reached.covers(log_index)).await {
            Ok(Committed { applied, log_index })
        } else {
            Err(Failure::Stopped("the state machine has stopped".to_owned()))
        }
    }
}

fn refuse_forwarded(proposals: &mut Vec<Proposal>) {
    for proposal in proposals.extract_if(.., |proposal| proposal.forwarded) {
        // A caller that left needs no answer.
        let _ = proposal.answer.send(Err(Refused::NotLeader));
    }
}

/// Gives each proposal its part of the outcomes.
fn answer(proposals: Vec<Proposal>, committed: Committed) {
    let Committed { applied, log_index } = committed;
    let mut outcomes = applied.outcomes.into_iter();
    for proposal in proposals {
        let outcomes = outcomes.by_ref().take(proposal.commands.len()).collect();
        let applied = Applied { outcomes, revision: applied.revision };
        // A caller that left needs no answer.
        let _ = proposal.answer.send(Ok(Committed { applied, log_index }));
    }
}
