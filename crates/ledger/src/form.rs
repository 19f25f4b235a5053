//! How a cluster begins, how a member finds its place in one that is there, and how it knows that it leads.
//!
//! A new cluster is formed once every one of its first members has answered that it knows of none, and has written down
//! that it takes part. So a voter without that record has lost its disk, and is told so instead of being let in with
//! its promises forgotten.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bessemer_domain::ids::{ClusterId, CommandId};
use bessemer_domain::{Command, CommandBody, Timestamp};
use futures::future::join_all;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use uuid::Uuid;

use crate::network::{from_message, to_message};
use crate::propose::Proposer;
use crate::route::Route;
use crate::standing::{Seat, Standing};
use crate::view::View;
use crate::{MemberAddress, MemberId, entry};

/// How long to wait before the others are asked again, or forming the cluster is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// How long another member may take to say what this one is. It asks its leader first.
const ROLE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a member is to the cluster, as another one tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// There is none, as far as the other one knows.
    NoCluster,
    /// It votes.
    Voter,
    /// It gets the log.
    Learner,
    /// It is not a member.
    Stranger,
    /// There is one, and no leader that could confirm more.
    Unconfirmed,
}

/// What a member without data does next.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Form the cluster.
    Form,
    /// Wait for the leader of the one that is there.
    Join,
    /// Its data is gone.
    Lost,
    /// Ask again.
    Wait(String),
}

/// Finds this member's place, forms a new cluster, and gives it its identity.
pub(crate) struct Formation {
    pub(crate) route: Route,
    pub(crate) members: BTreeMap<MemberId, String>,
    pub(crate) view: View,
    pub(crate) leadership: watch::Receiver<bool>,
    pub(crate) proposer: Proposer,
    pub(crate) seat: Seat,
}

