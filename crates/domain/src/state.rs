//! The replicated state, and the one way to change it.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::allocation::Allocation;
use crate::conductor::Conductor;
use crate::decide::decide;
use crate::event::{Event, EventHash, EventRecord, Revision, SealedEvent, Subject};
use crate::ids::{
    AllocationId, ClusterId, CommandId, ConductorId, NodeId, NodeName, PortId, RestorationId,
    TemplateId,
};
use crate::node::{Node, Trait};
use crate::outcome::{Accepted, Outcome, Outcomes};
use crate::port::{MacAddress, Port};
use crate::ring::Rings;
use crate::template::{Template, TemplateKind};
use crate::{Command, Timestamp};

/// The newest event's place and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tip {
    /// Its revision; 0 before the first.
    pub revision: Revision,
    /// Its hash.
    pub hash: EventHash,
}

/// The newest restoration of the cluster from a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Its identity.
    pub id: RestorationId,
    /// The newest event of the backup; what came after it is lost.
    pub from_revision: Revision,
}

/// Everything the cluster knows. Cloning is cheap: maps are persistent and shared.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct State {
    pub(crate) cluster_id: Option<ClusterId>,
    pub(crate) cluster_version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) restored: Option<Restored>,
    pub(crate) tip: Tip,
    pub(crate) now: Timestamp,
    pub(crate) nodes: OrdMap<NodeId, Arc<Node>>,
    /// Nodes that are no more, and their last sequence: an id is not used twice, or its history would be two.
    pub(crate) deleted_nodes: OrdMap<NodeId, u64>,
    pub(crate) ports: OrdMap<PortId, Port>,
    pub(crate) deleted_ports: OrdMap<PortId, u64>,
    pub(crate) conductors: OrdMap<ConductorId, Conductor>,
    #[serde(skip_serializing_if = "OrdMap::is_empty")]
    pub(crate) allocations: OrdMap<AllocationId, Allocation>,
    #[serde(skip_serializing_if = "OrdMap::is_empty")]
    pub(crate) deleted_allocations: OrdMap<AllocationId, u64>,
    #[serde(skip_serializing_if = "OrdMap::is_empty")]
    pub(crate) templates: OrdMap<TemplateId, Template>,
    #[serde(skip_serializing_if = "OrdMap::is_empty")]
    pub(crate) deleted_templates: OrdMap<TemplateId, u64>,
    pub(crate) outcomes: Outcomes,
    #[serde(skip)]
    pub(crate) indexes: Indexes,
}

/// Derived from the rest; rebuilt when a state is read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Indexes {
    pub(crate) node_by_name: OrdMap<NodeName, NodeId>,
    pub(crate) port_by_address: OrdMap<MacAddress, PortId>,
    pub(crate) ports_by_node: OrdSet<(NodeId, PortId)>,
    /// Parent and child.
    pub(crate) nodes_by_parent: OrdSet<(NodeId, NodeId)>,
    pub(crate) allocation_by_name: OrdMap<NodeName, AllocationId>,
    pub(crate) template_by_name: OrdMap<(TemplateKind, Trait), TemplateId>,
    /// Nodes that allocations may have: by resource class, who has been offered longest first.
    pub(crate) offered: OrdSet<(String, Timestamp, NodeId)>,
    /// Where each of them stands in that.
    pub(crate) places: OrdMap<NodeId, (String, Timestamp, NodeId)>,
    pub(crate) rings: Arc<Rings>,
}

/// The stored form: all but the indexes.
#[derive(Deserialize)]
struct Stored {
    cluster_id: Option<ClusterId>,
    cluster_version: u64,
    #[serde(default)]
    restored: Option<Restored>,
    tip: Tip,
    now: Timestamp,
    nodes: BTreeMap<NodeId, Arc<Node>>,
    deleted_nodes: BTreeMap<NodeId, u64>,
    ports: BTreeMap<PortId, Port>,
    deleted_ports: BTreeMap<PortId, u64>,
    conductors: BTreeMap<ConductorId, Conductor>,
    #[serde(default)]
    allocations: BTreeMap<AllocationId, Allocation>,
    #[serde(default)]
    deleted_allocations: BTreeMap<AllocationId, u64>,
    #[serde(default)]
    templates: BTreeMap<TemplateId, Template>,
    #[serde(default)]
    deleted_templates: BTreeMap<TemplateId, u64>,
    outcomes: Outcomes,
}

