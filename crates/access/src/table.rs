//! The table: what every call takes. A call that is not in it is refused.

use crate::Role;

/// What a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: anybody who reaches the service.
    Nothing,
    /// One of the roles.
    One {
        /// Which.
        roles: &'static [Role],
        /// Whether people who are held to a project may, for the project's nodes; whose nodes those are is looked at by who
        /// answers.
        by_project: bool,
    },
}

use Role::{Admin, Conductor, ImageCache, Member, Operator, Reader};

/// Looking.
const LOOK: Need = whole(&[Admin, Operator, Reader]);
/// Looking at nodes.
const LOOK_AT_NODES: Need = by_project(&[Admin, Operator, Reader]);
/// Working with nodes and images.
const WORK: Need = whole(&[Admin, Operator]);
/// Working with nodes that are there.
const WORK_WITH_NODES: Need = by_project(&[Admin, Operator]);
/// Changing the cluster itself, or what all users share.
const RULE: Need = whole(&[Admin]);
/// What conductors are there for.
const CONDUCT: Need = whole(&[Conductor]);
/// What conductors look at, too.
const LOOK_OR_CONDUCT: Need = whole(&[Admin, Operator, Reader, Conductor]);
/// What members say to each other.
const RAFT: Need = whole(&[Member]);
/// What members pass on to image caches.
const LOOK_AT_IMAGES: Need = whole(&[Admin, Operator, Reader, Member]);
const WORK_WITH_IMAGES: Need = whole(&[Admin, Operator, Member]);
/// What everybody who needs an image asks.
const PREPARE: Need = whole(&[Admin, Operator, Member, Conductor, ImageCache]);
/// What image caches ask each other.
const COPY: Need = whole(&[ImageCache]);

const fn whole(roles: &'static [Role]) -> Need {
    Need::One { roles, by_project: false }
}

const fn by_project(roles: &'static [Role]) -> Need {
    Need::One { roles, by_project: true }
}

/// Every RPC of every service. An agent is known by the token that its first message shows, not by a role: whoever boots on
/// a machine may look up its node.
pub const RPCS: &[(&str, Need)] = &[
    ("bessemer.v1.AgentLookupService/Lookup", Need::Nothing),
    ("bessemer.v1.AgentSessionService/Session", Need::Nothing),
    ("bessemer.v1.AllocationService/CreateAllocation", WORK),
    ("bessemer.v1.AllocationService/DeleteAllocation", WORK),
    ("bessemer.v1.AllocationService/GetAllocation", LOOK),
    ("bessemer.v1.AllocationService/ListAllocations", LOOK),
    ("bessemer.v1.ClusterService/AddMember", RULE),
    ("bessemer.v1.ClusterService/Backup", RULE),
    ("bessemer.v1.ClusterService/DrainConductor", WORK),
    ("bessemer.v1.ClusterService/GetStatus", LOOK),
    ("bessemer.v1.ClusterService/ListConductors", LOOK),
    ("bessemer.v1.ClusterService/ListMembers", LOOK_OR_CONDUCT),
    ("bessemer.v1.ClusterService/PromoteMember", RULE),
    ("bessemer.v1.ClusterService/RemoveMember", RULE),
    ("bessemer.v1.ClusterService/ResumeConductor", WORK),
    ("bessemer.v1.ClusterService/TakeSnapshot", RULE),
    ("bessemer.v1.ClusterService/TransferLeader", RULE),
    ("bessemer.v1.ConductorService/Heartbeat", CONDUCT),
    ("bessemer.v1.ConductorService/Propose", CONDUCT),
    ("bessemer.v1.ConductorService/Replicate", CONDUCT),
    ("bessemer.v1.ContainerService/PinContainer", CONDUCT),
    ("bessemer.v1.EventService/ListEvents", LOOK_OR_CONDUCT),
    ("bessemer.v1.EventService/Watch", LOOK),
    ("bessemer.v1.ImageReplicaService/FindPreparedImage", COPY),
    ("bessemer.v1.ImageService/EvictImage", WORK_WITH_IMAGES),
    ("bessemer.v1.ImageService/GetImage", LOOK_AT_IMAGES),
    ("bessemer.v1.ImageService/ListImages", LOOK_AT_IMAGES),
    ("bessemer.v1.ImageService/PinImage", WORK_WITH_IMAGES),
    ("bessemer.v1.ImageService/PrepareImage", PREPARE),
    ("bessemer.v1.ImageService/VerifyImage", WORK_WITH_IMAGES),
    ("bessemer.v1.NodeService/AbortNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/AdoptNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/CleanNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/CreateNode", WORK),
    ("bessemer.v1.NodeService/DeleteNode", WORK),
    ("bessemer.v1.NodeService/DeployNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/GetNode", LOOK_AT_NODES),
    ("bessemer.v1.NodeService/InspectNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/ListNodes", LOOK_AT_NODES),
    ("bessemer.v1.NodeService/ManageNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/ProvideNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/RebuildNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/RescueNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/ServiceNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/SetNodeMaintenance", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/SetNodePower", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/UndeployNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/UnholdNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/UnrescueNode", WORK_WITH_NODES),
    ("bessemer.v1.NodeService/UpdateNode", WORK_WITH_NODES),
    ("bessemer.v1.PortService/CreatePort", WORK),
    ("bessemer.v1.PortService/DeletePort", WORK),
    ("bessemer.v1.PortService/GetPort", LOOK),
    ("bessemer.v1.PortService/ListPorts", LOOK),
    ("bessemer.v1.TemplateService/CreateTemplate", RULE),
    ("bessemer.v1.TemplateService/DeleteTemplate", RULE),
    ("bessemer.v1.TemplateService/GetTemplate", LOOK),
    ("bessemer.v1.TemplateService/ListTemplates", LOOK),
    ("bessemer.v1.TemplateService/UpdateTemplate", RULE),
    ("bessemer.raft.v1.RaftService/Admit", RAFT),
    ("bessemer.raft.v1.RaftService/ChangeMembership", RAFT),
    ("bessemer.raft.v1.RaftService/Forward", RAFT),
    ("bessemer.raft.v1.RaftService/GetRole", RAFT),
    ("bessemer.raft.v1.RaftService/InstallSnapshot", RAFT),
    ("bessemer.raft.v1.RaftService/ListMembers", RAFT),
    ("bessemer.raft.v1.RaftService/NoticeRemoval", RAFT),
    ("bessemer.raft.v1.RaftService/PreVote", RAFT),
    ("bessemer.raft.v1.RaftService/ReadIndex", RAFT),
    ("bessemer.raft.v1.RaftService/StreamAppend", RAFT),
    ("bessemer.raft.v1.RaftService/TransferLeader", RAFT),
    ("bessemer.raft.v1.RaftService/Vote", RAFT),
    // What monitoring asks, and what the RPCs are: both say nothing of anybody's machines.
    ("grpc.health.v1.Health/Check", Need::Nothing),
    ("grpc.health.v1.Health/Watch", Need::Nothing),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Need::Nothing),
];

