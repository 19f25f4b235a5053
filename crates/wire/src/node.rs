//! Nodes as callers see them.

use bessemer_domain::node::{Claim, Node, NodeSpec, PowerState, PowerTarget};
use bessemer_domain::{Invalid, State, effects};
use bessemer_proto::v1;

use crate::text::{DESCRIPTION_CHARACTERS_MAX, bounded};
use crate::{deployment, inventory, json, mask, plan, time};

/// The node as a message: secrets masked, and with what it waits for and who drives it by `state`.
/// Its progress is soft state and left unset.
#[must_use]
pub fn to_proto(state: &State, node: &Node) -> v1::Node {
    v1::Node {
        metadata: Some(v1::Metadata {
            id: node.id.to_string(),
            name: node.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            created_at: Some(time::to_proto(node.created_at)),
            updated_at: Some(time::to_proto(node.updated_at)),
        }),
        spec: Some(spec_to_proto(&node.spec)),
        status: Some(status_to_proto(state, node)),
        version: node.version,
    }
}

fn spec_to_proto(spec: &NodeSpec) -> v1::NodeSpec {
    v1::NodeSpec {
        driver: spec.driver.clone(),
        driver_info: Some(json::to_proto(&mask::masked(&spec.driver_info))),
        instance_info: Some(json::to_proto(&mask::masked(&spec.instance_info))),
        properties: Some(json::to_proto(&spec.properties)),
        resource_class: spec.resource_class.clone(),
        conductor_group: spec.conductor_group.clone(),
        deploy_interface: spec
            .deploy_interface
            .map_or_else(String::new, |chosen| chosen.as_str().to_owned()),
        boot_interface: spec
            .boot_interface
            .map_or_else(String::new, |chosen| chosen.as_str().to_owned()),
        automated_clean: spec.automated_clean,
        description: spec.description.clone(),
        owner: spec.owner.clone(),
        extra: Some(json::to_proto(&spec.extra)),
        lessee: spec.lessee.clone(),
        shard: spec.shard.clone(),
        parent_node: spec.parent_node.map(|parent| parent.to_string()).unwrap_or_default(),
        traits: spec.traits.iter().map(ToString::to_string).collect(),
        protected: spec.protected.is_some(),
        protected_reason: spec.protected.clone().unwrap_or_default(),
        retired: spec.retired.is_some(),
        retired_reason: spec.retired.clone().unwrap_or_default(),
    }
}

fn status_to_proto(state: &State, node: &Node) -> v1::NodeStatus {
    let target = node.power.request.as_ref().map(|request| request.target.state());
    v1::NodeStatus {
        provision_state: node.provision.state.to_string(),
        provision_state_since: Some(time::to_proto(node.provision.since)),
        target_provision_state: node
            .provision
            .target
            .map(|target| target.to_string())
            .unwrap_or_default(),
        power_state: power_to_proto(node.power.state).into(),
        target_power_state: power_to_proto(target).into(),
        maintenance: node.maintenance.is_some(),
        maintenance_reason: node
            .maintenance
            .as_ref()
            .map(|maintenance| maintenance.reason.clone())
            .unwrap_or_default(),
        last_error: node.last_error.clone().unwrap_or_default(),
        waiting_on: effects::waiting_on(state, node).map(|wait| v1::WaitingOn {
            what: wait.what,
            since: Some(time::to_proto(wait.since)),
            until: wait.until.map(time::to_proto),
        }),
        claim: node.claim.as_ref().map(claim_to_proto),
        deployment: node.deployment.as_ref().map(deployment::to_proto),
        plan: node.plan.as_ref().map(plan::to_proto),
        inventory: node.inventory.as_ref().map(inventory::to_proto),
        progress: None,
        conductor: state.owner(node).map(ToString::to_string).unwrap_or_default(),
        deploy_interface: node.spec.deploy_interface().as_str().to_owned(),
        boot_interface: node.spec.boot_interface().as_str().to_owned(),
        allocation_id: node.allocation.map(|it| it.to_string()).unwrap_or_default(),
        fault: node.fault.map_or_else(String::new, |fault| fault.as_str().to_owned()),
    }
}

fn claim_to_proto(claim: &Claim) -> v1::Claim {
    v1::Claim {
        conductor_id: claim.conductor.to_string(),
        epoch: claim.epoch,
        at: Some(time::to_proto(claim.at)),
    }
}

const fn power_to_proto(state: Option<PowerState>) -> v1::PowerState {
    match state {
        None => v1::PowerState::Unspecified,
        Some(PowerState::On) => v1::PowerState::On,
        Some(PowerState::Off) => v1::PowerState::Off,
    }
}

/// The power state asked for.
///
/// # Errors
/// [`Invalid`] when it is none that is known.
pub fn power_target_from_proto(target: i32) -> Result<PowerTarget, Invalid> {
    match v1::PowerTarget::try_from(target) {
        Ok(v1::PowerTarget::On) => Ok(PowerTarget::On),
        Ok(v1::PowerTarget::Off) => Ok(PowerTarget::Off),
        Ok(v1::PowerTarget::Reboot) => Ok(PowerTarget::Reboot),
        Ok(v1::PowerTarget::SoftOff) => Ok(PowerTarget::SoftOff),
        Ok(v1::PowerTarget::SoftReboot) => Ok(PowerTarget::SoftReboot),
        Ok(v1::PowerTarget::Nmi) => Ok(PowerTarget::Nmi),
        Ok(v1::PowerTarget::Unspecified) => {
            let reason = "is required: on, off, reboot, soft off, soft reboot or nmi";
            Err(Invalid::new("target", "", reason))
        }
        Err(_) => {
            let reason = "is not on, off, reboot, soft off, soft reboot or nmi";
            Err(Invalid::new("target", &target.to_string(), reason))
        }
    }
}

/// Why the node is to be in maintenance; none when it is to leave it.
///
/// # Errors
/// [`Invalid`] when the reason is too long.
pub fn maintenance_from_proto(
    request: &v1::SetNodeMaintenanceRequest,
) -> Result<Option<String>, Invalid> {
    let reason = bounded("reason", &request.reason, DESCRIPTION_CHARACTERS_MAX)?;
    Ok(request.maintenance.then_some(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_targets_are_read_and_others_named() {
        assert_eq!(power_target_from_proto(3), Ok(PowerTarget::Reboot));
        assert_eq!(power_target_from_proto(0).unwrap_err().field, "target");
        assert_eq!(power_target_from_proto(9).unwrap_err().value, "9");
    }
}
