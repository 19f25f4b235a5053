//! Changes who takes part, and who leads. Asked of any member, done by the leader.
//!
//! One voter at a time, as one log entry: old and new majorities share a member, so there is no joint configuration that
//! a lost leader could leave half done. The leader writes it only while the membership is still the one that it judged.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bessemer_proto::raft::v1 as pb;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::Precondition;
use openraft::{EntryPayload, Instant as _, Membership};
use tokio::time::Instant;
use tonic::{Request, Status};

use crate::change::Group;
use crate::network::{Client, to_message};
use crate::raft::{RaftMetrics, TypeConfig};
use crate::route::{Failure, Leader, Route, judge};
use crate::{Change, ChangeError, Changed, MemberAddress, MemberId};

/// How long a change is tried. Shorter than clients wait for one answer.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(4);

/// The same for one that another member forwarded, which is to hear what it was waited for.
const FORWARDED_TIMEOUT: Duration = Duration::from_millis(3500);

/// How long the leader waits for a member to catch up or to answer before it refuses.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a member may take to lead after it was told to.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(2);

/// A member that lacks no more than so many entries has caught up: under load there are always some on their way.
const LAG_MAX: u64 = 128;

/// A member that did not answer the leader for so long is not up. Many heartbeats, and longer than a stall of a disk.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// How often the leader looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long a member that was removed is tried to be told.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the leader has not made a change.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Worth another try; what it waits for.
    Again(String),
    /// It will not.
    Failed(ChangeError),
}

/// Changes who takes part. Clones are alike.
#[derive(Clone)]
pub(crate) struct Changer {
    route: Route,
}

/// What a leader knows of its group at a moment.
struct Observed {
    group: Group,
    up: BTreeSet<MemberId>,
    lags: BTreeMap<MemberId, u64>,
    precondition: Precondition<TypeConfig>,
}

impl Changer {
    pub(crate) fn new(route: Route) -> Self {
        Self { route }
    }

    /// Makes the change, wherever the leader is.
    pub(crate) async fn change(&self, change: &Change) -> Result<Changed, ChangeError> {
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        let led_before = self.metrics().current_leader;
        let mut waits_for = "a leader".to_owned();
        while Instant::now() < deadline {
            if let Some(reason) = self.route.stopped() {
                return Err(ChangeError::Stopped { reason });
            }
            let tried = match self.route.leader() {
                Leader::Me => self.lead(change, deadline).await,
                Leader::Other(client) => forward(client, change, deadline).await,
                Leader::Unknown => Err(Refused::Again("a leader".to_owned())),
            };
            match tried {
                Ok(mut done) => {
                    // Whoever leads in the end finds a transfer done.
                    if let Change::TransferLeader { id } = change {
                        done.changed = led_before != Some(*id);
                    }
                    self.until_seen(change, &done, deadline).await;
                    return Ok(done);
                }
                Err(Refused::Failed(error)) => return Err(error),
                Err(Refused::Again(reason)) => {
                    waits_for = reason;
                    self.route.pause(deadline).await;
                }
            }
        }
        Err(ChangeError::TimedOut { waited: CHANGE_TIMEOUT, waits_for })
    }

