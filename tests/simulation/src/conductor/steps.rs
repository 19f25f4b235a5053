//! Doing the steps of plans, in the order of the service: each looks first, acts if need be, and says what is so.

use std::rc::Rc;
use std::time::Duration;

use bessemer_domain::effects::{Begun, begun};
use bessemer_domain::ids::{NodeId, PlanId};
use bessemer_domain::node::{
    Deployment, Inventory, PowerState, Step, StepReport, StepResult, WriteReport,
};
use bessemer_domain::task::{Start, task_id};
use bessemer_domain::{CommandBody, Rejection};
use futures::future::Either;

use super::Conductor;
use super::sessions::Session;
use crate::agent::{Report, Task};
use crate::disk::Image;
use crate::executor::race;
use crate::image_cache::PrepareError;
use crate::machine::{BootDevice, Order};

const RETRY_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// How long an agent that a predecessor may have booted has to come back.
const RETURN_LIMIT: Duration = Duration::from_secs(15);

/// Patience with agents, shorter than by default: machines boot fast here.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const SILENCE_LIMIT: Duration = Duration::from_secs(20);

/// A step to be done under a claim.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) node: NodeId,
    pub(super) epoch: u64,
    pub(super) plan: PlanId,
    pub(super) index: usize,
    pub(super) step: Step,
}

struct Failure {
    reason: String,
    message: String,
}

impl Failure {
    fn new(reason: &str, message: &str) -> Self {
        Self { reason: reason.to_owned(), message: message.to_owned() }
    }
}

impl Conductor {
    pub(super) async fn run_step(self: &Rc<Self>, job: &Job) {
        if let Err(rejection) = self.report(job, StepReport::Started).await {
            self.note(&format!("{} not begun: {rejection}", job.step));
            self.world.exec.sleep(RETRY_PAUSE).await;
            return;
        }
        let here = self.replica.get().node(job.node).and_then(|node| begun(node, self.now()));
        let Some(Begun { resume, left }) = here else { return };
        let last = match self.world.exec.timeout(left, self.perform_step(job, resume)).await {
            Some(Ok(result)) => StepReport::Completed(Box::new(result)),
            Some(Err(Failure { reason, message })) => StepReport::Failed { reason, message },
            None => {
                let message = format!("gave up on {}", job.step);
                StepReport::Failed { reason: "TIMED_OUT".to_owned(), message }
            }
        };
        if let Err(rejection) = self.report(job, last).await {
            self.note(&format!("end of {} not taken: {rejection}", job.step));
            self.world.exec.sleep(RETRY_PAUSE).await;
        }
    }

    async fn report(self: &Rc<Self>, job: &Job, report: StepReport) -> Result<(), Rejection> {
        let Job { node, epoch, plan, index, .. } = *job;
        self.propose(CommandBody::ReportStep { node, epoch, plan, index, report }).await
    }

    async fn perform_step(self: &Rc<Self>, job: &Job, resume: bool) -> Result<StepResult, Failure> {
        match &job.step {
            Step::VerifyPower => {
                let state = self.order(job, Order::ReadPower).await;
                Ok(StepResult::Power(state))
            }
            Step::PrepareImage => {
                self.prepare(job).await.map(|it| StepResult::Image(it.resolved()))
            }
            Step::Deploy
            | Step::PrepareCleaning
            | Step::PrepareInspection
            | Step::PrepareRescue
            | Step::PrepareService => {
                let patience = if resume { RETURN_LIMIT } else { Duration::ZERO };
                self.connected(job, patience).await?;
                Ok(StepResult::Agent(Inventory::default()))
            }
            Step::WriteImage => {
                let image = self.prepare(job).await?;
                self.agent_task(job, resume, Task::Write(image)).await?;
                Ok(StepResult::Written(written(image)))
            }
            Step::WriteConfigdrive => {
                self.agent_task(job, resume, Task::Sync).await.map(|()| StepResult::Done)
            }
            Step::Plugin(_) => {
                self.agent_task(job, resume, Task::Plugin).await?;
                Ok(StepResult::Plugin(Default::default()))
            }
            Step::EraseDevicesMetadata => {
                self.agent_task(job, resume, Task::Erase).await?;
                Ok(StepResult::Erased(Vec::new()))
            }
            Step::EraseDevices => {
                self.agent_task(job, resume, Task::Erase).await?;
                Ok(StepResult::ErasedDevices(Vec::new()))
            }
            // What a playbook does is nothing to the disk here.
            Step::RunPlaybook | Step::PinContainer | Step::ExecuteBootcInstall => {
                Ok(StepResult::Done)
            }
            Step::PrepareInstanceBoot => {
                self.order(job, Order::Boot(BootDevice::Disk)).await;
                Ok(StepResult::Done)
            }
            // How a person is let in is nothing to the disk here.
            Step::Rescue => {
                self.agent_task(job, resume, Task::Sync).await.map(|()| StepResult::Done)
            }
            Step::PowerOn(_) => self.power_on(job, SILENCE_LIMIT).await,
            Step::Reboot(_) => {
                self.power_off(job).await;
                self.power_on(job, Duration::ZERO).await
            }
            Step::Hold(_) => std::future::pending().await,
            Step::Wait(step) => {
                match step.wait_seconds() {
                    Some(seconds) => self.world.exec.sleep(Duration::from_secs(seconds)).await,
                    None => drop(self.connected(job, SILENCE_LIMIT).await?),
                }
                Ok(StepResult::Done)
            }
            Step::TearDownAgent | Step::TearDownCleaning | Step::TearDownService => {
                self.sync(job, resume).await?;
                Ok(self.power_off(job).await)
            }
            Step::TearDown
            | Step::TearDownInspection
            | Step::TearDownRescue
            | Step::PowerOff(_) => Ok(self.power_off(job).await),
            Step::BootInstance | Step::BootRamdisk => {
                let state = self.order(job, Order::Power(PowerState::On)).await;
                Ok(StepResult::Power(state))
            }
        }
    }

