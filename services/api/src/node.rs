//! Nodes: reading them, and putting commands about them to the ledger.

mod list;
mod past;

use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::ids::{NodeId, PortId};
use bessemer_domain::node::{DeploymentSpec, Node, NodeSpec};
use bessemer_domain::port::MacAddress;
use bessemer_domain::{CommandBody, Invalid, State, Subject};
use bessemer_proto::v1;
use bessemer_proto::v1::node_service_server::NodeService;
use bessemer_wire::{Failure, deployment, node, plan, spec, step};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::api::{Api, Freshness};
use crate::caller::{Caller, identify, who};
use crate::reference::{NodeReference, new_id};
use crate::{project, rescue, template};

/// Most ports of a new node; a machine with more interfaces gets the rest one by one.
const PORTS_MAX: usize = 64;

#[tonic::async_trait]
impl NodeService for Api {
    async fn create_node(
        &self,
        request: Request<v1::CreateNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        let (caller, request) = identify("create_node", request).map_err(Failure::from)?;
        let node = self.create(caller, request).await?;
        Ok(Response::new(self.committed_node(node)?))
    }

    async fn get_node(
        &self,
        request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        let who = who(&request);
        let request = request.into_inner();
        let reference: NodeReference = request.node.parse().map_err(Failure::Invalid)?;
        let freshness = Freshness::unless_stale_ok(request.stale_ok);
        let node = match request.at_revision {
            0 => {
                let now = |state: &State| {
                    let node = reference.find(state)?;
                    project::check_look(who.project(), node)?;
                    Ok(self.node_message(state, node))
                };
                self.look(freshness, now).await?
            }
            revision => {
                let state = self.state(freshness).await?;
                if who.project().is_some() {
                    // Whose it was then does not count: who has lost it sees nothing of it any more.
                    project::check_look(who.project(), reference.find(&state)?)?;
                }
                self.past_node(&state, &reference, revision)
            }
        };
        Ok(Response::new(node?))
    }

    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let who = who(&request);
        Ok(Response::new(self.node_page(request.into_inner(), who.project()).await?))
    }

    async fn update_node(
        &self,
        request: Request<v1::UpdateNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        let (caller, request) = identify("update_node", request).map_err(Failure::from)?;
        let untouched = NodeSpec::default();
        let depends_on_current = spec::depends_on_current(&request);
        let freshness = if depends_on_current { Freshness::Latest } else { Freshness::Any };
        let node = self
            .mutate(caller, &request.node, freshness, |state, node| {
                let current =
                    if depends_on_current { &known(state, node)?.spec } else { &untouched };
                let changes = spec::changes_from_proto(&request, current)?;
                let expected_version = version(request.version);
                Ok(CommandBody::UpdateNode { node, expected_version, changes })
            })
            .await?;
        Ok(Response::new(self.committed_node(node)?))
    }

    async fn delete_node(
        &self,
        request: Request<v1::DeleteNodeRequest>,
    ) -> Result<Response<v1::DeleteNodeResponse>, Status> {
        let (caller, request) = identify("delete_node", request).map_err(Failure::from)?;
        let expected_version = version(request.version);
        self.mutate(caller, &request.node, Freshness::Any, |_, node| {
            Ok(CommandBody::DeleteNode { node, expected_version })
        })
        .await?;
        Ok(Response::new(v1::DeleteNodeResponse {}))
    }

    async fn manage_node(
        &self,
        request: Request<v1::NodeVerbRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        Ok(self.verb("manage_node", request, ProvisionVerb::Manage).await?)
    }

    async fn inspect_node(
        &self,
        request: Request<v1::NodeVerbRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        Ok(self.verb("inspect_node", request, ProvisionVerb::Inspect).await?)
    }

    async fn adopt_node(
        &self,
        request: Request<v1::DeployNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        Ok(self
            .deployment("adopt_node", request, |spec| required(spec).map(ProvisionVerb::Adopt))
            .await?)
    }

    async fn clean_node(
        &self,
        request: Request<v1::CleanNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        let (caller, request) = identify("clean_node", request).map_err(Failure::from)?;
        let expected_version = version(request.version);
        let node = self
            .mutate(caller, &request.node, by_runbook(&request.runbook), |state, node| {
                let steps = if request.runbook.is_empty() {
                    plan::clean_steps_from_proto(&request)?
                } else {
                    let has_steps =
                        !(request.clean_steps.is_empty() && request.plugin_steps.is_empty());
                    let steps =
                        template::steps_of_runbook(state, node, &request.runbook, has_steps)?;
                    plan::clean_steps_of_runbook(steps)
                };
                let verb = ProvisionVerb::Clean(steps);
                Ok(CommandBody::Provision { node, expected_version, verb })
            })
            .await?;
        Ok(Response::new(self.committed_node(node)?))
    }

    async fn provide_node(
        &self,
        request: Request<v1::NodeVerbRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        Ok(self.verb("provide_node", request, ProvisionVerb::Provide).await?)
    }

    async fn deploy_node(
        &self,
        request: Request<v1::DeployNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        Ok(self
            .deployment("deploy_node", request, |spec| required(spec).map(ProvisionVerb::Deploy))
            .await?)
    }

    async fn rebuild_node(
        &self,
        request: Request<v1::DeployNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        Ok(self
            .deployment("rebuild_node", request, |spec| Ok(ProvisionVerb::Rebuild(spec)))
            .await?)
    }

    async fn undeploy_node(
        &self,
        request: Request<v1::NodeVerbRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        Ok(self.verb("undeploy_node", request, ProvisionVerb::Undeploy).await?)
    }

    async fn abort_node(
        &self,
        request: Request<v1::NodeVerbRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        Ok(self.verb("abort_node", request, ProvisionVerb::Abort).await?)
    }

    async fn rescue_node(
        &self,
        request: Request<v1::RescueNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        let mut request = request;
        // Taken out first: what a repeat is told by is kept, and must tell nothing of the password.
        let password = std::mem::take(&mut request.get_mut().rescue_password);
        let (caller, request) = identify("rescue_node", request).map_err(Failure::from)?;
        let password_hash = rescue::hash(password).await?;
        let verb = ProvisionVerb::Rescue { password_hash };
        Ok(self.start(caller, &request.node, request.version, verb).await?)
    }

    async fn unrescue_node(
        &self,
        request: Request<v1::NodeVerbRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        Ok(self.verb("unrescue_node", request, ProvisionVerb::Unrescue).await?)
    }

    async fn service_node(
        &self,
        request: Request<v1::ServiceNodeRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        let (caller, request) = identify("service_node", request).map_err(Failure::from)?;
        let expected_version = version(request.version);
        let freshness = by_runbook(&request.runbook);
        let node = self
            .mutate(caller, &request.node, freshness, |state, node| {
                let steps = if request.runbook.is_empty() {
                    step::service_steps_from_proto(&request)?
                } else {
                    let has_steps = !request.service_steps.is_empty();
                    template::steps_of_runbook(state, node, &request.runbook, has_steps)?
                };
                let verb = ProvisionVerb::Service(steps);
                Ok(CommandBody::Provision { node, expected_version, verb })
            })
            .await?;
        Ok(Response::new(self.committed_node(node)?))
    }

    async fn unhold_node(
        &self,
        request: Request<v1::NodeVerbRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        Ok(self.verb("unhold_node", request, ProvisionVerb::Unhold).await?)
    }

    async fn set_node_power(
        &self,
        request: Request<v1::SetNodePowerRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        let (caller, request) = identify("set_node_power", request).map_err(Failure::from)?;
        let expected_version = version(request.version);
        let node = self
            .mutate(caller, &request.node, Freshness::Any, |_, node| {
                let target = node::power_target_from_proto(request.target)?;
                let limit_seconds = Some(request.limit_seconds).filter(|limit| *limit != 0);
                Ok(CommandBody::SetPower { node, expected_version, target, limit_seconds })
            })
            .await?;
        Ok(Response::new(self.committed_node(node)?))
    }

    async fn set_node_maintenance(
        &self,
        request: Request<v1::SetNodeMaintenanceRequest>,
    ) -> Result<Response<v1::Node>, Status> {
        let (caller, request) = identify("set_node_maintenance", request).map_err(Failure::from)?;
        let expected_version = version(request.version);
        let node = self
            .mutate(caller, &request.node, Freshness::Any, |_, node| {
                let reason = node::maintenance_from_proto(&request)?;
                Ok(CommandBody::SetMaintenance { node, expected_version, reason })
            })
            .await?;
        Ok(Response::new(self.committed_node(node)?))
    }
}

