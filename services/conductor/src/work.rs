//! Keeping the right work in progress: what the state asks for, no more and no less.
//!
//! The rules are [`bessemer_domain::workload`]'s; here its runs are tasks.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bessemer_domain::Timestamp;
use bessemer_domain::command::CommandBody;
use bessemer_domain::effects::{Effect, Touched};
use bessemer_domain::ids::NodeId;
use bessemer_domain::lease::OwnLease;
use bessemer_domain::node::{PowerState, PowerTarget, Step};
use bessemer_domain::task::task_id;
use bessemer_domain::turn::Place;
use bessemer_domain::workload::{RunId, UnwantedTask, Workload};
use bessemer_hardware::HardwareError;
use bessemer_proto::v1::{Progress, Turn};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::Context;
use crate::steps::{self, Job, chain};

/// Pause before work that ended without changing the state is begun again; only trouble gets here.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How often it is told who waits in line.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// So many of each line are told; who comes after them waits long enough not to count.
const PLACES_TOLD: usize = 500;

/// How long an order to a BMC may take to be carried out after whoever sent it was stopped.
const ORDER_LIMIT: Duration = Duration::from_millis(200);

/// The work in progress on this conductor's nodes.
pub(crate) struct Work {
    context: Arc<Context>,
    workload: Workload,
    tasks: JoinSet<(NodeId, RunId)>,
    /// How each task is stopped.
    stops: HashMap<RunId, CancellationToken>,
}

impl Work {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        let workload =
            Workload::new(context.own.id.clone(), context.own.incarnation, context.at_once);
        Self { context, workload, tasks: JoinSet::new(), stops: HashMap::new() }
    }

    /// Runs until the changes end. While the lease is not held, nothing is in progress: another conductor may be at
    /// the same nodes.
    pub(crate) async fn run(
        mut self,
        mut changes: mpsc::Receiver<Vec<Touched>>,
        mut lease: watch::Receiver<OwnLease>,
    ) {
        let mut tell = interval(TELL_EVERY);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                touched = changes.recv() => match touched {
                    Some(touched) => self.reconsider(&touched),
                    None => return,
                },
                Some(ended) = self.tasks.join_next() => {
                    if let Ok((node, run)) = ended {
                        self.ended(node, run);
                    }
                }
                Ok(()) = lease.changed() => self.reconsider(&[]),
                _ = tell.tick() => self.tell_places(),
            }
        }
    }

    fn reconsider(&mut self, touched: &[Touched]) {
        let held = self.context.has_lease();
        let lease_changed = self.workload.note_lease(held);
        if lease_changed {
            tracing::info!(held, "lease changed");
        }
        if lease_changed || touched.contains(&Touched::Every) {
            let state = self.context.replica.state();
            let nodes: Vec<_> = state.nodes().map(|node| node.id).collect();
            let gone: Vec<_> =
                self.workload.nodes().filter(|id| state.node(*id).is_none()).collect();
            nodes.into_iter().chain(gone).for_each(|node| self.look_at(node));
            return;
        }
        for touched in touched {
            if let Touched::Node(node) = touched {
                self.look_at(*node);
            }
        }
    }

    /// Makes what is running agree with what the state asks for.
    fn look_at(&mut self, id: NodeId) {
        let state = self.context.replica.state();
        let difference = self.workload.reconsider(&state, id);
        if let Some(stop) = difference.stop.and_then(|run| self.stops.remove(&run)) {
            stop.cancel();
            self.context.progress.clear(id);
        }
        if let Some(UnwantedTask { epoch, plan, index }) = difference.cancel {
            self.context.sessions.cancel(id, task_id(plan, index), epoch);
        }
        if difference.end_session {
            self.context.sessions.end(id);
        }
        if let Some((run, effect)) = difference.begin {
            self.begin(id, run, effect);
        }
        if let Some(next) = difference.next {
            self.look_at(next);
        }
    }

    fn tell_places(&self) {
        let waiting = self.workload.places(usize::MAX).count();
        self.context.metrics.work(self.stops.len(), waiting);
        let state = self.context.replica.state();
        let told = self.workload.places(PLACES_TOLD).filter_map(|place| {
            let (.., planned) = state.node(place.node)?.current_step()?;
            Some((place.node, in_line(place, &planned.step)))
        });
        self.context.progress.note_waiting(told.collect());
    }

    fn begin(&mut self, node: NodeId, run: RunId, effect: Effect) {
        let stop = CancellationToken::new();
        let context = Arc::clone(&self.context);
        let stopped = stop.clone();
        self.tasks.spawn(async move {
            stopped.run_until_cancelled(perform(&context, node, effect)).await;
            (node, run)
        });
        self.stops.insert(run, stop);
    }

    fn ended(&mut self, node: NodeId, run: RunId) {
        self.stops.remove(&run);
        if self.workload.ended(node, run) {
            self.reconsider(&[Touched::Node(node)]);
        }
    }
}

