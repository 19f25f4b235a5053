//! One method for each call of the API that has one answer.

use bessemer_proto::v1;
use bessemer_proto::v1::allocation_service_client::AllocationServiceClient;
use bessemer_proto::v1::cluster_service_client::ClusterServiceClient;
use bessemer_proto::v1::conductor_service_client::ConductorServiceClient;
use bessemer_proto::v1::event_service_client::EventServiceClient;
use bessemer_proto::v1::image_service_client::ImageServiceClient;
use bessemer_proto::v1::node_service_client::NodeServiceClient;
use bessemer_proto::v1::port_service_client::PortServiceClient;
use bessemer_proto::v1::template_service_client::TemplateServiceClient;
use uuid::Uuid;

use crate::{Client, Error};

/// Largest message taken or sent: a page of 1,000 nodes with their inventories, and a slice of state with room to spare.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A service's generated client on a channel, with our limits.
macro_rules! service {
    ($service:ident on $channel:expr) => {
        $service::new($channel)
            .max_decoding_message_size($crate::rpc::MESSAGE_BYTES_MAX)
            .max_encoding_message_size($crate::rpc::MESSAGE_BYTES_MAX)
    };
}
pub(crate) use service;

/// `read` calls are harmless to repeat as they are; `mutation`s get a command id before they are first sent.
macro_rules! rpcs {
    ($($service:ident { $($(#[$doc:meta])* $kind:ident $name:ident($request:ident) -> $answer:ident;)+ })+) => {
        impl Client {
            $($(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`Error`] when it was refused, or no member answered in time.
                pub async fn $name(&self, request: v1::$request) -> Result<v1::$answer, Error> {
                    let request = rpcs!(@prepare $kind request);
                    self.call(stringify!($name), request, |channel, request| async move {
                        service!($service on channel).$name(request).await
                    })
                    .await
                }
            )+)+
        }
    };
    (@prepare read $request:ident) => { $request };
    (@prepare mutation $request:ident) => {{
        let mut request = $request;
        if request.command_id.is_empty() {
            request.command_id = Uuid::new_v4().to_string();
        }
        request
    }};
}

rpcs! {
    NodeServiceClient {
        /// Enrols a machine.
        mutation create_node(CreateNodeRequest) -> Node;
        /// A node by id or name.
        read get_node(GetNodeRequest) -> Node;
        /// A page of nodes.
        read list_nodes(ListNodesRequest) -> ListNodesResponse;
        /// Changes the caller's part of a node.
        mutation update_node(UpdateNodeRequest) -> Node;
        /// Forgets a machine.
        mutation delete_node(DeleteNodeRequest) -> DeleteNodeResponse;
        /// Takes a machine under management.
        mutation manage_node(NodeVerbRequest) -> Node;
        /// Finds out what a machine is made of.
        mutation inspect_node(NodeVerbRequest) -> Node;
        /// Takes over a machine with what runs on it.
        mutation adopt_node(DeployNodeRequest) -> Node;
        /// Does steps of cleaning.
        mutation clean_node(CleanNodeRequest) -> Node;
        /// Makes a machine available.
        mutation provide_node(NodeVerbRequest) -> Node;
        /// Puts an image on a machine.
        mutation deploy_node(DeployNodeRequest) -> Node;
        /// Puts an image on a machine again.
        mutation rebuild_node(DeployNodeRequest) -> Node;
        /// Takes the image off a machine.
        mutation undeploy_node(NodeVerbRequest) -> Node;
        /// Stops the work in progress.
        mutation abort_node(NodeVerbRequest) -> Node;
        /// Boots a ramdisk that a person can log in to.
        mutation rescue_node(RescueNodeRequest) -> Node;
        /// Boots a machine's own system again.
        mutation unrescue_node(NodeVerbRequest) -> Node;
        /// Does steps on a machine that keeps its deployment.
        mutation service_node(ServiceNodeRequest) -> Node;
        /// Ends a hold.
        mutation unhold_node(NodeVerbRequest) -> Node;
        /// Asks for a power change.
        mutation set_node_power(SetNodePowerRequest) -> Node;
        /// Sets or clears maintenance.
        mutation set_node_maintenance(SetNodeMaintenanceRequest) -> Node;
    }
    PortServiceClient {
        /// Adds a network interface.
        mutation create_port(CreatePortRequest) -> Port;
        /// A port by id or MAC address.
        read get_port(GetPortRequest) -> Port;
        /// A page of ports.
        read list_ports(ListPortsRequest) -> ListPortsResponse;
        /// Removes a network interface.
        mutation delete_port(DeletePortRequest) -> DeletePortResponse;
    }
    AllocationServiceClient {
        /// Asks for a machine that fits.
        mutation create_allocation(CreateAllocationRequest) -> Allocation;
        /// An allocation by id or name.
        read get_allocation(GetAllocationRequest) -> Allocation;
        /// A page of allocations.
        read list_allocations(ListAllocationsRequest) -> ListAllocationsResponse;
        /// Gives an allocation's machine back.
        mutation delete_allocation(DeleteAllocationRequest) -> DeleteAllocationResponse;
    }
    TemplateServiceClient {
        /// Makes a deploy template or a runbook.
        mutation create_template(CreateTemplateRequest) -> Template;
        /// A deploy template or a runbook by id or name.
        read get_template(GetTemplateRequest) -> Template;
        /// A page of deploy templates and runbooks.
        read list_templates(ListTemplatesRequest) -> ListTemplatesResponse;
        /// Replaces a deploy template or a runbook.
        mutation update_template(UpdateTemplateRequest) -> Template;
        /// Forgets a deploy template or a runbook.
        mutation delete_template(DeleteTemplateRequest) -> DeleteTemplateResponse;
    }
    EventServiceClient {
        /// A page of stored events.
        read list_events(ListEventsRequest) -> ListEventsResponse;
    }
    ClusterServiceClient {
        /// Has a conductor hand its nodes over.
        mutation drain_conductor(DrainConductorRequest) -> Conductor;
        /// Gives a conductor nodes again.
        mutation resume_conductor(ResumeConductorRequest) -> Conductor;
        /// The cluster as the member asked sees it.
        read get_status(GetStatusRequest) -> ClusterStatus;
        /// The members of the Raft group.
        read list_members(ListMembersRequest) -> ListMembersResponse;
        /// Adds a learner to the Raft group. Repeating it is safe.
        read add_member(AddMemberRequest) -> ChangeMembersResponse;
        /// Makes a learner a voter. Repeating it is safe.
        read promote_member(PromoteMemberRequest) -> ChangeMembersResponse;
        /// Removes a member from the Raft group. Repeating it is safe.
        read remove_member(RemoveMemberRequest) -> ChangeMembersResponse;
        /// Makes another voter lead. Repeating it is safe.
        read transfer_leader(TransferLeaderRequest) -> ChangeMembersResponse;
        /// Has a member write a snapshot.
        read take_snapshot(TakeSnapshotRequest) -> TakeSnapshotResponse;
        /// The conductors that ever registered.
        read list_conductors(ListConductorsRequest) -> ListConductorsResponse;
    }
    ImageServiceClient {
        /// A prepared image by id, beginning of an id, or name.
        read get_image(GetImageRequest) -> Image;
        /// All prepared images.
        read list_images(ListImagesRequest) -> ListImagesResponse;
        /// Keeps an image whatever the cache's limit, or no longer. Repeating it is safe.
        read pin_image(PinImageRequest) -> Image;
        /// Drops an image.
        read evict_image(EvictImageRequest) -> EvictImageResponse;
    }
    ConductorServiceClient {
        /// Appends commands, which carry their own ids, and answers each.
        read propose(ProposeRequest) -> ProposeResponse;
    }
}