/// A runbook is read as it is now.
const fn by_runbook(runbook: &str) -> Freshness {
    if runbook.is_empty() { Freshness::Any } else { Freshness::Latest }
}

fn required(spec: Option<Box<DeploymentSpec>>) -> Result<Box<DeploymentSpec>, Failure> {
    spec.ok_or_else(|| Invalid::new("deployment", "", "is required").into())
}

impl Api {
    async fn create(
        &self,
        caller: Caller,
        request: v1::CreateNodeRequest,
    ) -> Result<NodeId, Failure> {
        let node = NodeId::new(new_id(&request.id)?);
        let body = CommandBody::CreateNode {
            node,
            name: spec::name_from_proto(&request.name)?,
            spec: Box::new(spec::from_proto(request.spec.as_ref())?),
            ports: ports(&request.port_addresses)?,
        };
        let accepted = self.propose(caller, body).await?;
        // A repeat is told of the node that the first attempt made.
        Ok(match accepted.subject {
            Some(Subject::Node(first)) => first,
            Some(_) | None => node,
        })
    }

    async fn verb(
        &self,
        operation: &'static str,
        request: Request<v1::NodeVerbRequest>,
        verb: ProvisionVerb,
    ) -> Result<Response<v1::Node>, Failure> {
        let (caller, request) = identify(operation, request)?;
        self.start(caller, &request.node, request.version, verb).await
    }