    /// So that who asked this member finds the change there. A member that was removed never sees it.
    async fn until_seen(&self, change: &Change, done: &Changed, deadline: Instant) {
        if matches!(change, Change::Remove { id, .. } if *id == self.route.member_id) {
            return;
        }
        let mut metrics = self.route.raft.metrics();
        let seen = async {
            while !is_seen(change, done, &metrics.borrow_watched()) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        // It is done, seen here or not.
        let _ = tokio::time::timeout_at(deadline, seen).await;
    }

    /// Makes a change that another member forwarded.
    pub(crate) async fn lead_for_another(&self, change: &Change) -> Result<Changed, Refused> {
        self.lead(change, Instant::now() + FORWARDED_TIMEOUT).await
    }

    /// Makes the change on the leader.
    async fn lead(&self, change: &Change, deadline: Instant) -> Result<Changed, Refused> {
        let me = self.route.member_id;
        let asked = Instant::now();
        let observed = self.observe(asked)?;
        let target = observed.group.after(change).map_err(Refused::Failed)?;
        if let Change::TransferLeader { id } = change {
            if *id == me {
                return Ok(Changed::NOTHING);
            }
            return self.hand_over(*id, deadline).await;
        }
        let Some(target) = target else { return Ok(Changed::NOTHING) };
        match change {
            Change::Promote { id } => {
                self.until_ready(*id, deadline).await?;
                self.until_quorum(&target, deadline).await?;
            }
            Change::Remove { id, force } => {
                if observed.group.voters.contains(id) && !force {
                    self.until_quorum(&target, deadline).await?;
                }
                if *id == me {
                    let heir = self.heir(&target, asked)?;
                    return self.hand_over(heir, deadline).await;
                }
            }
            Change::AddLearner { .. } | Change::TransferLeader { .. } => {}
        }
        // The waiting took time; the group is judged again as it is now.
        let observed = self.observe(asked)?;
        let Some(target) = observed.group.after(change).map_err(Refused::Failed)? else {
            return Ok(Changed::NOTHING);
        };
        let log_index = self.append(&target, observed.precondition, deadline).await?;
        if let Change::Remove { id, .. } = change
            && let Some(address) = observed.group.addresses.get(id)
        {
            self.notify_removed(*id, address, log_index);
        }
        Ok(Changed { changed: true, log_index: Some(log_index) })
    }

    fn metrics(&self) -> RaftMetrics {
        self.route.raft.metrics().borrow_watched().clone()
    }

    /// The group, and who of it has answered since `since`.
    fn observe(&self, since: Instant) -> Result<Observed, Refused> {
        let metrics = self.metrics();
        if metrics.current_leader != Some(self.route.member_id) {
            return Err(Refused::Again("a leader".to_owned()));
        }
        let stored = &metrics.membership_config;
        if stored.log_id() != metrics.committed_membership_config.log_id() {
            return Err(Refused::Again("the change before this one to be committed".to_owned()));
        }
        let group = group_of(&metrics);
        let heard = |id: &MemberId| is_heard(&metrics, *id, since.elapsed());
        let up = group.addresses.keys().copied().filter(heard).collect();
        let lags =
            group.addresses.keys().filter_map(|id| Some((*id, lag(&metrics, *id)?))).collect();
        let precondition =
            Precondition::LastMembershipLogId { last_membership_log_id: *stored.log_id() };
        Ok(Observed { group, up, lags, precondition })
    }

    /// Waits until a member has caught up.
    async fn until_ready(&self, id: MemberId, deadline: Instant) -> Result<(), Refused> {
        let asked = Instant::now();
        let until = deadline.min(asked + READY_TIMEOUT);
        loop {
            let observed = self.observe(asked)?;
            let (up, lag) = (observed.up.contains(&id), observed.lags.get(&id).copied());
            if up && lag.is_some_and(|lag| lag <= LAG_MAX) {
                return Ok(());
            }
            if Instant::now() >= until {
                let waited = READY_TIMEOUT;
                return Err(Refused::Failed(ChangeError::Behind { id, up, lag, waited }));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until a group's voters could decide. Each has to answer anew: one that answered a second ago may be gone.
    async fn until_quorum(&self, target: &Group, deadline: Instant) -> Result<(), Refused> {
        let asked = Instant::now();
        let until = deadline.min(asked + READY_TIMEOUT);
        loop {
            match target.check_quorum(&self.observe(asked)?.up) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(Refused::Failed(error)),
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// The voter that lacks least.
    fn heir(&self, group: &Group, asked: Instant) -> Result<MemberId, Refused> {
        let observed = self.observe(asked)?;
        let fit = group.voters.iter().filter(|voter| observed.up.contains(voter));
        let heir = fit.min_by_key(|voter| observed.lags.get(voter).copied().unwrap_or(u64::MAX));
        heir.copied().ok_or_else(|| Refused::Again("a voter that can take the lead".to_owned()))
    }

    /// Makes another voter lead. Always to be tried again: whoever leads then says whether it is the right one.
    async fn hand_over(&self, to: MemberId, deadline: Instant) -> Result<Changed, Refused> {
        self.until_ready(to, deadline).await?;
        tracing::info!(%to, "handing over the lead");
        let triggered = self.route.raft.trigger().transfer_leader(to).await;
        triggered.map_err(|fatal| stopped(&fatal))?;
        let me = self.route.member_id;
        let mut changes = self.route.raft.server_metrics();
        let until = deadline.min(Instant::now() + HANDOVER_TIMEOUT);
        let followed = async {
            while changes.borrow_watched().current_leader.is_none_or(|leader| leader == me) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        // Who leads is looked at again either way.
        let _ = tokio::time::timeout_at(until, followed).await;
        Err(Refused::Again(format!("member {to} to take the lead")))
    }

    /// Writes the group into the log and waits until it is committed.
    async fn append(
        &self,
        target: &Group,
        precondition: Precondition<TypeConfig>,
        deadline: Instant,
    ) -> Result<u64, Refused> {
        let addresses = target
            .addresses
            .iter()
            .map(|(id, address)| (*id, MemberAddress { address: address.clone() }));
        let membership =
            Membership::new(vec![target.voters.clone()], addresses.collect::<BTreeMap<_, _>>())
                .map_err(|error| Refused::Again(error.to_string()))?;
        let writing =
            self.route.raft.append_membership(membership, EntryPayload::Blank, [precondition]);
        let voters: Vec<_> = target.voters.iter().map(ToString::to_string).collect();
        let Ok(written) = tokio::time::timeout_at(deadline, writing).await else {
            let waits_for = format!("a majority of the voters {} to store it", voters.join(", "));
            return Err(Refused::Failed(ChangeError::TimedOut {
                waited: CHANGE_TIMEOUT,
                waits_for,
            }));
        };
        match written {
            Ok(response) => Ok(response.log_id.index),
            Err(RaftError::APIError(
                error @ (ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_)),
            )) => Err(Refused::Again(error.to_string())),
            Err(RaftError::APIError(_)) => Err(Refused::Again("a leader".to_owned())),
            Err(RaftError::Fatal(fatal)) => Err(stopped(&fatal)),
        }
    }

    /// Tells a member that it takes part no more, so that it ends and is not asked any longer. Nobody waits for it.
    fn notify_removed(&self, id: MemberId, address: &str, log_index: u64) {
        let (client, message) = (self.route.client(id, address), to_message(&log_index));
        let (Ok(mut client), Ok(message)) = (client, message) else { return };
        tokio::spawn(async move {
            let mut request = Request::new(message);
            request.set_timeout(NOTICE_TIMEOUT);
            if let Err(status) = client.notice_removal(request).await {
                tracing::info!(%id, reason = status.message(), "the removed member was not told");
            }
        });
    }
}

async fn forward(
    mut client: Client,
    change: &Change,
    deadline: Instant,
) -> Result<Changed, Refused> {
    let again = |status: Status| match judge(&status) {
        Failure::Again => Refused::Again(status.message().to_owned()),
        Failure::Stopped(reason) => Refused::Failed(ChangeError::Stopped { reason }),
    };
    let message = to_message(change).map_err(again)?;
    let mut request = Request::new(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    let answer = client.change_membership(request).await.map_err(again)?;
    let answer: pb::RaftMessage = answer.into_inner();
    let answer: Result<Changed, ChangeError> = serde_json::from_slice(&answer.payload)
        .map_err(|error| Refused::Failed(ChangeError::Stopped { reason: error.to_string() }))?;
    answer.map_err(Refused::Failed)
}

fn stopped(fatal: &dyn std::fmt::Display) -> Refused {
    Refused::Failed(ChangeError::Stopped { reason: fatal.to_string() })
}

/// The group as a member knows it.
fn group_of(metrics: &RaftMetrics) -> Group {
    let membership = metrics.membership_config.membership();
    Group {
        voters: membership.voter_ids().collect(),
        addresses: membership.nodes().map(|(id, at)| (*id, at.address.clone())).collect(),
    }
}

/// Whether a member knows of a change that was made, or of one after it.
fn is_seen(change: &Change, done: &Changed, metrics: &RaftMetrics) -> bool {
    if let Change::TransferLeader { id } = change {
        return metrics.current_leader == Some(*id);
    }
    let known = metrics.membership_config.log_id().map(|id| id.index);
    let is_later = done.log_index.is_some_and(|index| known >= Some(index));
    is_later || matches!(group_of(metrics).after(change), Ok(None))
}

/// Whether a member answers the leader whose metrics these are.
pub(crate) fn is_up(metrics: &RaftMetrics, id: MemberId) -> bool {
    is_heard(metrics, id, SILENCE_MAX)
}

fn is_heard(metrics: &RaftMetrics, id: MemberId, within: Duration) -> bool {
    let heard = || metrics.heartbeat.as_ref()?.get(&id).copied().flatten();
    id == metrics.id || heard().is_some_and(|at| at.elapsed() <= within)
}

/// Entries of the leader's log that a member is not known to hold; none when nothing is known of it.
pub(crate) fn lag(metrics: &RaftMetrics, id: MemberId) -> Option<u64> {
    if id == metrics.id {
        return Some(0);
    }
    let matched = metrics.replication.as_ref()?.get(&id)?.as_ref()?.index;
    Some(metrics.last_log_index?.saturating_sub(matched))
}