impl From<Stored> for State {
    fn from(stored: Stored) -> Self {
        let mut state = Self {
            cluster_id: stored.cluster_id,
            cluster_version: stored.cluster_version,
            restored: stored.restored,
            tip: stored.tip,
            now: stored.now,
            nodes: stored.nodes.into_iter().collect(),
            deleted_nodes: stored.deleted_nodes.into_iter().collect(),
            ports: stored.ports.into_iter().collect(),
            deleted_ports: stored.deleted_ports.into_iter().collect(),
            conductors: stored.conductors.into_iter().collect(),
            allocations: stored.allocations.into_iter().collect(),
            deleted_allocations: stored.deleted_allocations.into_iter().collect(),
            templates: stored.templates.into_iter().collect(),
            deleted_templates: stored.deleted_templates.into_iter().collect(),
            outcomes: stored.outcomes,
            indexes: Indexes::default(),
        };
        state.indexes.node_by_name =
            state.nodes.values().filter_map(|node| Some((node.name.clone()?, node.id))).collect();
        state.indexes.port_by_address =
            state.ports.values().map(|port| (port.spec.address, port.id)).collect();
        state.indexes.ports_by_node =
            state.ports.values().map(|port| (port.spec.node, port.id)).collect();
        state.indexes.nodes_by_parent = state
            .nodes
            .values()
            .filter_map(|node| Some((node.spec.parent_node?, node.id)))
            .collect();
        state.indexes.allocation_by_name = state
            .allocations
            .values()
            .filter_map(|allocation| Some((allocation.spec.name.clone()?, allocation.id)))
            .collect();
        state.indexes.template_by_name = state
            .templates
            .values()
            .map(|template| ((template.spec.kind, template.spec.name.clone()), template.id))
            .collect();
        state.indexes.places = state
            .nodes
            .values()
            .filter_map(|node| Some((node.id, node.place_in_line()?)))
            .collect();
        state.indexes.offered = state.indexes.places.values().cloned().collect();
        state.rebuild_rings();
        state
    }
}

impl State {
    /// Decides a command once, and folds what it decided. A repeat answers with the first outcome and has no events.
    ///
    /// Deterministic: the same state and command give the same outcome and the same bytes on every member.
    pub fn apply(&mut self, command: &Command) -> (Outcome, Vec<SealedEvent>) {
        if let Some(first) = self.first_outcome(command.id, command.fingerprint) {
            return (first, Vec::new());
        }
        // Clocks of different senders differ; history's time never goes back.
        self.now = self.now.max(command.at);
        let decided = decide(self, command);
        let (outcome, events) = match decided {
            Ok(events) => {
                let sealed: Vec<_> = events
                    .into_iter()
                    .map(|(subject, event)| self.seal(&command.actor, command.id, subject, event))
                    .collect();
                (Ok(self.accepted(&sealed)), sealed)
            }
            Err(rejection) => (Err(rejection), Vec::new()),
        };
        self.outcomes.remember(command, self.now, &outcome);
        (outcome, events)
    }

    /// Folds a stored event: how replicas follow, and how history is replayed.
    ///
    /// # Panics
    /// When the event does not follow the newest one, which is a defect of whoever delivered it.
    pub fn evolve(&mut self, sealed: &SealedEvent) {
        assert_eq!(
            sealed.record.revision,
            self.tip.revision.next(),
            "events must be folded in order"
        );
        self.now = self.now.max(sealed.record.at);
        self.fold(&sealed.record);
        self.tip = Tip { revision: sealed.record.revision, hash: sealed.hash };
    }

    /// Notes that the cluster goes on from this state, as a backup had it. No command leads here: it is done to the state
    /// of a cluster that does not run.
    pub fn mark_restored(
        &mut self,
        restoration: RestorationId,
        at: Timestamp,
        actor: &str,
    ) -> SealedEvent {
        self.now = self.now.max(at);
        let event = Event::ClusterRestored { restoration, from_revision: self.tip.revision };
        self.seal(actor, CommandId::new(restoration.as_uuid()), Subject::Cluster, event)
    }

