//! Pages of nodes.

use std::collections::BTreeSet;

use bessemer_domain::ids::NodeId;
use bessemer_domain::node::{Fault, Node, ProvisionState, Trait};
use bessemer_domain::{Invalid, State};
use bessemer_proto::v1;
use bessemer_wire::Failure;

use crate::api::{Api, Freshness};
use crate::{page, project};

impl Api {
    pub(super) async fn node_page(
        &self,
        request: v1::ListNodesRequest,
        project: Option<&str>,
    ) -> Result<v1::ListNodesResponse, Failure> {
        let size = page::size(request.page_size);
        let after = page::after(&request.page_token)?.map(NodeId::new);
        let filter = Filter::try_new(request.filter.unwrap_or_default())?;
        let state = self.state(Freshness::unless_stale_ok(request.stale_ok)).await?;
        let mut nodes: Vec<_> = state
            .nodes_after(after)
            .filter(|node| project::is_seen(project, node) && filter.matches(&state, node))
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
    parent_node: Option<NodeId>,
    traits: BTreeSet<Trait>,
    wanted: v1::NodeFilter,
}

impl Filter {
    fn try_new(wanted: v1::NodeFilter) -> Result<Self, Invalid> {
        let states = wanted.provision_states.iter().map(|state| state.parse());
        let provision_states = states.collect::<Result<_, Invalid>>().map_err(|invalid| {
            Invalid { field: "filter.provision_states".to_owned(), ..invalid }
        })?;
        let parent_node = match wanted.parent_node.as_str() {
            "" => None,
            id => Some(id.parse().map_err(|invalid: Invalid| Invalid {
                field: "filter.parent_node".to_owned(),
                ..invalid
            })?),
        };
        let traits = wanted.traits.iter().map(|name| name.parse());
        let traits =
            traits.collect::<Result<_, Invalid>>().map_err(|invalid| invalid.under("filter"))?;
        Ok(Self { provision_states, parent_node, traits, wanted })
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
            && is(&wanted.lessee, &node.spec.lessee)
            && is(&wanted.shard, &node.spec.shard)
            && is(&wanted.fault, node.fault.map_or("", Fault::as_str))
            && self.parent_node.is_none_or(|parent| node.spec.parent_node == Some(parent))
            && wanted.protected.is_none_or(|wanted| wanted == node.spec.protected.is_some())
            && wanted.retired.is_none_or(|wanted| wanted == node.spec.retired.is_some())
            && self.traits.is_subset(&node.spec.traits)
            && wanted.maintenance.is_none_or(|wanted| wanted == node.maintenance.is_some())
            && (wanted.conductor.is_empty()
                || state.owner(node).is_some_and(|owner| owner.as_str() == wanted.conductor))
    }
}
