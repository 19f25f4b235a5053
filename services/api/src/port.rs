//! Ports of nodes.

use bessemer_domain::ids::PortId;
use bessemer_domain::{CommandBody, Subject};
use bessemer_proto::v1;
use bessemer_proto::v1::port_service_server::PortService;
use bessemer_wire::{Failure, port};
use tonic::{Request, Response, Status};

use crate::api::{Api, Freshness};
use crate::caller::{Caller, identify};
use crate::page;
use crate::reference::{NodeReference, PortReference, new_id};

#[tonic::async_trait]
impl PortService for Api {
    async fn create_port(
        &self,
        request: Request<v1::CreatePortRequest>,
    ) -> Result<Response<v1::Port>, Status> {
        let (caller, request) = identify("create_port", request).map_err(Failure::from)?;
        let created = self.add_port(caller, request).await?;
        let state = self.ledger.state();
        Ok(Response::new(port::to_proto(PortReference::Id(created).find(&state)?)))
    }

    async fn get_port(
        &self,
        request: Request<v1::GetPortRequest>,
    ) -> Result<Response<v1::Port>, Status> {
        let request = request.into_inner();
        let reference: PortReference = request.port.parse().map_err(Failure::Invalid)?;
        let state = self.state(Freshness::unless_stale_ok(request.stale_ok)).await?;
        Ok(Response::new(port::to_proto(reference.find(&state)?)))
    }

    async fn list_ports(
        &self,
        request: Request<v1::ListPortsRequest>,
    ) -> Result<Response<v1::ListPortsResponse>, Status> {
        Ok(Response::new(self.port_page(request.into_inner()).await?))
    }

    async fn delete_port(
        &self,
        request: Request<v1::DeletePortRequest>,
    ) -> Result<Response<v1::DeletePortResponse>, Status> {
        let (caller, request) = identify("delete_port", request).map_err(Failure::from)?;
        self.remove_port(caller, &request.port).await?;
        Ok(Response::new(v1::DeletePortResponse {}))
    }
}

impl Api {
    async fn add_port(
        &self,
        caller: Caller,
        request: v1::CreatePortRequest,
    ) -> Result<PortId, Failure> {
        let new = PortId::new(new_id(&request.id)?);
        let spec = request.spec.unwrap_or_default();
        let node = if request.node.is_empty() { &spec.node_id } else { &request.node };
        let node: NodeReference = node.parse()?;
        let freshness = match node {
            NodeReference::Id(_) => Freshness::Any,
            NodeReference::Name(_) => Freshness::Latest,
        };
        let state = self.state(freshness).await?;
        let spec = Box::new(port::spec_from_proto(node.id(&state)?, &spec)?);
        let accepted = self.propose(caller, CommandBody::CreatePort { port: new, spec }).await?;
        Ok(match accepted.subject {
            Some(Subject::Port(first)) => first,
            Some(_) | None => new,
        })
    }

    async fn remove_port(&self, caller: Caller, reference: &str) -> Result<(), Failure> {
        let reference: PortReference = reference.parse()?;
        let freshness = match reference {
            PortReference::Id(_) => Freshness::Any,
            PortReference::Address(_) => Freshness::Latest,
        };
        let state = self.state(freshness).await?;
        // Once it is gone, its address means nothing, or another port.
        if let Some(first) = state.first_outcome(caller.command_id, caller.fingerprint) {
            first?;
            return Ok(());
        }
        let port = reference.id(&state)?;
        self.propose(caller, CommandBody::DeletePort { port }).await?;
        Ok(())
    }

    async fn port_page(
        &self,
        request: v1::ListPortsRequest,
    ) -> Result<v1::ListPortsResponse, Failure> {
        let size = page::size(request.page_size);
        let after = page::after(&request.page_token)?.map(PortId::new);
        let state = self.state(Freshness::unless_stale_ok(request.stale_ok)).await?;
        let node = match request.node.as_str() {
            "" => None,
            reference => Some(reference.parse::<NodeReference>()?.find(&state)?.id),
        };
        let mut ports: Vec<_> = state
            .ports_after(after)
            .filter(|port| node.is_none_or(|node| port.spec.node == node))
            .take(size + 1)
            .collect();
        let next_page_token = page::cut(&mut ports, size, |port| port.id.as_uuid());
        let ports = ports.into_iter().map(port::to_proto).collect();
        Ok(v1::ListPortsResponse { ports, next_page_token })
    }
}
