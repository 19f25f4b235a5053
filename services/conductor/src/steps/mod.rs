//! Doing the steps of plans. Each is safe to repeat: it looks first, acts if need be, and says what is so.
//!
//! A conductor that takes over runs the same step anew; nothing is known to it but the state.

mod agent_task;
mod boot_agent;
mod container;
mod hardware;
mod image;
mod playbook;
mod plugin;
mod ramdisk;
mod rescue;
mod universal;

pub(crate) use hardware::chain;
pub(crate) use image::config_drive_iso;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bessemer_domain::command::CommandBody;
use bessemer_domain::effects::{Begun, begun};
use bessemer_domain::ids::{NodeId, PlanId};
use bessemer_domain::node::{Node, Step, StepReport, StepResult};
use bessemer_domain::task::task_id;
use bessemer_domain::{Rejection, Timestamp};

use crate::Context;

/// First pause after a failed attempt on a BMC or a cache; doubled up to [`RETRY_PAUSE_MAX`].
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause between attempts: short beside the minutes that steps may take.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// A step of a node's plan, to be done under a claim.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) node: NodeId,
    pub(crate) epoch: u64,
    pub(crate) plan: PlanId,
    pub(crate) index: usize,
    pub(crate) step: Step,
    /// What went wrong last and is being tried again.
    trouble: Arc<Mutex<Option<String>>>,
}

/// Why a step cannot be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Stable, such as `IMAGE_CHECKSUM_MISMATCH`.
    pub(crate) reason: String,
    /// For a person.
    pub(crate) message: String,
}

impl Failure {
    fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

impl Job {
    pub(crate) fn new(node: NodeId, epoch: u64, plan: PlanId, index: usize, step: Step) -> Self {
        Self { node, epoch, plan, index, step, trouble: Arc::default() }
    }

    /// Names the step's task to the agent: the same for every conductor that drives it.
    fn task_id(&self) -> String {
        task_id(self.plan, self.index)
    }

    /// Notes what went wrong and will be tried again.
    fn note_trouble(&self, message: String) {
        tracing::warn!(node.id = %self.node, step = %self.step, error = message, "trying again");
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(message);
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Repeats `attempt` until it succeeds or fails for good; the step's deadline bounds it.
    async fn persist<T, E, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, Failure>
    where
        E: Into<Trouble>,
        F: Future<Output = Result<T, E>>,
    {
        let mut pause = RETRY_PAUSE;
        loop {
            match attempt().await.map_err(Into::into) {
                Ok(done) => return Ok(done),
                Err(Trouble::Final(failure)) => return Err(failure),
                Err(Trouble::Passing(message)) => self.note_trouble(message),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }
}

/// What went wrong in one attempt.
#[derive(Debug)]
enum Trouble {
    /// May go away by itself.
    Passing(String),
    /// Will not.
    Final(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

/// Does a step from report to report. Ends without a word when the claim or the plan is gone: whoever holds them now
/// goes on.
pub(crate) async fn run(context: &Context, job: &Job) {
    if let Err(rejection) = report(context, job, StepReport::Started).await {
        tracing::info!(node.id = %job.node, %rejection, "step not begun");
        tokio::time::sleep(RETRY_PAUSE).await;
        return;
    }
    let Some(Begun { resume, left }) = begun_here(context, job) else { return };
    let outcome = tokio::time::timeout(left, perform(context, job, resume)).await;
    context.progress.clear(job.node);
    let last = match outcome {
        Ok(Ok(result)) => StepReport::Completed(Box::new(result)),
        Ok(Err(Failure { reason, message })) => StepReport::Failed { reason, message },
        Err(_) => timed_out(job),
    };
    if let Err(rejection) = report(context, job, last).await {
        tracing::info!(node.id = %job.node, %rejection, "step's end not taken");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

fn timed_out(job: &Job) -> StepReport {
    let limit = job.step.limit().as_secs();
    let because = job.trouble().map_or_else(String::new, |trouble| format!("; last: {trouble}"));
    StepReport::Failed {
        reason: "TIMED_OUT".to_owned(),
        message: format!(
            "gave up on {} after {limit} s while waiting for {}{because}",
            job.step,
            job.step.waits_for()
        ),
    }
}

fn begun_here(context: &Context, job: &Job) -> Option<Begun> {
    begun(context.replica.state().node(job.node)?, Timestamp::from(SystemTime::now()))
}

async fn report(context: &Context, job: &Job, report: StepReport) -> Result<(), Rejection> {
    let body = CommandBody::ReportStep {
        node: job.node,
        epoch: job.epoch,
        plan: job.plan,
        index: job.index,
        report,
    };
    context.propose(body).await
}

async fn perform(context: &Context, job: &Job, resume: bool) -> Result<StepResult, Failure> {
    match &job.step {
        Step::VerifyPower => hardware::verify_power(context, job).await,
        Step::PrepareImage => image::prepare(context, job).await,
        Step::Deploy
        | Step::PrepareCleaning
        | Step::PrepareInspection
        | Step::PrepareRescue
        | Step::PrepareService => boot_agent::run(context, job, resume).await,
        Step::Rescue => rescue::run(context, job, resume).await,
        Step::PowerOn(_) => universal::power_on(context, job).await,
        Step::Reboot(_) => universal::reboot(context, job).await,
        Step::Hold(_) => universal::hold().await,
        Step::Wait(step) => universal::wait(context, job, step).await,
        Step::WriteImage => image::write(context, job, resume).await,
        Step::RunPlaybook => playbook::run(context, job).await,
        Step::PinContainer => container::pin(context, job).await,
        Step::ExecuteBootcInstall => container::install(context, job, resume).await,
        Step::WriteConfigdrive => image::write_config_drive(context, job, resume).await,
        Step::EraseDevicesMetadata => agent_task::erase_metadata(context, job, resume).await,
        Step::EraseDevices => agent_task::erase(context, job, resume).await,
        Step::PrepareInstanceBoot => hardware::boot_from_disk(context, job).await,
        Step::TearDownAgent | Step::TearDownCleaning | Step::TearDownService => {
            agent_task::sync(context, job, resume).await?;
            hardware::power_off(context, job).await
        }
        Step::BootRamdisk => ramdisk::boot(context, job).await,
        Step::TearDown => ramdisk::tear_down(context, job).await,
        Step::TearDownInspection | Step::TearDownRescue | Step::PowerOff(_) => {
            hardware::power_off(context, job).await
        }
        Step::BootInstance => hardware::boot_instance(context, job).await,
        Step::Plugin(step) => plugin::run(context, job, step).await,
    }
}

/// The node as it is now.
fn node_of(context: &Context, job: &Job) -> Result<Node, Failure> {
    context
        .replica
        .state()
        .node(job.node)
        .cloned()
        .ok_or_else(|| Failure::new("NODE_NOT_FOUND", format!("node {} is gone", job.node)))
}