    /// Switches the machine on: into an agent while one is to run.
    async fn power_on(
        self: &Rc<Self>,
        job: &Job,
        patience: Duration,
    ) -> Result<StepResult, Failure> {
        if self.replica.get().node(job.node).is_some_and(|node| node.expects_agent()) {
            self.connected(job, patience).await?;
        }
        Ok(StepResult::Power(self.order(job, Order::Power(PowerState::On)).await))
    }

    /// Has the BMC do something, again and again until it does.
    async fn order(self: &Rc<Self>, job: &Job, order: Order) -> PowerState {
        let mut pause = RETRY_PAUSE;
        loop {
            if order != Order::ReadPower {
                self.entitled(job.node, job.epoch).await;
            }
            if let Ok(state) = self.world.bmc(self.machine(job.node), job.epoch, order).await {
                return state;
            }
            self.world.exec.sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    async fn power_off(self: &Rc<Self>, job: &Job) -> StepResult {
        self.sessions.end(job.node);
        StepResult::Power(self.order(job, Order::Power(PowerState::Off)).await)
    }

    async fn prepare(&self, job: &Job) -> Result<Image, Failure> {
        let deployment = self.deployment(job)?;
        let image = deployment.spec.image.as_ref();
        let image = image.ok_or_else(|| Failure::new("IMAGE_MISSING", "there is none"))?;
        let mut pause = RETRY_PAUSE;
        loop {
            match self.world.prepare_image(image).await {
                Ok(image) => return Ok(image),
                Err(PrepareError::Refused) => {
                    return Err(Failure::new(
                        "IMAGE_CHECKSUM_MISMATCH",
                        "the image is not what was asked",
                    ));
                }
                Err(PrepareError::Unreachable) => self.world.exec.sleep(pause).await,
            }
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
        }
    }

    fn deployment(&self, job: &Job) -> Result<Deployment, Failure> {
        let state = self.replica.get();
        let deployment = state.node(job.node).and_then(|node| node.deployment.clone());
        deployment.ok_or_else(|| Failure::new("DEPLOYMENT_MISSING", "the node holds none"))
    }

    /// The node's session. A machine whose agent does not show up in time is booted into a new one.
    async fn connected(
        self: &Rc<Self>,
        job: &Job,
        patience: Duration,
    ) -> Result<Rc<Session>, Failure> {
        let mut limit = patience;
        loop {
            let session = self.sessions.connected(job.node);
            if let Some(session) = self.world.exec.timeout(limit, session).await {
                return Ok(session);
            }
            self.boot(job).await?;
            limit = BOOT_LIMIT;
        }
    }

    /// Starts the machine afresh from the ramdisk.
    async fn boot(self: &Rc<Self>, job: &Job) -> Result<(), Failure> {
        self.note("boots an agent");
        self.sessions.end(job.node);
        let reset = CommandBody::ResetAgent { node: job.node, epoch: job.epoch };
        self.propose(reset).await.map_err(|it| Failure::new("CLAIM_LOST", &it.to_string()))?;
        self.order(job, Order::Power(PowerState::Off)).await;
        self.order(job, Order::Boot(BootDevice::Ramdisk)).await;
        self.order(job, Order::Power(PowerState::On)).await;
        Ok(())
    }

    /// Has the agent do a task to its end, whatever becomes of sessions meanwhile.
    async fn agent_task(
        self: &Rc<Self>,
        job: &Job,
        mut resume: bool,
        task: Task,
    ) -> Result<(), Failure> {
        let task_id = task_id(job.plan, job.index);
        loop {
            let session = self.connected(job, SILENCE_LIMIT).await?;
            self.entitled(job.node, job.epoch).await;
            session.start(Start { task_id: task_id.clone(), epoch: job.epoch, resume, task });
            let end = session.update.until(|update| match update {
                Some((of, Report::Succeeded)) if *of == task_id => Some(Ok(())),
                Some((of, Report::Failed(reason))) if *of == task_id => {
                    Some(Err(Failure::new(reason, "the agent says so")))
                }
                Some(_) | None => None,
            });
            let over = session.is_over.until(|over| over.then_some(()));
            if let Either::Left(end) = race(end, over).await {
                return end;
            }
            // Whoever answers next may find work half done.
            resume = true;
        }
    }

    /// Has the disks flushed before the power goes. Once the machine is off there is nothing left to flush.
    async fn sync(self: &Rc<Self>, job: &Job, resume: bool) -> Result<(), Failure> {
        if resume && self.order(job, Order::ReadPower).await == PowerState::Off {
            return Ok(());
        }
        self.agent_task(job, resume, Task::Sync).await
    }
}

fn written(image: Image) -> WriteReport {
    WriteReport {
        device: "/dev/sda".to_owned(),
        image_bytes: image.resolved().raw_size_bytes,
        wire_bytes: 0,
        refused_chunks: 0,
        resumed_bytes: 0,
        duration_milliseconds: 0,
        agent_peak_rss_bytes: 0,
        root_uuid: None,
    }
}
