//! Linearizable reads without a write: the leader confirms that it still leads, and the reader waits until it has
//! applied what was committed by then. Reads that wait at the same time share one confirmation.

use std::time::Duration;

use bessemer_proto::raft::v1 as pb;
use openraft::ReadPolicy;
use openraft::errors::RaftError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Request;

use crate::ReadError;
use crate::route::{Failure, Leader, Route, judge};
use crate::view::View;

/// Reads that wait for the next confirmation. Beyond it callers wait.
const WAITING_MAX: usize = 65_536;

type Answer = oneshot::Sender<Result<(), ReadError>>;

/// Asks for confirmations. Clones share the queue.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    queue: mpsc::Sender<Answer>,
}

/// Gets the confirmations.
pub(crate) struct Confirmer {
    queue: mpsc::Receiver<Answer>,
    route: Route,
    view: View,
    timeout: Duration,
}

impl Reader {
    pub(crate) fn new(route: Route, view: View, timeout: Duration) -> (Self, Confirmer) {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        (Self { queue }, Confirmer { queue: waiting, route, view, timeout })
    }

    /// Returns when this member has applied everything that was acknowledged anywhere before the call.
    pub(crate) async fn confirm(&self) -> Result<(), ReadError> {
        let stopped = || ReadError::Stopped { reason: "the ledger is shut down".to_owned() };
        let (answer, answered) = oneshot::channel();
        self.queue.send(answer).await.map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Confirmer {
    /// Runs until the ledger is shut down.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut waiting = Vec::new();
        loop {
            let round = async {
                if self.queue.recv_many(&mut waiting, WAITING_MAX).await == 0 {
                    return None;
                }
                Some(self.confirm().await)
            };
            let confirmed = tokio::select! {
                () = shutdown.cancelled() => return,
                confirmed = round => confirmed,
            };
            let Some(confirmed) = confirmed else { return };
            for answer in waiting.drain(..) {
                // A caller that left needs no answer.
                let _ = answer.send(confirmed.clone());
            }
        }
    }

    async fn confirm(&self) -> Result<(), ReadError> {
        let deadline = Instant::now() + self.timeout;
        loop {
            match tokio::time::timeout_at(deadline, self.confirm_once()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(Failure::Stopped(reason))) => return Err(ReadError::Stopped { reason }),
                Ok(Err(Failure::Again)) if Instant::now() < deadline => {
                    self.route.pause(deadline).await;
                }
                Ok(Err(Failure::Again)) | Err(_) => {
                    return Err(ReadError::NoLeader { waited: self.timeout });
                }
            }
        }
    }

    async fn confirm_once(&self) -> Result<(), Failure> {
        if let Some(reason) = self.route.stopped() {
            return Err(Failure::Stopped(reason));
        }
        let index = match self.route.leader() {
            Leader::Me => Some(read_index(&self.route).await?),
            Leader::Other(mut client) => {
                let mut request = Request::new(pb::ReadIndexRequest {});
                request.set_timeout(self.timeout);
                let answer = client.read_index(request).await.map_err(|status| judge(&status))?;
                answer.into_inner().log_index
            }
            Leader::Unknown => return Err(Failure::Again),
        };
        let Some(index) = index else { return Ok(()) };
        if self.view.until(|reached| reached.covers(index)).await {
            Ok(())
        } else {
            Err(Failure::Stopped("the state machine has stopped".to_owned()))
        }
    }
}

/// On the leader: the index that a read must wait for, after a round that confirms the leadership.
pub(crate) async fn read_index(route: &Route) -> Result<u64, Failure> {
    match route.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
        Ok((read, _applied)) => Ok(read.index()),
        Err(RaftError::APIError(_)) => Err(Failure::Again),
        Err(RaftError::Fatal(fatal)) => Err(Failure::Stopped(fatal.to_string())),
    }
}