    async fn start(
        &self,
        caller: Caller,
        node: &str,
        expected: u64,
        verb: ProvisionVerb,
    ) -> Result<Response<v1::Node>, Failure> {
        let expected_version = version(expected);
        let node = self
            .mutate(caller, node, Freshness::Any, |_, node| {
                Ok(CommandBody::Provision { node, expected_version, verb })
            })
            .await?;
        Ok(Response::new(self.committed_node(node)?))
    }

    async fn deployment(
        &self,
        operation: &'static str,
        request: Request<v1::DeployNodeRequest>,
        verb: impl FnOnce(Option<Box<DeploymentSpec>>) -> Result<ProvisionVerb, Failure>,
    ) -> Result<Response<v1::Node>, Failure> {
        let (caller, request) = identify(operation, request)?;
        let expected_version = version(request.version);
        let node = self
            .mutate(caller, &request.node, Freshness::Any, |state, node| {
                let default = state.node(node).map(|node| node.spec.deploy_interface());
                let spec = request.deployment.as_ref().map(|given| {
                    let mut spec = deployment::spec_from_proto(given, default.unwrap_or_default())?;
                    template::add_template_steps(state, node, &given.traits, &mut spec)?;
                    Ok::<_, Invalid>(Box::new(spec))
                });
                let verb = verb(spec.transpose()?)?;
                Ok(CommandBody::Provision { node, expected_version, verb })
            })
            .await?;
        Ok(Response::new(self.committed_node(node)?))
    }

    /// Puts a command about the node that `reference` means to the ledger, once for each command id.
    ///
    /// The ledger itself repeats the first outcome. It is looked up here too because a name may mean nothing, or
    /// another node, once the command is done.
    async fn mutate(
        &self,
        caller: Caller,
        reference: &str,
        freshness: Freshness,
        body: impl FnOnce(&State, NodeId) -> Result<CommandBody, Failure>,
    ) -> Result<NodeId, Failure> {
        let reference: NodeReference = reference.parse()?;
        let freshness = match reference {
            NodeReference::Id(_) => freshness,
            NodeReference::Name(_) => Freshness::Latest,
        };
        let decided = self.look(freshness, |state| {
            let is_free = caller.project.is_none();
            let first = state.first_outcome(caller.command_id, caller.fingerprint);
            if let Some(first) = first.filter(|_| is_free) {
                let node = match first?.subject {
                    Some(Subject::Node(node)) => node,
                    Some(_) | None => reference.id(state)?,
                };
                return Ok((node, None));
            }
            let node = reference.id(state)?;
            let body = body(state, node)?;
            project::check_change(caller.project.as_deref(), state, node, &body)?;
            Ok::<_, Failure>((node, Some(body)))
        });
        let (node, body) = decided.await??;
        if let Some(body) = body {
            self.propose(caller, body).await?;
        }
        Ok(node)
    }

    /// The node after a command that this member has applied.
    fn committed_node(&self, node: NodeId) -> Result<v1::Node, Failure> {
        self.ledger.look(|state| Ok(self.node_message(state, known(state, node)?)))
    }
}

fn known(state: &State, node: NodeId) -> Result<&Node, Failure> {
    state.node(node).ok_or_else(|| Failure::not_found("node", &node.to_string()))
}

/// 0 stands for whatever the version is.
fn version(version: u64) -> Option<u64> {
    Some(version).filter(|version| *version != 0)
}

fn ports(addresses: &[String]) -> Result<Vec<(PortId, MacAddress)>, Invalid> {
    if addresses.len() > PORTS_MAX {
        let reason = format!("are more than {PORTS_MAX}; add the others with CreatePort");
        return Err(Invalid::new("port_addresses", &addresses.len().to_string(), reason));
    }
    addresses
        .iter()
        .map(|address| {
            let address = address
                .parse()
                .map_err(|invalid| Invalid { field: "port_addresses".to_owned(), ..invalid })?;
            Ok((PortId::new(Uuid::now_v7()), address))
        })
        .collect()
}
