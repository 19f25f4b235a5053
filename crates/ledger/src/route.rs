//! Where the leader is, and how to wait for one.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::MemberId;
use crate::network::{BadAddress, Client, Clients};
use crate::raft::Raft;

/// How often a member that follows no leader looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Knows the way to the leader. Clones share connections.
#[derive(Clone)]
pub(crate) struct Route {
    pub(crate) member_id: MemberId,
    pub(crate) raft: Raft,
    clients: Clients,
}

/// Who leads, as far as this member knows.
pub(crate) enum Leader {
    /// This member.
    Me,
    /// Another one.
    Other(Client),
    /// Nobody, or somebody without a usable address.
    Unknown,
}

/// Why something that only a leader can do was not done.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// There is none, or it changed meanwhile: worth another try.
    Again,
    /// This member has stopped.
    Stopped(String),
}

impl Route {
    pub(crate) fn new(member_id: MemberId, raft: Raft, clients: Clients) -> Self {
        Self { member_id, raft, clients }
    }

    pub(crate) fn client(&self, id: MemberId, address: &str) -> Result<Client, BadAddress> {
        self.clients.client(id, address)
    }

    pub(crate) fn leader(&self) -> Leader {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let Some(leader) = metrics.current_leader else { return Leader::Unknown };
        if leader == self.member_id {
            return Leader::Me;
        }
        let Some(member) = metrics.membership_config.get_node(&leader) else {
            return Leader::Unknown;
        };
        match self.client(leader, &member.address) {
            Ok(client) => Leader::Other(client),
            Err(error) => {
                tracing::warn!(%leader, %error, "cannot reach the leader");
                Leader::Unknown
            }
        }
    }

    /// Waits a little, or until the leader may be another one.
    pub(crate) async fn pause(&self, deadline: Instant) {
        let mut changes = self.raft.server_metrics();
        let until = deadline.min(Instant::now() + LOOK_AGAIN);
        // Either ending is a reason to look again.
        let _ = tokio::time::timeout_at(until, changes.changed()).await;
    }

    /// Why this member has stopped, if it has.
    pub(crate) fn stopped(&self) -> Option<String> {
        let metrics = self.raft.metrics();
        let running = metrics.borrow_watched().running_state.clone();
        running.err().map(|fatal| fatal.to_string())
    }
}

/// What an answer of the leader's means for the question.
pub(crate) fn judge(status: &Status) -> Failure {
    match status.code() {
        Code::InvalidArgument => Failure::Stopped(format!(
            "the leader cannot read what this member sends: {}",
            status.message()
        )),
        _ => Failure::Again,
    }
}
