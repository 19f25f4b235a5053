//! Folding events into the state. Holds no rules: what an event says, is so.

use std::sync::Arc;

use crate::allocation::Allocation;
use crate::conductor::{Conductor, Registration};
use crate::event::{Event, EventRecord, Subject};
use crate::ids::{AllocationId, ConductorId, NodeId, NodeName, PortId, TemplateId};
use crate::node::{
    AgentBinding, Claim, Fault, Maintenance, Node, Plan, PlanKind, Power, PowerRequest, Provision,
    ProvisionState, Step, StepResult, StepStatus, Trigger, Verb,
};
use crate::port::Port;
use crate::state::Restored;
use crate::template::Template;
use crate::{State, Timestamp};

impl State {
    /// What some subjects were like after these records, which hold each one's from its first, in order. Knows nothing of
    /// any other subject and has no tip: it is there to be looked at.
    pub fn of_subjects<'a>(records: impl IntoIterator<Item = &'a EventRecord>) -> Self {
        let mut state = Self::default();
        for record in records {
            state.now = state.now.max(record.at);
            state.fold(record);
        }
        state
    }

    pub(crate) fn fold(&mut self, record: &EventRecord) {
        match &record.subject {
            Subject::Cluster => self.fold_cluster(record),
            Subject::Node(id) => self.fold_node(*id, record),
            Subject::Port(id) => self.fold_port(*id, record),
            Subject::Conductor(id) => self.fold_conductor(id, record),
            Subject::Allocation(id) => self.fold_allocation(*id, record),
            Subject::Template(id) => self.fold_template(*id, record),
        }
    }

    fn fold_cluster(&mut self, record: &EventRecord) {
        if let Event::ClusterInitialised { cluster_id } = &record.event {
            self.cluster_id = Some(*cluster_id);
        }
        if let Event::ClusterRestored { restoration, from_revision } = &record.event {
            self.restored = Some(Restored { id: *restoration, from_revision: *from_revision });
        }
        self.cluster_version = record.sequence;
    }

    fn fold_node(&mut self, id: NodeId, record: &EventRecord) {
        if matches!(record.event, Event::NodeDeleted {}) {
            self.rename(id, None);
            self.adopt(id, None);
            self.offer(id, None);
            self.nodes.remove(&id);
            self.deleted_nodes.insert(id, record.sequence);
            return;
        }
        if let Event::NodeCreated { name, spec } = &record.event {
            let node = created(id, name.clone(), (**spec).clone(), record.at);
            self.nodes.insert(id, Arc::new(node));
        }
        if let Event::NodeCreated { name, spec } | Event::NodeUpdated { name, spec } = &record.event
        {
            self.rename(id, name.as_ref());
            self.adopt(id, spec.parent_node);
        }
        let node = self.nodes.get_mut(&id).expect("a node's first event creates it");
        let node = Arc::make_mut(node);
        node.fold(&record.event, record.at);
        node.version = record.sequence;
        node.updated_at = record.at;
        let place = node.place_in_line();
        self.offer(id, place);
    }

    /// Keeps the index of offered nodes true.
    fn offer(&mut self, id: NodeId, place: Option<(String, Timestamp, NodeId)>) {
        if self.indexes.places.get(&id) == place.as_ref() {
            return;
        }
        if let Some(old) = self.indexes.places.remove(&id) {
            self.indexes.offered.remove(&old);
        }
        if let Some(place) = place {
            self.indexes.offered.insert(place.clone());
            self.indexes.places.insert(id, place);
        }
    }

    fn fold_template(&mut self, id: TemplateId, record: &EventRecord) {
        let before = self.templates.remove(&id);
        if let Some(before) = &before {
            let name = (before.spec.kind, before.spec.name.clone());
            self.indexes.template_by_name.remove(&name);
        }
        let (Event::TemplateCreated { spec } | Event::TemplateUpdated { spec }) = &record.event
        else {
            self.deleted_templates.insert(id, record.sequence);
            return;
        };
        self.indexes.template_by_name.insert((spec.kind, spec.name.clone()), id);
        let made = Template {
            id,
            version: record.sequence,
            spec: (**spec).clone(),
            created_at: before.map_or(record.at, |before| before.created_at),
            updated_at: record.at,
        };
        self.templates.insert(id, made);
    }

    fn fold_allocation(&mut self, id: AllocationId, record: &EventRecord) {
        if let Event::AllocationCreated { spec, outcome } = &record.event {
            if let Some(name) = &spec.name {
                self.indexes.allocation_by_name.insert(name.clone(), id);
            }
            let made = Allocation {
                id,
                version: record.sequence,
                spec: (**spec).clone(),
                outcome: outcome.clone(),
                created_at: record.at,
                updated_at: record.at,
            };
            self.allocations.insert(id, made);
        }
        if matches!(record.event, Event::AllocationDeleted {}) {
            let gone = self.allocations.remove(&id);
            if let Some(name) = gone.and_then(|gone| gone.spec.name) {
                self.indexes.allocation_by_name.remove(&name);
            }
            self.deleted_allocations.insert(id, record.sequence);
        }
    }

    /// Keeps the index of names true.
    fn rename(&mut self, id: NodeId, name: Option<&NodeName>) {
        if let Some(old) = self.nodes.get(&id).and_then(|node| node.name.as_ref()) {
            self.indexes.node_by_name.remove(old);
        }
        if let Some(name) = name {
            self.indexes.node_by_name.insert(name.clone(), id);
        }
    }

    /// Keeps the index of parents true.
    fn adopt(&mut self, id: NodeId, parent: Option<NodeId>) {
        if let Some(old) = self.nodes.get(&id).and_then(|node| node.spec.parent_node) {
            self.indexes.nodes_by_parent.remove(&(old, id));
        }
        if let Some(parent) = parent {
            self.indexes.nodes_by_parent.insert((parent, id));
        }
    }

    fn fold_port(&mut self, id: PortId, record: &EventRecord) {
        if let Event::PortCreated { spec } = &record.event {
            self.indexes.port_by_address.insert(spec.address, id);
            self.indexes.ports_by_node.insert((spec.node, id));
            let port = Port {
                id,
                version: record.sequence,
                spec: (**spec).clone(),
                created_at: record.at,
                updated_at: record.at,
            };
            self.ports.insert(id, port);
        } else if let Some(port) = self.ports.remove(&id) {
            self.indexes.port_by_address.remove(&port.spec.address);
            self.indexes.ports_by_node.remove(&(port.spec.node, id));
            self.deleted_ports.insert(id, record.sequence);
        }
    }

    fn fold_conductor(&mut self, id: &ConductorId, record: &EventRecord) {
        if let Event::ConductorRegistered { registration } = &record.event {
            let draining = self.conductor(id).is_some_and(|known| known.draining);
            let conductor = Conductor { draining, ..registered(id, registration, record) };
            self.conductors.insert(id.clone(), conductor);
        } else if let Some(conductor) = self.conductors.get_mut(id) {
            if matches!(
                record.event,
                Event::ConductorDrainStarted {} | Event::ConductorDrainEnded {}
            ) {
                conductor.draining = record.event == Event::ConductorDrainStarted {};
            } else {
                conductor.online = false;
                conductor.since = record.at;
            }
            conductor.version = record.sequence;
        }
        self.rebuild_rings();
    }
}