/// Every route of Ironic's REST API, by its method.
pub const REST_ROUTES: &[(&str, &str, Need)] = &[
    ("GET", "/", Need::Nothing),
    ("GET", "/v1", Need::Nothing),
    ("GET", "/v1/nodes", LOOK),
    ("POST", "/v1/nodes", WORK),
    ("GET", "/v1/nodes/detail", LOOK),
    ("GET", "/v1/nodes/{node}", LOOK),
    ("PATCH", "/v1/nodes/{node}", WORK),
    ("DELETE", "/v1/nodes/{node}", WORK),
    ("GET", "/v1/nodes/{node}/allocation", LOOK),
    ("DELETE", "/v1/nodes/{node}/allocation", WORK),
    ("GET", "/v1/nodes/{node}/history", LOOK),
    ("GET", "/v1/nodes/{node}/history/{entry}", LOOK),
    ("GET", "/v1/nodes/{node}/inventory", LOOK),
    ("PUT", "/v1/nodes/{node}/maintenance", WORK),
    ("DELETE", "/v1/nodes/{node}/maintenance", WORK),
    ("GET", "/v1/nodes/{node}/ports", LOOK),
    ("GET", "/v1/nodes/{node}/states", LOOK),
    ("PUT", "/v1/nodes/{node}/states/power", WORK),
    ("PUT", "/v1/nodes/{node}/states/provision", WORK),
    ("GET", "/v1/nodes/{node}/traits", LOOK),
    ("PUT", "/v1/nodes/{node}/traits", WORK),
    ("DELETE", "/v1/nodes/{node}/traits", WORK),
    ("PUT", "/v1/nodes/{node}/traits/{trait}", WORK),
    ("DELETE", "/v1/nodes/{node}/traits/{trait}", WORK),
    ("GET", "/v1/nodes/{node}/validate", LOOK),
    ("GET", "/v1/ports", LOOK),
    ("POST", "/v1/ports", WORK),
    ("GET", "/v1/ports/detail", LOOK),
    ("GET", "/v1/ports/{port}", LOOK),
    ("DELETE", "/v1/ports/{port}", WORK),
    ("GET", "/v1/allocations", LOOK),
    ("POST", "/v1/allocations", WORK),
    ("GET", "/v1/allocations/{allocation}", LOOK),
    ("DELETE", "/v1/allocations/{allocation}", WORK),
    ("GET", "/v1/conductors", LOOK),
    ("GET", "/v1/conductors/{hostname}", LOOK),
    ("GET", "/v1/drivers", LOOK),
    ("GET", "/v1/drivers/{name}", LOOK),
];

