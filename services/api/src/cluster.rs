//! The cluster itself.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bessemer_domain::ids::ConductorId;
use bessemer_domain::{CommandBody, Invalid};
use bessemer_ledger::{Change, MemberId, MemberStatus};
use bessemer_proto::v1;
use bessemer_proto::v1::cluster_service_server::ClusterService;
use bessemer_wire::{Failure, conductor};
use futures::StreamExt;
use tonic::{Request, Response, Status};

use crate::api::{Answers, Api};
use crate::caller::{Caller, identify};
use crate::ledger_error;

#[tonic::async_trait]
impl ClusterService for Api {
    /// As this member sees it, so that it answers when there is no leader too.
    async fn get_status(
        &self,
        _request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::ClusterStatus>, Status> {
        let (status, state) = (self.ledger.status(), self.ledger.state());
        let mut provision_states = BTreeMap::<_, u64>::new();
        for node in state.nodes() {
            *provision_states.entry(node.provision.state).or_default() += 1;
        }
        Ok(Response::new(v1::ClusterStatus {
            cluster_id: state.cluster_id().map(|id| id.to_string()).unwrap_or_default(),
            member_id: status.member_id.0,
            leader_id: status.leader.map_or(0, |leader| leader.0),
            term: status.term,
            first_log_index: status.first_log_index.unwrap_or_default(),
            last_log_index: status.last_log_index.unwrap_or_default(),
            applied_index: status.applied_index.unwrap_or_default(),
            snapshot_index: status.snapshot_index.unwrap_or_default(),
            revision: state.tip().revision.0,
            hash: state.tip().hash.0.to_vec(),
            node_count: provision_states.values().sum(),
            provision_states: provision_states
                .into_iter()
                .map(|(state, count)| (state.to_string(), count))
                .collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            waits_for: status.waits_for.unwrap_or_default(),
            time: Some(SystemTime::now().into()),
        }))
    }

    async fn list_members(
        &self,
        _request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        Ok(Response::new(v1::ListMembersResponse { members: self.members().await }))
    }

    async fn list_conductors(
        &self,
        _request: Request<v1::ListConductorsRequest>,
    ) -> Result<Response<v1::ListConductorsResponse>, Status> {
        let conductors = conductor::all_to_proto(&self.ledger.state());
        Ok(Response::new(v1::ListConductorsResponse { conductors }))
    }

    async fn drain_conductor(
        &self,
        request: Request<v1::DrainConductorRequest>,
    ) -> Result<Response<v1::Conductor>, Status> {
        let (caller, request) = identify("drain_conductor", request).map_err(Failure::from)?;
        let conductor = conductor_id(&request.conductor)?;
        let body =
            CommandBody::DrainConductor { conductor: conductor.clone(), force: request.force };
        Ok(Response::new(self.change_conductor(caller, &conductor, body).await?))
    }

    async fn resume_conductor(
        &self,
        request: Request<v1::ResumeConductorRequest>,
    ) -> Result<Response<v1::Conductor>, Status> {
        let (caller, request) = identify("resume_conductor", request).map_err(Failure::from)?;
        let conductor = conductor_id(&request.conductor)?;
        let body = CommandBody::ResumeConductor { conductor: conductor.clone() };
        Ok(Response::new(self.change_conductor(caller, &conductor, body).await?))
    }

    async fn add_member(
        &self,
        request: Request<v1::AddMemberRequest>,
    ) -> Result<Response<v1::ChangeMembersResponse>, Status> {
        let v1::AddMemberRequest { id, address } = request.into_inner();
        let change = Change::AddLearner { id: member_id(id)?, address };
        Ok(Response::new(self.change_members(change).await?))
    }

    async fn promote_member(
        &self,
        request: Request<v1::PromoteMemberRequest>,
    ) -> Result<Response<v1::ChangeMembersResponse>, Status> {
        let change = Change::Promote { id: member_id(request.into_inner().id)? };
        Ok(Response::new(self.change_members(change).await?))
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::ChangeMembersResponse>, Status> {
        let v1::RemoveMemberRequest { id, force } = request.into_inner();
        let change = Change::Remove { id: member_id(id)?, force };
        Ok(Response::new(self.change_members(change).await?))
    }

    type BackupStream = Answers<v1::BackupResponse>;

    async fn take_snapshot(
        &self,
        _request: Request<v1::TakeSnapshotRequest>,
    ) -> Result<Response<v1::TakeSnapshotResponse>, Status> {
        let log_index = self.ledger.snapshot().await.map_err(ledger_error::snapshotting)?;
        let member_id = self.config.member_id;
        Ok(Response::new(v1::TakeSnapshotResponse { member_id, log_index }))
    }

    async fn backup(
        &self,
        _request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let backup = self.ledger.backup().await.map_err(ledger_error::reading)?;
        let slices = backup.ok_or(Failure::NoLeader)?.map(|slice| match slice {
            Ok(slice) => Ok(v1::BackupResponse { slice }),
            Err(error) => Err(ledger_error::loading(error).into()),
        });
        // A member that stops cuts it off; the file shows that it is not whole.
        let stopped = self.stopping.clone().cancelled_owned();
        Ok(Response::new(slices.take_until(stopped).boxed()))
    }

    async fn transfer_leader(
        &self,
        request: Request<v1::TransferLeaderRequest>,
    ) -> Result<Response<v1::ChangeMembersResponse>, Status> {
        let change = Change::TransferLeader { id: member_id(request.into_inner().id)? };
        Ok(Response::new(self.change_members(change).await?))
    }
}

impl Api {
    async fn change_conductor(
        &self,
        caller: Caller,
        conductor: &ConductorId,
        body: CommandBody,
    ) -> Result<v1::Conductor, Failure> {
        self.propose(caller, body).await?;
        let (all, id) = (conductor::all_to_proto(&self.ledger.state()), conductor.to_string());
        let changed = all.into_iter().find(|conductor| conductor.id == id);
        changed.ok_or_else(|| Failure::not_found("conductor", &id))
    }

    async fn change_members(&self, change: Change) -> Result<v1::ChangeMembersResponse, Failure> {
        let changed = self.ledger.change(&change).await.map_err(ledger_error::changing)?.changed;
        Ok(v1::ChangeMembersResponse { changed, members: self.members().await })
    }

    async fn members(&self) -> Vec<v1::Member> {
        self.ledger.members().await.into_iter().map(member).collect()
    }
}

fn conductor_id(id: &str) -> Result<ConductorId, Failure> {
    Ok(ConductorId::try_new(id)
        .map_err(|invalid| Invalid { field: "conductor".to_owned(), ..invalid })?)
}

fn member_id(id: u64) -> Result<MemberId, Failure> {
    if id == 0 {
        return Err(Invalid::new("id", "0", "is no member's id; they count from 1").into());
    }
    Ok(MemberId(id))
}

fn member(status: MemberStatus) -> v1::Member {
    v1::Member {
        id: status.id.0,
        address: status.address,
        voter: status.voter,
        leader: status.leader,
        matched_index: status.matched_index,
        lag: status.lag,
        up: status.up,
    }
}
