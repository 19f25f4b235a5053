//! Allocations.

use bessemer_domain::Invalid;
use bessemer_domain::allocation::{Allocation, AllocationOutcome, AllocationSpec};
use bessemer_domain::ids::NodeId;
use bessemer_proto::v1;

use crate::text::{SHORT_CHARACTERS_MAX, bounded};
use crate::{json, spec, time};

/// The allocation as a message.
#[must_use]
pub fn to_proto(allocation: &Allocation) -> v1::Allocation {
    let spec = &allocation.spec;
    let last_error = match &allocation.outcome {
        AllocationOutcome::Active(_) => String::new(),
        AllocationOutcome::Error(why) => why.clone(),
    };
    v1::Allocation {
        metadata: Some(v1::Metadata {
            id: allocation.id.to_string(),
            name: spec.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            created_at: Some(time::to_proto(allocation.created_at)),
            updated_at: Some(time::to_proto(allocation.updated_at)),
        }),
        spec: Some(v1::AllocationSpec {
            resource_class: spec.resource_class.clone(),
            traits: spec.traits.iter().map(ToString::to_string).collect(),
            candidate_nodes: spec.candidate_nodes.iter().map(ToString::to_string).collect(),
            owner: spec.owner.clone(),
            extra: Some(json::to_proto(&spec.extra)),
        }),
        status: Some(v1::AllocationStatus {
            state: allocation.outcome.as_str().to_owned(),
            node_id: allocation.outcome.node().map(|node| node.to_string()).unwrap_or_default(),
            last_error,
        }),
        version: allocation.version,
    }
}

/// Checks what is asked for. `candidate_nodes` are those that the request means.
///
/// # Errors
/// [`Invalid`] with the field's path from the request.
pub fn spec_from_proto(
    request: &v1::CreateAllocationRequest,
    candidate_nodes: Vec<NodeId>,
) -> Result<AllocationSpec, Invalid> {
    let given = request.spec.as_ref().ok_or_else(|| Invalid::new("spec", "", "is required"))?;
    let short = |field: &str, text: &str| bounded(field, text, SHORT_CHARACTERS_MAX);
    let asked = AllocationSpec {
        name: spec::name_from_proto(&request.name)?,
        resource_class: short("spec.resource_class", &given.resource_class)?,
        traits: spec::traits_from_proto(&given.traits)?,
        candidate_nodes,
        owner: short("spec.owner", &given.owner)?,
        extra: json::from_proto("spec.extra", given.extra.as_ref())?,
    };
    asked.check(!request.node.is_empty())?;
    Ok(asked)
}
