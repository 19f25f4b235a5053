//! What all services share: the ledger, and how commands are put to it.

use std::sync::Mutex;
use std::time::SystemTime;

use bessemer_access::Guard;
use bessemer_domain::lease::Leases;
use bessemer_domain::node::Node;
use bessemer_domain::{Accepted, Command, CommandBody, State, Timestamp};
use bessemer_ledger::Ledger;
use bessemer_proto::v1;
use bessemer_secrets::KeyRing;
use bessemer_wire::Failure;
use futures::stream::{BoxStream, once};
use futures::{Stream, StreamExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::caller::Caller;
use crate::commit::Commits;
use crate::image::ImageCaches;
use crate::progress::{self, ProgressTable};
use crate::{Config, ledger_error};

/// A member of the API. All gRPC services are implemented on it, each in its own module.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) config: Config,
    pub(crate) guard: Guard,
    /// Seals secrets before they enter the log, if there are keys.
    pub(crate) keys: Option<KeyRing>,
    pub(crate) ledger: Ledger,
    pub(crate) commits: Commits,
    pub(crate) image_caches: ImageCaches,
    pub(crate) leases: Mutex<Leases>,
    pub(crate) progress: Mutex<ProgressTable>,
    pub(crate) stopping: CancellationToken,
}

/// A stream that a service answers with.
pub(crate) type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// How new a state must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// As this member has it.
    Any,
    /// Holding all that was acknowledged before the question.
    Latest,
}

impl Freshness {
    pub(crate) const fn unless_stale_ok(stale_ok: bool) -> Self {
        if stale_ok { Self::Any } else { Self::Latest }
    }
}

impl Api {
    /// A state to keep, as fresh as asked for.
    pub(crate) async fn state(&self, freshness: Freshness) -> Result<State, Failure> {
        self.look(freshness, State::clone).await
    }

    /// Looks at a state that is as fresh as asked for. Must be brief: no command is applied meanwhile.
    pub(crate) async fn look<T>(
        &self,
        freshness: Freshness,
        look: impl FnOnce(&State) -> T,
    ) -> Result<T, Failure> {
        if freshness == Freshness::Latest {
            self.ledger.catch_up().await.map_err(ledger_error::reading)?;
        }
        Ok(self.ledger.look(look))
    }

    /// Puts a command to the ledger. Once it returns, this member's state holds what the command did.
    pub(crate) async fn propose(
        &self,
        caller: Caller,
        mut body: CommandBody,
    ) -> Result<Accepted, Failure> {
        if let Some(keys) = &self.keys {
            keys.seal(&mut body)?;
        }
        let command = Command {
            id: caller.command_id,
            fingerprint: caller.fingerprint,
            actor: caller.actor,
            at: now(),
            body,
        };
        let proposed =
            self.commits.propose(vec![command]).await.map_err(ledger_error::proposing)?;
        let outcome = proposed.outcomes.into_iter().next();
        Ok(outcome.expect("the ledger gives one outcome for each command")?)
    }

    /// The node as a message, with where its step stands.
    pub(crate) fn node_message(&self, state: &State, node: &Node) -> v1::Node {
        let mut message = bessemer_wire::node::to_proto(state, node);
        if let (Some(status), Some((plan, _, planned))) = (&mut message.status, node.current_step())
        {
            let progress = self
                .progress
                .lock()
                .expect("nothing panics while it holds the lock")
                .of(node.id, &planned.step.to_string(), Instant::now());
            progress::tell(status, plan.kind, &planned.status, progress);
        }
        message
    }

    /// The stream, until this member stops: then the caller is sent to another one.
    pub(crate) fn until_stopped<T: Send + 'static>(
        &self,
        stream: impl Stream<Item = Result<T, Failure>> + Send + 'static,
    ) -> Answers<T> {
        stream
            .take_until(self.stopping.clone().cancelled_owned())
            .chain(once(std::future::ready(Err(Failure::Stopping))))
            .map(|item| item.map_err(Status::from))
            .boxed()
    }
}

/// The time that a command carries.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