/// Every page of the dashboard, by its method.
pub const DASHBOARD_ROUTES: &[(&str, &str, Need)] = &[
    ("GET", "/", LOOK),
    ("GET", "/fleet.json", LOOK),
    ("GET", "/fleet/live", LOOK),
    ("GET", "/nodes/{node}", LOOK),
    ("GET", "/nodes/{node}/live", LOOK),
    ("GET", "/nodes/{node}/{action}", WORK),
    ("POST", "/nodes/{node}/{action}", WORK),
    ("GET", "/stuck", LOOK),
    ("GET", "/stuck/live", LOOK),
    ("GET", "/images", LOOK),
    ("GET", "/images/live", LOOK),
    ("GET", "/cluster", LOOK),
    ("GET", "/cluster/live", LOOK),
    ("GET", "/events", LOOK),
    ("GET", "/events.jsonl", LOOK),
    ("GET", "/assets/{name}", Need::Nothing),
    ("GET", "/sign-in", Need::Nothing),
    ("POST", "/sign-in", Need::Nothing),
    ("POST", "/sign-out", Need::Nothing),
];

/// What an RPC takes, named `package.Service/Method`.
#[must_use]
pub fn rpc(what: &str) -> Option<Need> {
    RPCS.iter().find(|(name, _)| *name == what).map(|(_, need)| *need)
}

/// What a route takes, of one of the two tables of routes. `HEAD` is a `GET`.
#[must_use]
pub fn route(table: &[(&str, &str, Need)], method: &str, path: &str) -> Option<Need> {
    let method = if method == "HEAD" { "GET" } else { method };
    let is_meant = |(its_method, its_path, _): &&(&str, &str, Need)| {
        *its_method == method && *its_path == path
    };
    table.iter().find(is_meant).map(|(_, _, need)| *need)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bessemer_proto::FILE_DESCRIPTOR_SET;
    use prost::Message;

    use super::*;

    /// From the descriptors that the servers are generated from: an RPC that is new is missed here.
    #[test]
    fn the_table_holds_every_rpc_and_no_other() {
        let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut defined = BTreeSet::new();
        for file in files.file {
            for service in &file.service {
                for method in &service.method {
                    let (service, method) = (service.name(), method.name());
                    defined.insert(format!("{}.{service}/{method}", file.package()));
                }
            }
        }
        assert!(defined.len() > 60, "{defined:?}");
        let ours = RPCS.iter().filter(|(name, _)| name.starts_with("bessemer."));
        let held: BTreeSet<_> = ours.map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(held, defined);
        let mut all: Vec<_> = RPCS.iter().map(|(name, _)| name).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), RPCS.len(), "a row is there twice");
    }

    #[test]
    fn services_have_no_more_than_their_job() {
        let of = |role: Role| -> BTreeSet<&str> {
            let may =
                |need: &Need| matches!(need, Need::One { roles, .. } if roles.contains(&role));
            RPCS.iter().filter(|(_, need)| may(need)).map(|(name, _)| *name).collect()
        };
        assert_eq!(
            of(Role::ImageCache),
            BTreeSet::from([
                "bessemer.v1.ImageReplicaService/FindPreparedImage",
                "bessemer.v1.ImageService/PrepareImage",
            ])
        );
        assert_eq!(
            of(Role::Conductor),
            BTreeSet::from([
                "bessemer.v1.ClusterService/ListMembers",
                "bessemer.v1.ConductorService/Heartbeat",
                "bessemer.v1.ConductorService/Propose",
                "bessemer.v1.ConductorService/Replicate",
                "bessemer.v1.ContainerService/PinContainer",
                "bessemer.v1.EventService/ListEvents",
                "bessemer.v1.ImageService/PrepareImage",
            ])
        );
        assert!(of(Role::Agent).is_empty());
        for name in of(Role::Member) {
            let (service, _) = name.split_once('/').unwrap();
            assert!(
                service.ends_with(".RaftService") || service.ends_with(".ImageService"),
                "{name}"
            );
        }
    }

    #[test]
    fn readers_change_nothing() {
        for (name, need) in RPCS {
            let Need::One { roles, .. } = need else { continue };
            let (_, method) = name.split_once('/').unwrap();
            let looks = ["Get", "List", "Watch"].iter().any(|verb| method.starts_with(verb));
            if roles.contains(&Reader) {
                assert!(looks, "{name}");
            }
        }
        for (method, path, need) in REST_ROUTES.iter().chain(DASHBOARD_ROUTES) {
            let Need::One { roles, .. } = need else { continue };
            assert!(*method == "GET" || !roles.contains(&Reader), "{method} {path}");
        }
    }
}