    fn seal(
        &mut self,
        actor: &str,
        command_id: CommandId,
        subject: Subject,
        event: Event,
    ) -> SealedEvent {
        let record = EventRecord {
            revision: self.tip.revision.next(),
            sequence: self.version_of(&subject) + 1,
            subject,
            at: self.now,
            actor: actor.to_owned(),
            command_id,
            event,
        };
        let bytes = record.encode();
        let hash = self.tip.hash.chain(&bytes);
        let sealed = SealedEvent { record, bytes, hash };
        self.evolve(&sealed);
        sealed
    }

    fn accepted(&self, events: &[SealedEvent]) -> Accepted {
        let subject = events.first().map(|event| event.record.subject.clone());
        Accepted {
            revision: self.tip.revision,
            version: subject.as_ref().map_or(0, |subject| self.version_of(subject)),
            subject,
        }
    }

    /// How many events a subject has had, also one that is no more; 0 for one that never was.
    #[must_use]
    pub fn version_of(&self, subject: &Subject) -> u64 {
        match subject {
            Subject::Cluster => self.cluster_version,
            Subject::Node(id) => self
                .nodes
                .get(id)
                .map(|node| node.version)
                .or_else(|| self.deleted_nodes.get(id).copied())
                .unwrap_or_default(),
            Subject::Port(id) => self
                .ports
                .get(id)
                .map(|port| port.version)
                .or_else(|| self.deleted_ports.get(id).copied())
                .unwrap_or_default(),
            Subject::Template(id) => self
                .templates
                .get(id)
                .map(|template| template.version)
                .or_else(|| self.deleted_templates.get(id).copied())
                .unwrap_or_default(),
            Subject::Allocation(id) => self
                .allocations
                .get(id)
                .map(|allocation| allocation.version)
                .or_else(|| self.deleted_allocations.get(id).copied())
                .unwrap_or_default(),
            Subject::Conductor(id) => {
                self.conductors.get(id).map_or(0, |conductor| conductor.version)
            }
        }
    }

    pub(crate) fn rebuild_rings(&mut self) {
        self.indexes.rings = Arc::new(Rings::new(self.conductors.values()));
    }

