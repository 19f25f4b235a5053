//! Plans of steps.

use bessemer_domain::Invalid;
use bessemer_domain::node::{
    Plan, PlannedStep, RequestedStep, Step, StepStatus, check_clean_steps,
};
use bessemer_proto::v1;

use crate::{step, time};

pub(crate) fn to_proto(plan: &Plan) -> v1::Plan {
    v1::Plan {
        id: plan.id.to_string(),
        kind: plan.kind.to_string(),
        steps: plan.steps.iter().map(step_to_proto).collect(),
    }
}

/// Most steps that a cleaning is asked for; there are fewer.
const CLEAN_STEPS_MAX: usize = 32;

/// The steps that a cleaning is asked for.
///
/// # Errors
/// [`Invalid`] when one is unknown, or they are too many.
pub fn clean_steps_from_proto(request: &v1::CleanNodeRequest) -> Result<Vec<Step>, Invalid> {
    let count = request.clean_steps.len();
    if count > CLEAN_STEPS_MAX {
        let reason = format!("are more than {CLEAN_STEPS_MAX}");
        return Err(Invalid::new("clean_steps", &count.to_string(), reason));
    }
    let own = request.clean_steps.iter().map(|name| Step::clean_step(name));
    let mut steps = own.collect::<Result<Vec<_>, _>>()?;
    let plugin_steps = step::ordered_from_proto("plugin_steps", &request.plugin_steps)?;
    check_clean_steps("plugin_steps", &plugin_steps)?;
    steps.extend(plugin_steps.into_iter().map(Step::asked_for));
    Ok(steps)
}

/// The steps of a runbook that a cleaning is to do.
#[must_use]
pub fn clean_steps_of_runbook(steps: Vec<RequestedStep>) -> Vec<Step> {
    let own = |step: RequestedStep| {
        Step::clean_step(&step.step).unwrap_or_else(|_| Step::asked_for(step))
    };
    steps.into_iter().map(own).collect()
}

fn step_to_proto(planned: &PlannedStep) -> v1::Step {
    let mut step = v1::Step {
        interface: planned.step.interface().to_owned(),
        name: planned.step.name().to_owned(),
        priority: planned.priority(),
        ..v1::Step::default()
    };
    match &planned.status {
        StepStatus::Pending => step.set_state(v1::StepState::Pending),
        StepStatus::Running { attempt, started_at, until: _ } => {
            step.set_state(v1::StepState::Running);
            step.attempt = *attempt;
            step.started_at = Some(time::to_proto(*started_at));
        }
        StepStatus::Done { attempt, started_at, finished_at } => {
            step.set_state(v1::StepState::Done);
            step.attempt = *attempt;
            step.started_at = Some(time::to_proto(*started_at));
            step.finished_at = Some(time::to_proto(*finished_at));
        }
        StepStatus::Failed { attempt, started_at, finished_at, error } => {
            step.set_state(v1::StepState::Failed);
            step.attempt = *attempt;
            step.started_at = Some(time::to_proto(*started_at));
            step.finished_at = Some(time::to_proto(*finished_at));
            step.error.clone_from(error);
        }
    }
    step
}