impl Formation {
    /// Runs until the cluster has its identity.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = self.form() => {}
        }
    }

    async fn form(mut self) {
        let initialised = matches!(self.route.raft.is_initialized().await, Ok(true));
        let admitted = *self.seat.standing().borrow() == Standing::Admitted;
        if initialised {
            self.look_for_own_removal().await;
        } else if !admitted || self.is_first() {
            self.find_place().await;
        }
        // Whoever leads names the cluster, so that it gets a name even if its founder is lost right away.
        while !self.view.reached().is_named {
            if self.leadership.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            if let Err(refused) = self.name().await {
                tracing::warn!(?refused, "the cluster has no identity yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    fn is_first(&self) -> bool {
        self.members.keys().next() == Some(&self.route.member_id)
    }

    /// Asks the others until this member knows where it belongs, or the founder admits it.
    async fn find_place(&self) {
        let mut standing = self.seat.standing();
        // The founder admits itself, and goes on until there is a cluster.
        let founder = self.is_first();
        loop {
            let roles = self.ask(&self.members).await;
            if !founder && *standing.borrow() == Standing::Admitted {
                return;
            }
            match verdict(&roles, founder) {
                Verdict::Form => match self.found().await {
                    Ok(()) => return,
                    Err(reason) => self.seat.waits_for(reason),
                },
                Verdict::Join => match self.admit_self().await {
                    Ok(()) => return,
                    Err(reason) => self.seat.waits_for(reason),
                },
                Verdict::Lost => {
                    let id = self.route.member_id;
                    return self.seat.refuse(format!(
                        "member {id} is a voter of the cluster, but its data directory is empty: what it had promised \
                         is forgotten. Remove it (`bessemer cluster remove {id}`) and add it again, with an empty directory"
                    ));
                }
                Verdict::Wait(what) => self.seat.waits_for(what),
            }
            let admitted =
                standing.wait_for(|standing| !founder && *standing == Standing::Admitted);
            if tokio::time::timeout(RETRY, admitted).await.is_ok() {
                return;
            }
        }
    }

    /// A member that was removed while it was away would wait for a leader for ever.
    async fn look_for_own_removal(&self) {
        let me = self.route.member_id;
        while !*self.leadership.borrow() {
            let members: BTreeMap<_, _> = {
                let metrics = self.route.raft.metrics();
                let metrics = metrics.borrow_watched();
                let committed = metrics.committed_membership_config.membership();
                committed.nodes().map(|(id, at)| (*id, at.address.clone())).collect()
            };
            if !members.contains_key(&me) || members.len() == 1 {
                return;
            }
            let roles = self.ask(&members).await;
            let known = |role: Role| roles.values().any(|told| *told == Ok(role));
            if known(Role::Voter) || known(Role::Learner) {
                return;
            }
            if known(Role::Stranger) {
                return self.seat.refuse(removed(me));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// What the others say that this member is.
    async fn ask(
        &self,
        members: &BTreeMap<MemberId, String>,
    ) -> BTreeMap<MemberId, Result<Role, String>> {
        let others = members.iter().filter(|(id, _)| **id != self.route.member_id);
        join_all(others.map(|(id, address)| async move {
            let told = self.ask_one(*id, address).await;
            (*id, told.map_err(|status| status.message().to_owned()))
        }))
        .await
        .into_iter()
        .collect()
    }

    async fn ask_one(&self, id: MemberId, address: &str) -> Result<Role, Status> {
        let client = self.route.client(id, address);
        let mut client = client.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut request = Request::new(to_message(&self.route.member_id)?);
        request.set_timeout(ROLE_TIMEOUT);
        from_message(client.get_role(request).await?.get_ref())
    }

    /// Has everyone write down that they take part, then forms the cluster.
    async fn found(&self) -> Result<(), String> {
        for (id, address) in self.members.iter().filter(|(id, _)| **id != self.route.member_id) {
            let mut client = self.route.client(*id, address).map_err(|error| error.to_string())?;
            let message = to_message(&()).map_err(|status| status.message().to_owned())?;
            let mut request = Request::new(message);
            request.set_timeout(ROLE_TIMEOUT);
            let admitted = client.admit(request).await;
            admitted.map_err(|status| format!("member {id} to take part: {}", status.message()))?;
        }
        self.admit_self().await?;
        let members: BTreeMap<_, _> = self
            .members
            .iter()
            .map(|(id, address)| (*id, MemberAddress { address: address.clone() }))
            .collect();
        match self.route.raft.initialize(members).await {
            Ok(()) => Ok(()),
            // An earlier try has come through.
            Err(_) if matches!(self.route.raft.is_initialized().await, Ok(true)) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn admit_self(&self) -> Result<(), String> {
        let seat = self.seat.clone();
        let admitted = tokio::task::spawn_blocking(move || seat.admit()).await;
        admitted.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    async fn name(&self) -> Result<(), crate::propose::Refused> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let command = Command {
            id: CommandId::new(Uuid::new_v4()),
            fingerprint: 0,
            actor: format!("member/{}", self.route.member_id),
            at: Timestamp::from_micros(u64::try_from(now.as_micros()).unwrap_or(u64::MAX)),
            body: CommandBody::InitialiseCluster { cluster_id: ClusterId::new(Uuid::new_v4()) },
        };
        self.proposer.propose(vec![entry::encode(&command)], false).await.map(drop)
    }
}

/// What a member without data makes of the others' answers.
fn verdict(roles: &BTreeMap<MemberId, Result<Role, String>>, is_first: bool) -> Verdict {
    let told = |role: Role| roles.values().any(|told| *told == Ok(role));
    if told(Role::Voter) {
        return Verdict::Lost;
    }
    if told(Role::Learner) || told(Role::Stranger) {
        return Verdict::Join;
    }
    let waits: Vec<_> = roles
        .iter()
        .filter_map(|(id, told)| match told {
            Ok(Role::Unconfirmed) => Some(format!("a leader, which member {id} does not know")),
            Ok(_) => None,
            Err(reason) => Some(format!("an answer of member {id} ({reason})")),
        })
        .collect();
    match (waits.is_empty(), is_first) {
        (false, _) => Verdict::Wait(waits.join(", ")),
        (true, true) => Verdict::Form,
        (true, false) => {
            Verdict::Wait("the member with the lowest id to form the cluster".to_owned())
        }
    }
}

/// What a member is told that takes part no more.
pub(crate) fn removed(id: MemberId) -> String {
    format!(
        "member {id} was removed from the cluster; stop it, and empty its directory before it is added again"
    )
}

/// Says whether this member leads.
pub(crate) struct Leadership {
    route: Route,
    view: View,
    leads: watch::Sender<bool>,
}

impl Leadership {
    pub(crate) fn new(route: Route, view: View) -> (Self, watch::Receiver<bool>) {
        let (leads, receiver) = watch::channel(false);
        (Self { route, view, leads }, receiver)
    }

    /// Runs until the ledger is shut down.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        tokio::select! {
            () = stopping.cancelled() => {}
            () = self.follow() => {}
        }
        self.leads.send_replace(false);
    }

    async fn follow(&self) {
        let mut changes = self.route.raft.server_metrics();
        loop {
            let term = {
                let metrics = changes.borrow_watched();
                (metrics.state == ServerState::Leader).then_some(metrics.vote.leader_id.term)
            };
            if let Some(term) = term {
                let caught_up = self.view.until(|reached| {
                    reached.last_applied.is_some_and(|applied| applied.leader_id.term >= term)
                });
                tokio::select! {
                    caught_up = caught_up => {
                        if !caught_up {
                            return;
                        }
                    }
                    changed = changes.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        continue;
                    }
                }
            }
            let leads = term.is_some();
            self.leads.send_if_modified(|shown| std::mem::replace(shown, leads) != leads);
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(told: &[Result<Role, &str>]) -> BTreeMap<MemberId, Result<Role, String>> {
        let told = told.iter().map(|told| told.map_err(str::to_owned));
        (2..).map(MemberId).zip(told).collect()
    }

    #[test]
    fn a_cluster_is_formed_by_the_first_when_all_know_of_none() {
        let none = Ok(Role::NoCluster);
        assert_eq!(verdict(&roles(&[]), true), Verdict::Form);
        assert_eq!(verdict(&roles(&[none, none]), true), Verdict::Form);
        assert!(matches!(verdict(&roles(&[none, none]), false), Verdict::Wait(_)));
    }

    #[test]
    fn who_has_not_heard_from_all_forms_nothing() {
        let cases = [
            [Ok(Role::NoCluster), Err("refused")],
            [Err("refused"), Err("refused")],
            [Ok(Role::NoCluster), Ok(Role::Unconfirmed)],
        ];
        for told in cases {
            let Verdict::Wait(what) = verdict(&roles(&told), true) else { panic!("{told:?}") };
            assert!(what.contains("member 3"), "{what}");
        }
    }

    #[test]
    fn a_cluster_that_is_there_is_joined_and_a_lost_voter_is_told() {
        let silent = Err("refused");
        for told in [Role::Learner, Role::Stranger] {
            assert_eq!(verdict(&roles(&[silent, Ok(told)]), true), Verdict::Join);
        }
        for others in [silent, Ok(Role::NoCluster), Ok(Role::Unconfirmed), Ok(Role::Learner)] {
            assert_eq!(verdict(&roles(&[others, Ok(Role::Voter)]), true), Verdict::Lost);
        }
    }
}
