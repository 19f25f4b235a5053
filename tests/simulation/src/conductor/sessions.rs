//! Agents' sessions at a conductor: one for each machine, with at most one task.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bessemer_domain::ids::NodeId;
use bessemer_domain::task::Start;
use futures::future::Either;

use super::Conductor;
use crate::agent::{Report, Task};
use crate::executor::race;
use crate::network::Connection;
use crate::sync::Watch;

/// Three heartbeats missed: the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(6);

/// How long a new session waits for the claim that lets it begin.
const CLAIM_WAIT_MAX: Duration = Duration::from_secs(5);

/// What an agent opens a session with.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    pub(crate) node: NodeId,
    pub(crate) token: String,
}

/// What an agent says.
#[derive(Debug, Clone)]
pub(crate) enum ToConductor {
    Heartbeat,
    Update { task_id: String, report: Report },
}

/// What a conductor says.
#[derive(Debug, Clone)]
pub(crate) enum ToAgent {
    Welcome { epoch: u64 },
    Start(Start<Task>),
    Cancel { task_id: String, epoch: u64 },
}

type Wire = Connection<ToAgent, ToConductor>;

/// One connected agent.
pub(super) struct Session {
    number: u64,
    wire: Wire,
    /// The last word of the agent; none before the first.
    pub(super) update: Watch<Option<(String, Report)>>,
    pub(super) is_over: Watch<bool>,
}

impl Session {
    pub(super) fn start(&self, start: Start<Task>) {
        self.wire.send(ToAgent::Start(start));
    }
}

/// The sessions of one life of a conductor.
#[derive(Default)]
pub(super) struct Sessions {
    by_node: Watch<BTreeMap<NodeId, Rc<Session>>>,
    count: Cell<u64>,
}

impl Sessions {
    pub(super) async fn connected(&self, node: NodeId) -> Rc<Session> {
        self.by_node.until(|sessions| sessions.get(&node).cloned()).await
    }

    pub(super) fn cancel(&self, node: NodeId, task_id: String, epoch: u64) {
        if let Some(session) = self.by_node.get().get(&node) {
            session.wire.send(ToAgent::Cancel { task_id, epoch });
        }
    }

    pub(super) fn end(&self, node: NodeId) {
        let session = self.by_node.update(|sessions| sessions.remove(&node));
        if let Some(session) = session {
            session.is_over.set(true);
        }
    }
}

impl Conductor {
    /// Carries one session, if the agent is admitted.
    pub(crate) async fn serve(self: Rc<Self>, hello: Hello, wire: Wire) {
        let node = hello.node;
        let admitted = self.replica.until(|state| {
            let node = state.node(node)?;
            let bound = node.agent.as_ref()?;
            let claim = node.claim.as_ref()?;
            (bound.token_digest == hello.token && claim.is_held_by(&self.id, self.incarnation))
                .then_some(claim.epoch)
        });
        let Some(epoch) = self.world.exec.timeout(CLAIM_WAIT_MAX, admitted).await else { return };
        wire.send(ToAgent::Welcome { epoch });
        self.sessions.count.set(self.sessions.count.get() + 1);
        let session = Rc::new(Session {
            number: self.sessions.count.get(),
            wire,
            update: Watch::new(None),
            is_over: Watch::new(false),
        });
        // A machine has one agent: the one that came last.
        let replaced =
            self.sessions.by_node.update(|sessions| sessions.insert(node, Rc::clone(&session)));
        if let Some(replaced) = replaced {
            replaced.is_over.set(true);
        }
        self.carry(&session).await;
        session.is_over.set(true);
        self.sessions.by_node.update(|sessions| {
            if sessions.get(&node).is_some_and(|now| now.number == session.number) {
                sessions.remove(&node);
            }
        });
    }

    async fn carry(&self, session: &Session) {
        loop {
            let message = self.world.exec.timeout(SILENCE_MAX, session.wire.receive());
            let ended = session.is_over.until(|over| over.then_some(()));
            match race(message, ended).await {
                Either::Left(Some(Some(ToConductor::Update { task_id, report }))) => {
                    session.update.set(Some((task_id, report)));
                }
                Either::Left(Some(Some(ToConductor::Heartbeat))) => {}
                Either::Left(Some(None) | None) | Either::Right(()) => return,
            }
        }
    }
}
