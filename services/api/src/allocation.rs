//! Allocations of nodes.

use bessemer_domain::allocation::{Allocation, CANDIDATE_NODES_MAX};
use bessemer_domain::ids::{AllocationId, NodeId, NodeName};
use bessemer_domain::{CommandBody, Invalid, State, Subject};
use bessemer_proto::v1;
use bessemer_proto::v1::allocation_service_server::AllocationService;
use bessemer_wire::{Failure, allocation};
use tonic::{Request, Response, Status};

use crate::api::{Api, Freshness};
use crate::caller::{Caller, identify};
use crate::page;
use crate::reference::{NodeReference, new_id};

#[tonic::async_trait]
impl AllocationService for Api {
    async fn create_allocation(
        &self,
        request: Request<v1::CreateAllocationRequest>,
    ) -> Result<Response<v1::Allocation>, Status> {
        let (caller, request) = identify("create_allocation", request).map_err(Failure::from)?;
        let created = self.allocate(caller, &request).await?;
        let shown =
            self.ledger.look(|state| find(state, &created.to_string()).map(allocation::to_proto));
        Ok(Response::new(shown?))
    }

    async fn get_allocation(
        &self,
        request: Request<v1::GetAllocationRequest>,
    ) -> Result<Response<v1::Allocation>, Status> {
        let request = request.into_inner();
        let freshness = Freshness::unless_stale_ok(request.stale_ok);
        let look = |state: &State| find(state, &request.allocation).map(allocation::to_proto);
        Ok(Response::new(self.look(freshness, look).await??))
    }

    async fn list_allocations(
        &self,
        request: Request<v1::ListAllocationsRequest>,
    ) -> Result<Response<v1::ListAllocationsResponse>, Status> {
        Ok(Response::new(self.allocation_page(request.into_inner()).await?))
    }

    async fn delete_allocation(
        &self,
        request: Request<v1::DeleteAllocationRequest>,
    ) -> Result<Response<v1::DeleteAllocationResponse>, Status> {
        let (caller, request) = identify("delete_allocation", request).map_err(Failure::from)?;
        self.give_back(caller, &request.allocation).await?;
        Ok(Response::new(v1::DeleteAllocationResponse {}))
    }
}

impl Api {
    async fn allocate(
        &self,
        caller: Caller,
        request: &v1::CreateAllocationRequest,
    ) -> Result<AllocationId, Failure> {
        let new = AllocationId::new(new_id(&request.id)?);
        let candidates = request.spec.iter().flat_map(|spec| &spec.candidate_nodes);
        let candidates: Vec<_> = candidates.take(CANDIDATE_NODES_MAX + 1).collect();
        let named = candidates.iter().any(|it| it.parse::<NodeId>().is_err())
            || (!request.node.is_empty() && request.node.parse::<NodeId>().is_err());
        let freshness = if named { Freshness::Latest } else { Freshness::Any };
        let body = self.look(freshness, |state| {
            let id = |reference: &str| reference.parse::<NodeReference>()?.id(state);
            let candidates = candidates.iter().map(|it| id(it)).collect::<Result<_, Failure>>()?;
            let spec = Box::new(allocation::spec_from_proto(request, candidates)?);
            let node = Some(request.node.as_str()).filter(|node| !node.is_empty());
            let node = node.map(id).transpose()?;
            Ok::<_, Failure>(CommandBody::CreateAllocation { allocation: new, spec, node })
        });
        let accepted = self.propose(caller, body.await??).await?;
        // A repeat is told of the allocation that the first attempt made.
        Ok(match accepted.subject {
            Some(Subject::Allocation(first)) => first,
            Some(_) | None => new,
        })
    }

    async fn give_back(&self, caller: Caller, reference: &str) -> Result<(), Failure> {
        let body = self.look(Freshness::Latest, |state| {
            // Once it is gone, its name means nothing, or another one.
            if let Some(first) = state.first_outcome(caller.command_id, caller.fingerprint) {
                first?;
                return Ok(None);
            }
            let allocation = find(state, reference)?.id;
            Ok::<_, Failure>(Some(CommandBody::DeleteAllocation { allocation }))
        });
        if let Some(body) = body.await?? {
            self.propose(caller, body).await?;
        }
        Ok(())
    }

    async fn allocation_page(
        &self,
        request: v1::ListAllocationsRequest,
    ) -> Result<v1::ListAllocationsResponse, Failure> {
        let size = page::size(request.page_size);
        let after = page::after(&request.page_token)?.map(AllocationId::new);
        if !["", "active", "error"].contains(&request.state.as_str()) {
            return Err(Invalid::new("state", &request.state, "is neither active nor error").into());
        }
        let state = self.state(Freshness::unless_stale_ok(request.stale_ok)).await?;
        let node = match request.node.as_str() {
            "" => None,
            reference => Some(reference.parse::<NodeReference>()?.find(&state)?.id),
        };
        let is = |wanted: &str, actual: &str| wanted.is_empty() || wanted == actual;
        let mut allocations: Vec<_> = state
            .allocations_after(after)
            .filter(|it| node.is_none_or(|node| it.outcome.node() == Some(node)))
            .filter(|it| is(&request.resource_class, &it.spec.resource_class))
            .filter(|it| is(&request.owner, &it.spec.owner))
            .filter(|it| is(&request.state, it.outcome.as_str()))
            .take(size + 1)
            .collect();
        let next_page_token = page::cut(&mut allocations, size, |it| it.id.as_uuid());
        let allocations = allocations.into_iter().map(allocation::to_proto).collect();
        Ok(v1::ListAllocationsResponse { allocations, next_page_token })
    }
}

/// An allocation by its id, or by its name.
pub(crate) fn find<'a>(state: &'a State, reference: &str) -> Result<&'a Allocation, Failure> {
    let found = match reference.parse() {
        Ok(id) => state.allocation(id),
        Err(_) if reference.is_empty() => {
            let reason = "is required: the UUID or name of an allocation";
            return Err(Invalid::new("allocation", "", reason).into());
        }
        Err(_) => {
            let name = NodeName::try_new(reference)
                .map_err(|invalid| Invalid { field: "allocation".to_owned(), ..invalid })?;
            state.allocation_by_name(&name)
        }
    };
    found.ok_or_else(|| Failure::not_found("allocation", reference))
}