fn registered(id: &ConductorId, registration: &Registration, record: &EventRecord) -> Conductor {
    Conductor {
        id: id.clone(),
        version: record.sequence,
        registration: registration.clone(),
        online: true,
        since: record.at,
        draining: false,
    }
}

fn created(id: NodeId, name: Option<NodeName>, spec: crate::node::NodeSpec, at: Timestamp) -> Node {
    Node {
        id,
        name,
        version: 0,
        created_at: at,
        updated_at: at,
        spec,
        provision: Provision { state: ProvisionState::Enroll, since: at, target: None },
        power: Power::default(),
        maintenance: None,
        last_error: None,
        claim: None,
        deployment: None,
        plan: None,
        agent: None,
        inventory: None,
        allocation: None,
        fault: None,
        rescue_password_hash: None,
    }
}

impl Node {
    fn fold(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::NodeUpdated { name, spec } => {
                self.name.clone_from(name);
                self.spec = (**spec).clone();
            }
            Event::NodeClaimed { .. } | Event::NodeReleased { .. } => self.fold_claim(event, at),
            Event::ProvisionStateChanged { to, target, trigger, .. } => {
                self.provision = Provision { state: *to, since: at, target: *target };
                if *trigger == Trigger::Verb(Verb::Manage) {
                    self.fault = None;
                }
            }
            Event::MaintenanceSet { reason } => {
                self.maintenance = Some(Maintenance { reason: reason.clone(), since: at });
            }
            Event::MaintenanceCleared {} => self.maintenance = None,
            Event::PowerRequested { .. }
            | Event::PowerChanged { .. }
            | Event::PowerFailed { .. } => {
                self.fold_power(event, at);
            }
            Event::DeploymentRequested { deployment } => {
                self.deployment = Some((**deployment).clone());
            }
            Event::RescueRequested { password_hash } => {
                self.rescue_password_hash = Some(password_hash.clone());
            }
            Event::DeploymentCleared {} => self.deployment = None,
            Event::PlanStarted { plan } => self.fold_plan(plan),
            Event::PlanAborted { message } => {
                self.last_error = Some(message.clone());
                self.agent = None;
                self.rescue_password_hash = None;
            }
            Event::StepStarted { index, attempt, until, .. } => {
                self.fold_step_started(*index, *attempt, *until, at);
            }
            Event::StepCompleted { index, result, .. } => {
                self.fold_step_completed(*index, result, at);
            }
            Event::StepFailed { index, message, .. } => {
                self.fold_step_failed(*index, message, at);
            }
            Event::AgentBound { token_digest } => {
                self.agent = Some(AgentBinding { token_digest: token_digest.clone(), at });
            }
            Event::AgentReset {} => self.agent = None,
            Event::NodeAllocated { allocation } => self.allocation = Some(*allocation),
            Event::NodeReturned {} => self.allocation = None,
            Event::InventoryRecorded { inventory } => {
                self.inventory = Some((**inventory).clone());
            }
            Event::NodeCreated { .. }
            | Event::NodeDeleted {}
            | Event::ClusterInitialised { .. }
            | Event::ClusterRestored { .. }
            | Event::PortCreated { .. }
            | Event::PortDeleted {}
            | Event::AllocationCreated { .. }
            | Event::AllocationDeleted {}
            | Event::TemplateCreated { .. }
            | Event::TemplateUpdated { .. }
            | Event::TemplateDeleted {}
            | Event::ConductorRegistered { .. }
            | Event::ConductorLost {}
            | Event::ConductorUnregistered {}
            | Event::ConductorDrainStarted {}
            | Event::ConductorDrainEnded {} => {}
        }
    }

    fn fold_claim(&mut self, event: &Event, at: Timestamp) {
        if let Event::NodeClaimed { conductor, incarnation, epoch } = event {
            self.claim = Some(Claim {
                conductor: conductor.clone(),
                incarnation: *incarnation,
                epoch: *epoch,
                at,
                released: false,
            });
        }
        if let (Event::NodeReleased { epoch }, Some(claim)) = (event, &mut self.claim) {
            claim.epoch = *epoch;
            claim.released = true;
        }
    }

    fn fold_plan(&mut self, plan: &Plan) {
        self.plan = Some(plan.clone());
        self.last_error = None;
        self.fault = None;
        // The plan says what the machine does from now on.
        self.power.request = None;
    }

    fn fold_power(&mut self, event: &Event, at: Timestamp) {
        if let Event::PowerRequested { target, until } = event {
            self.power.request = Some(PowerRequest { target: *target, since: at, until: *until });
        }
        if let Event::PowerChanged { state } = event {
            self.power = Power { state: Some(*state), request: None };
            self.fault.take_if(|fault| matches!(fault, Fault::Power | Fault::RescueAbort));
        }
        if let Event::PowerFailed { message } = event {
            self.power.request = None;
            self.last_error = Some(message.clone());
            let is_rescue = self.provision.state == ProvisionState::RescueFailed;
            self.fault = Some(if is_rescue { Fault::RescueAbort } else { Fault::Power });
        }
    }

    fn fold_step_started(&mut self, index: usize, attempt: u32, until: Timestamp, at: Timestamp) {
        let Some(planned) = step_of(self.plan.as_mut(), index) else { return };
        let started_at = match planned.status {
            StepStatus::Running { started_at, .. } => started_at,
            StepStatus::Pending | StepStatus::Done { .. } | StepStatus::Failed { .. } => at,
        };
        planned.status = StepStatus::Running { attempt, started_at, until };
        if planned.step.boots_agent() && attempt == 1 {
            self.agent = None;
        }
    }

    fn fold_step_completed(&mut self, index: usize, result: &StepResult, at: Timestamp) {
        let Some(planned) = step_of(self.plan.as_mut(), index) else { return };
        let (attempt, started_at) = begun(&planned.status, at);
        planned.status = StepStatus::Done { attempt, started_at, finished_at: at };
        match planned.step {
            Step::TearDown
            | Step::TearDownAgent
            | Step::TearDownCleaning
            | Step::TearDownInspection
            | Step::TearDownRescue
            | Step::TearDownService => self.agent = None,
            Step::Rescue => self.rescue_password_hash = None,
            Step::VerifyPower
            | Step::PrepareImage
            | Step::Deploy
            | Step::PrepareCleaning
            | Step::WriteImage
            | Step::RunPlaybook
            | Step::PinContainer
            | Step::ExecuteBootcInstall
            | Step::WriteConfigdrive
            | Step::PrepareInstanceBoot
            | Step::BootInstance
            | Step::BootRamdisk
            | Step::EraseDevicesMetadata
            | Step::EraseDevices
            | Step::PrepareInspection
            | Step::PrepareRescue
            | Step::PrepareService
            | Step::PowerOn(_)
            | Step::PowerOff(_)
            | Step::Reboot(_)
            | Step::Hold(_)
            | Step::Wait(_)
            | Step::Plugin(_) => {}
        }
        match result {
            StepResult::Power(state) => self.power.state = Some(*state),
            StepResult::Image(image) => {
                if let Some(deployment) = &mut self.deployment {
                    deployment.image = Some(image.clone());
                }
            }
            StepResult::Written(report) => {
                if let Some(deployment) = &mut self.deployment {
                    deployment.write = Some(report.clone());
                }
            }
            StepResult::Pinned(container) => {
                if let Some(deployment) = &mut self.deployment {
                    deployment.container = Some(container.clone());
                }
            }
            StepResult::Installed(report) => {
                if let Some(deployment) = &mut self.deployment {
                    deployment.install = Some(report.clone());
                }
            }
            StepResult::Done
            | StepResult::Agent(_)
            | StepResult::Erased(_)
            | StepResult::ErasedDevices(_)
            | StepResult::Plugin(_) => {}
        }
    }

    fn fold_step_failed(&mut self, index: usize, message: &str, at: Timestamp) {
        self.last_error = Some(message.to_owned());
        self.agent = None;
        self.rescue_password_hash = None;
        self.fault = self.plan.as_ref().and_then(|plan| fault_of(plan.kind));
        let Some(planned) = step_of(self.plan.as_mut(), index) else { return };
        let (attempt, started_at) = begun(&planned.status, at);
        planned.status =
            StepStatus::Failed { attempt, started_at, finished_at: at, error: message.to_owned() };
    }
}

/// What a plan that failed leaves behind.
const fn fault_of(kind: PlanKind) -> Option<Fault> {
    match kind {
        PlanKind::Clean | PlanKind::ManualClean => Some(Fault::Clean),
        PlanKind::Service | PlanKind::AbortService => Some(Fault::Service),
        PlanKind::Verify
        | PlanKind::Deploy
        | PlanKind::Undeploy
        | PlanKind::Inspect
        | PlanKind::Adopt
        | PlanKind::Rescue
        | PlanKind::Unrescue => None,
    }
}

fn step_of(plan: Option<&mut Plan>, index: usize) -> Option<&mut crate::node::PlannedStep> {
    plan?.steps.get_mut(index)
}

/// How often a step was begun and when first; a step may end without ever being reported as begun.
fn begun(status: &StepStatus, at: Timestamp) -> (u32, Timestamp) {
    match status {
        StepStatus::Running { attempt, started_at, .. }
        | StepStatus::Done { attempt, started_at, .. }
        | StepStatus::Failed { attempt, started_at, .. } => (*attempt, *started_at),
        StepStatus::Pending => (0, at),
    }
}
