//! How an agent finds its node and the conductor that drives it.

use std::collections::BTreeSet;

use bessemer_domain::ids::{CommandId, NodeId};
use bessemer_domain::node::Node;
use bessemer_domain::port::MacAddress;
use bessemer_domain::{Command, CommandBody, Invalid, State};
use bessemer_proto::v1;
use bessemer_proto::v1::agent_lookup_service_server::AgentLookupService;
use bessemer_wire::Failure;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::api::{Api, Freshness, now};
use crate::caller::Caller;

/// Most addresses of a machine that are looked at.
const ADDRESSES_MAX: usize = 256;

/// A token is 32 random bytes in hexadecimal.
const TOKEN_DIGITS: usize = 64;

#[tonic::async_trait]
impl AgentLookupService for Api {
    async fn lookup(
        &self,
        request: Request<v1::LookupRequest>,
    ) -> Result<Response<v1::LookupResponse>, Status> {
        let request = request.into_inner();
        let state = self.state(Freshness::Latest).await?;
        let node = find(&state, &request)?;
        let conductor_address = conductor_address(&state, node)?;
        let token = self.bind(&state, node, &request.token).await?;
        Ok(Response::new(v1::LookupResponse {
            node_id: node.id.to_string(),
            node_name: node.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            token,
            conductor_address,
        }))
    }
}

impl Api {
    /// The token with which the agent speaks for the node. A token that the agent presents becomes the one that is
    /// bound, so that a lookup whose answer was lost can be repeated; without one, it is drawn here.
    async fn bind(&self, state: &State, node: &Node, presented: &str) -> Result<String, Failure> {
        let held_digest = (!presented.is_empty()).then(|| digest(presented));
        let bound = node.agent.as_ref().map(|agent| &agent.token_digest);
        if bound.is_some() && bound == held_digest.as_ref() {
            return Ok(presented.to_owned());
        }
        let token = if is_token(presented) { presented.to_owned() } else { draw_token() };
        let body =
            CommandBody::BindAgent { node: node.id, token_digest: digest(&token), held_digest };
        let caller = Caller {
            actor: format!("agent/{}", node.id),
            project: None,
            command_id: CommandId::new(Uuid::new_v4()),
            fingerprint: 0,
        };
        // Agents that are not wanted ask again for ever: what would be rejected stays out of the log.
        rehearse(state, &caller, body.clone())?;
        self.propose(caller, body).await?;
        Ok(token)
    }
}

/// What would become of the command, on a copy of the state.
fn rehearse(state: &State, caller: &Caller, body: CommandBody) -> Result<(), Failure> {
    let (id, actor) = (caller.command_id, caller.actor.clone());
    let command = Command { id, fingerprint: caller.fingerprint, actor, at: now(), body };
    state.clone().apply(&command).0?;
    Ok(())
}

/// The one node that has a port with one of the addresses, or else the system UUID.
fn find<'a>(state: &'a State, request: &v1::LookupRequest) -> Result<&'a Node, Failure> {
    // Interfaces without an Ethernet address have others here.
    let addresses: Vec<MacAddress> = request
        .mac_addresses
        .iter()
        .take(ADDRESSES_MAX)
        .filter_map(|address| address.parse().ok())
        .collect();
    if addresses.is_empty() && request.system_uuid.is_empty() {
        let given = request.mac_addresses.join(",");
        return Err(Invalid::new("mac_addresses", &given, "holds no MAC address").into());
    }
    let ports = addresses.iter().filter_map(|address| state.port_by_address(*address));
    let mut nodes: BTreeSet<NodeId> = ports.map(|port| port.spec.node).collect();
    if nodes.is_empty() && !request.system_uuid.is_empty() {
        nodes.extend(state.nodes().filter(|node| has_uuid(node, request)).map(|node| node.id));
    }
    let mut found = nodes.iter().filter_map(|id| state.node(*id));
    match (found.next(), found.next()) {
        (Some(node), None) => Ok(node),
        (None, _) => Err(Failure::not_found("node", &described(&addresses, request))),
        (Some(one), Some(other)) => {
            let reason = format!("belong to several nodes: {} and {}", one.label(), other.label());
            Err(Invalid::new("mac_addresses", &described(&addresses, request), reason).into())
        }
    }
}

fn has_uuid(node: &Node, request: &v1::LookupRequest) -> bool {
    let uuid = node.spec.properties.get("system_uuid").and_then(serde_json::Value::as_str);
    uuid.is_some_and(|uuid| uuid.eq_ignore_ascii_case(&request.system_uuid))
}

fn described(addresses: &[MacAddress], request: &v1::LookupRequest) -> String {
    let mut parts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    if !request.system_uuid.is_empty() {
        parts.push(format!("system UUID {}", request.system_uuid));
    }
    parts.join(", ")
}

fn conductor_address(state: &State, node: &Node) -> Result<String, Failure> {
    state
        .owner(node)
        .and_then(|owner| state.conductor(owner))
        .map(|conductor| conductor.registration.address.clone())
        .ok_or_else(|| Failure::NoConductorOnline { node: node.label() })
}

/// Two random UUIDs: 244 random bits from the operating system.
fn draw_token() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

fn is_token(presented: &str) -> bool {
    presented.len() == TOKEN_DIGITS && presented.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}
