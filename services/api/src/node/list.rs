//! Pages of nodes.

use bessemer_domain::ids::NodeId;
use bessemer_domain::node::{Node, ProvisionState};
use bessemer_domain::{Invalid, State};
use bessemer_proto::v1;
use bessemer_wire::Failure;

use crate::api::{Api, Freshness};
use crate::page;

impl Api {
    pub(super) async fn node_page(
        &self,
        request: v1::ListNodesRequest,
    ) -> Result<v1::ListNodesResponse, Failure> {
        let size = page::size(request.page_size);
        let after = page::after(&request.page_token)?.map(NodeId::new);
        let filter = Filter::try_new(request.filter.unwrap_or_default())?;
        let state = self.state(Freshness::unless_stale_ok(request.stale_ok)).await?;
        let mut nodes: Vec<_> = state
            .nodes_after(after)
            .filter(|node| filter.matches(&state, node))
            .take(size + 1)
            .collect();
        let next_page_token = page::cut(&mut nodes, size, |node| node.id.as_uuid());
        let nodes = nodes.into_iter().map(|node| self.node_message(&state, node)).collect();
        Ok(v1::ListNodesResponse { nodes, next_page_token })
    }
}

/// Which nodes are wanted.
struct Filter {
    provision_states: Vec<ProvisionState>,
    wanted: v1::NodeFilter,
}

impl Filter {
    fn try_new(wanted: v1::NodeFilter) -> Result<Self, Invalid> {
        let states = wanted.provision_states.iter().map(|state| state.parse());
        let provision_states = states.collect::<Result<_, Invalid>>().map_err(|invalid| {
            Invalid { field: "filter.provision_states".to_owned(), ..invalid }
        })?;
        Ok(Self { provision_states, wanted })
    }

    fn matches(&self, state: &State, node: &Node) -> bool {
        let wanted = &self.wanted;
        let is = |wanted: &str, actual: &str| wanted.is_empty() || wanted == actual;
        let in_states = self.provision_states.is_empty()
            || self.provision_states.contains(&node.provision.state);
        in_states
            && is(&wanted.driver, &node.spec.driver)
            && is(&wanted.resource_class, &node.spec.resource_class)
            && is(&wanted.conductor_group, &node.spec.conductor_group)
            && is(&wanted.owner, &node.spec.owner)
            && wanted.maintenance.is_none_or(|wanted| wanted == node.maintenance.is_some())
            && (wanted.conductor.is_empty()
                || state.owner(node).is_some_and(|owner| owner.as_str() == wanted.conductor))
    }
}