    /// The cluster's identity, once it has one.
    #[must_use]
    pub const fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id
    }

    /// Its newest restoration from a backup, if there was one.
    #[must_use]
    pub const fn restored(&self) -> Option<Restored> {
        self.restored
    }

    /// The newest event.
    #[must_use]
    pub const fn tip(&self) -> Tip {
        self.tip
    }

    /// The newest time that any command carried.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The outcome of a command that was applied before, as a repeat of it would get it.
    #[must_use]
    pub fn first_outcome(&self, command_id: CommandId, fingerprint: u64) -> Option<Outcome> {
        self.outcomes.first(command_id, fingerprint)
    }

    /// A node by id.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(Arc::as_ref)
    }

    /// A node by name.
    #[must_use]
    pub fn node_by_name(&self, name: &NodeName) -> Option<&Node> {
        self.indexes.node_by_name.get(name).and_then(|id| self.node(*id))
    }

    /// All nodes, by id.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().map(Arc::as_ref)
    }

    /// Nodes with an id after `after`, by id.
    pub fn nodes_after(&self, after: Option<NodeId>) -> impl Iterator<Item = &Node> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, Excluded);
        self.nodes.range((start, Unbounded)).map(|(_, node)| node.as_ref())
    }

    /// The nodes that are parts of a node, by id.
    pub fn children_of(&self, parent: NodeId) -> impl Iterator<Item = &Node> {
        let first = (parent, NodeId::new(Uuid::nil()));
        let last = (parent, NodeId::new(Uuid::max()));
        self.indexes.nodes_by_parent.range(first..=last).filter_map(|(_, child)| self.node(*child))
    }

    /// How many nodes there are.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The nodes of a resource class that allocations may have, who has been offered longest first.
    pub fn offered<'a>(&'a self, resource_class: &'a str) -> impl Iterator<Item = &'a Node> {
        let first = (resource_class.to_owned(), Timestamp::default(), NodeId::new(Uuid::nil()));
        let places = self.indexes.offered.range(first..);
        places
            .take_while(move |(class, ..)| class == resource_class)
            .filter_map(|(.., id)| self.node(*id))
    }

    /// A deploy template or a runbook by id.
    #[must_use]
    pub fn template(&self, id: TemplateId) -> Option<&Template> {
        self.templates.get(&id)
    }

    /// The list of steps of that kind and name.
    #[must_use]
    pub fn template_by_name(&self, kind: TemplateKind, name: &Trait) -> Option<&Template> {
        let id = self.indexes.template_by_name.get(&(kind, name.clone()))?;
        self.template(*id)
    }

    /// Deploy templates and runbooks with an id after `after`, by id.
    pub fn templates_after(&self, after: Option<TemplateId>) -> impl Iterator<Item = &Template> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, Excluded);
        self.templates.range((start, Unbounded)).map(|(_, template)| template)
    }

    /// An allocation by id.
    #[must_use]
    pub fn allocation(&self, id: AllocationId) -> Option<&Allocation> {
        self.allocations.get(&id)
    }

    /// An allocation by name.
    #[must_use]
    pub fn allocation_by_name(&self, name: &NodeName) -> Option<&Allocation> {
        self.indexes.allocation_by_name.get(name).and_then(|id| self.allocation(*id))
    }

    /// Allocations with an id after `after`, by id.
    pub fn allocations_after(
        &self,
        after: Option<AllocationId>,
    ) -> impl Iterator<Item = &Allocation> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, Excluded);
        self.allocations.range((start, Unbounded)).map(|(_, allocation)| allocation)
    }

    /// A port by id.
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(&id)
    }

    /// A port by its address.
    #[must_use]
    pub fn port_by_address(&self, address: MacAddress) -> Option<&Port> {
        self.indexes.port_by_address.get(&address).and_then(|id| self.ports.get(id))
    }

    /// The ports of a node, by id.
    pub fn ports_of(&self, node: NodeId) -> impl Iterator<Item = &Port> {
        let first = (node, PortId::new(Uuid::nil()));
        let last = (node, PortId::new(Uuid::max()));
        self.indexes.ports_by_node.range(first..=last).filter_map(|(_, port)| self.ports.get(port))
    }

    /// Ports with an id after `after`, by id.
    pub fn ports_after(&self, after: Option<PortId>) -> impl Iterator<Item = &Port> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, Excluded);
        self.ports.range((start, Unbounded)).map(|(_, port)| port)
    }

    /// All conductors that ever registered, by id.
    pub fn conductors(&self) -> impl Iterator<Item = &Conductor> {
        self.conductors.values()
    }

    /// A conductor by id.
    #[must_use]
    pub fn conductor(&self, id: &ConductorId) -> Option<&Conductor> {
        self.conductors.get(id)
    }

    /// The conductor that the ring gives a node to; none when no online one can drive it.
    #[must_use]
    pub fn owner(&self, node: &Node) -> Option<&ConductorId> {
        self.indexes.rings.owner(&node.spec.conductor_group, &node.spec.driver, node.id)
    }

    /// The conductor that holds a node's claim, and may be at the machine: online, in the life that claimed it.
    #[must_use]
    pub fn claimant(&self, node: &Node) -> Option<&ConductorId> {
        let claim = node.claim.as_ref()?;
        let conductor = self.conductor(&claim.conductor).filter(|conductor| conductor.online)?;
        claim.is_held_by(&conductor.id, conductor.registration.incarnation).then_some(&conductor.id)
    }

    /// Everything that has had an event, also what is no more.
    pub fn subjects(&self) -> impl Iterator<Item = Subject> {
        let nodes = self.nodes.keys().chain(self.deleted_nodes.keys());
        let ports = self.ports.keys().chain(self.deleted_ports.keys());
        let allocations = self.allocations.keys().chain(self.deleted_allocations.keys());
        let templates = self.templates.keys().chain(self.deleted_templates.keys());
        std::iter::once(Subject::Cluster)
            .chain(nodes.copied().map(Subject::Node))
            .chain(ports.copied().map(Subject::Port))
            .chain(allocations.copied().map(Subject::Allocation))
            .chain(templates.copied().map(Subject::Template))
            .chain(self.conductors.keys().cloned().map(Subject::Conductor))
    }

    /// The conductor that publishes a subject's events; none when no conductor is online.
    #[must_use]
    pub fn publisher(&self, subject: &Subject) -> Option<&ConductorId> {
        self.indexes.rings.publisher(subject)
    }
}
