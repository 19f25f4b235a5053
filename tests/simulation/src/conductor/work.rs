//! Keeping the work in progress that the state asks for, by the core's `Workload`.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bessemer_domain::effects::{Effect, Touched};
use bessemer_domain::ids::NodeId;
use bessemer_domain::node::{PowerState, PowerTarget};
use bessemer_domain::task::task_id;
use bessemer_domain::turn::AtOnce;
use bessemer_domain::workload::{RunId, UnwantedTask, Workload};
use bessemer_domain::{CommandBody, Timestamp};

use super::Conductor;
use super::steps::Job;
use crate::machine::Order;

/// Pause before work that ended without changing the state is begun again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How long an order to a BMC may take to be carried out after whoever sent it was stopped.
const ORDER_LIMIT: Duration = Duration::from_millis(200);

/// Few, so that some nodes have to wait in line.
const AT_ONCE: AtOnce = AtOnce { deploys: 2, cleans: 1 };

/// Why nodes have to be looked at again.
#[derive(Debug)]
pub(super) enum Change {
    Touched(Vec<Touched>),
    Lease,
    Ended(NodeId, RunId),
}

impl Conductor {
    pub(super) async fn work(self: Rc<Self>) {
        let mut workload = Workload::new(self.id.clone(), self.incarnation, AT_ONCE);
        let mut tasks = BTreeMap::new();
        loop {
            let touched = match self.changes.pop().await {
                Change::Touched(touched) => touched,
                Change::Lease => Vec::new(),
                Change::Ended(node, run) => {
                    tasks.remove(&run);
                    workload.ended(node, run).then_some(Touched::Node(node)).into_iter().collect()
                }
            };
            let is_held = self.has_lease();
            let lease_changed = workload.note_lease(is_held);
            if lease_changed {
                self.note(if is_held { "holds its lease" } else { "is not sure of its lease" });
            }
            let nodes = if lease_changed || touched.contains(&Touched::Every) {
                self.all_nodes(&workload)
            } else {
                touched.iter().filter_map(node_of).collect()
            };
            for node in nodes {
                self.look_at(&mut workload, &mut tasks, node);
            }
        }
    }

    fn all_nodes(&self, workload: &Workload) -> Vec<NodeId> {
        let state = self.replica.get();
        let gone = workload.nodes().filter(|id| state.node(*id).is_none());
        state.nodes().map(|node| node.id).chain(gone).collect()
    }

    fn look_at(
        self: &Rc<Self>,
        workload: &mut Workload,
        tasks: &mut BTreeMap<RunId, u64>,
        node: NodeId,
    ) {
        let difference = workload.reconsider(&self.replica.get(), node);
        if let Some(task) = difference.stop.and_then(|run| tasks.remove(&run)) {
            self.world.exec.abort(task);
        }
        if let Some(UnwantedTask { epoch, plan, index }) = difference.cancel {
            self.sessions.cancel(node, task_id(plan, index), epoch);
        }
        if difference.end_session {
            self.sessions.end(node);
        }
        if let Some((run, effect)) = difference.begin {
            let this = Rc::clone(self);
            let task = self.world.exec.spawn(&self.process, async move {
                this.perform(node, effect).await;
                this.changes.push(Change::Ended(node, run));
            });
            tasks.insert(run, task);
        }
        if let Some(next) = difference.next {
            self.look_at(workload, tasks, next);
        }
    }

    async fn perform(self: &Rc<Self>, node: NodeId, effect: Effect) {
        match effect {
            Effect::Claim => self.claim(node).await,
            Effect::Release { epoch } => self.release(node, epoch).await,
            Effect::RunStep { epoch, plan, index, step } => {
                self.run_step(&Job { node, epoch, plan, index, step }).await;
            }
            Effect::SetPower { epoch, target, until, .. } => {
                self.set_power(node, epoch, target, until).await;
            }
        }
    }

    async fn claim(self: &Rc<Self>, node: NodeId) {
        let body = CommandBody::ClaimNode {
            node,
            conductor: self.id.clone(),
            incarnation: self.incarnation,
        };
        if let Err(rejection) = self.propose(body).await {
            self.note(&format!("node not claimed: {rejection}"));
            self.world.exec.sleep(AGAIN_AFTER).await;
        }
    }

    /// Lets go of a node, once no order to its BMC is under way.
    async fn release(self: &Rc<Self>, node: NodeId, epoch: u64) {
        self.world.exec.sleep(ORDER_LIMIT).await;
        if let Err(rejection) = self.propose(CommandBody::ReleaseNode { node, epoch }).await {
            self.note(&format!("node not released: {rejection}"));
            self.world.exec.sleep(AGAIN_AFTER).await;
        }
    }

    async fn set_power(
        self: &Rc<Self>,
        node: NodeId,
        epoch: u64,
        target: PowerTarget,
        until: Timestamp,
    ) {
        let result = loop {
            match self.change_power(node, epoch, target).await {
                Ok(()) => break Ok(target.state()),
                Err(error) if self.now() >= until => break Err(error),
                Err(_) => self.world.exec.sleep(AGAIN_AFTER).await,
            }
        };
        let body = CommandBody::ReportPower { node, epoch, result };
        if let Err(rejection) = self.propose(body).await {
            self.note(&format!("power report not taken: {rejection}"));
            self.world.exec.sleep(AGAIN_AFTER).await;
        }
    }

    async fn change_power(
        self: &Rc<Self>,
        node: NodeId,
        epoch: u64,
        target: PowerTarget,
    ) -> Result<(), String> {
        let goes_off = !matches!(target, PowerTarget::On | PowerTarget::Nmi);
        let comes_on = target.state() == PowerState::On && target != PowerTarget::Nmi;
        if goes_off {
            self.sessions.end(node);
            self.entitled(node, epoch).await;
            self.world.bmc(self.machine(node), epoch, Order::Power(PowerState::Off)).await?;
        }
        if comes_on {
            self.entitled(node, epoch).await;
            self.world.bmc(self.machine(node), epoch, Order::Power(PowerState::On)).await?;
        }
        Ok(())
    }
}

fn node_of(touched: &Touched) -> Option<NodeId> {
    match touched {
        Touched::Node(node) => Some(*node),
        Touched::None | Touched::Every => None,
    }
}