fn in_line(place: Place, step: &Step) -> Progress {
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let turn = Turn {
        position: count(place.position),
        waiting: count(place.waiting),
        at_once: count(place.at_once),
    };
    Progress {
        step: step.to_string(),
        at: Some(SystemTime::now().into()),
        turn: Some(turn),
        ..Progress::default()
    }
}

async fn perform(context: &Context, node: NodeId, effect: Effect) {
    match effect {
        Effect::Claim => claim(context, node).await,
        Effect::Release { epoch } => release(context, node, epoch).await,
        Effect::RunStep { epoch, plan, index, step } => {
            steps::run(context, &Job::new(node, epoch, plan, index, step)).await;
        }
        Effect::SetPower { epoch, target, until, .. } => {
            set_power(context, node, epoch, target, until).await;
        }
    }
}

async fn claim(context: &Context, node: NodeId) {
    let own = &context.own;
    let body =
        CommandBody::ClaimNode { node, conductor: own.id.clone(), incarnation: own.incarnation };
    if let Err(rejection) = context.propose(body).await {
        tracing::info!(node.id = %node, %rejection, "node not claimed");
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Lets go of a node. The work on it was stopped just now; what it had sent to the BMC may still be under way.
async fn release(context: &Context, node: NodeId, epoch: u64) {
    tokio::time::sleep(ORDER_LIMIT).await;
    if let Err(rejection) = context.propose(CommandBody::ReleaseNode { node, epoch }).await {
        tracing::info!(node.id = %node, %rejection, "node not released");
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Changes the power, again and again until it is done or given up.
async fn set_power(
    context: &Context,
    node: NodeId,
    epoch: u64,
    target: PowerTarget,
    until: Timestamp,
) {
    let result = loop {
        match change_power(context, node, epoch, target).await {
            Ok(state) => break Ok(state),
            Err(error) if !error.is_retryable() || Timestamp::from(SystemTime::now()) >= until => {
                break Err(format!("power {target} was given up: {}", chain(&error)));
            }
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(node.id = %node, error, "power not changed; trying again");
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }
    };
    let body = CommandBody::ReportPower { node, epoch, result };
    if let Err(rejection) = context.propose(body).await {
        tracing::info!(node.id = %node, %rejection, "power report not taken");
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn change_power(
    context: &Context,
    node: NodeId,
    epoch: u64,
    target: PowerTarget,
) -> Result<PowerState, HardwareError> {
    let bmc = context.bmc(node, epoch)?;
    match target {
        PowerTarget::On => {}
        PowerTarget::Off | PowerTarget::Reboot => {
            context.sessions.end(node);
            bmc.power_off().await?;
        }
        PowerTarget::SoftOff | PowerTarget::SoftReboot => {
            bmc.shut_down().await?;
        }
        PowerTarget::Nmi => bmc.inject_nmi().await?,
    }
    match target {
        PowerTarget::On | PowerTarget::Reboot | PowerTarget::SoftReboot => {
            bmc.power_on().await?;
        }
        PowerTarget::Off | PowerTarget::SoftOff | PowerTarget::Nmi => {}
    }
    Ok(target.state())
}
