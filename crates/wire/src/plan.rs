//! Plans of steps.

use bessemer_domain::node::{Plan, PlannedStep, StepStatus};
use bessemer_proto::v1;

use crate::time;

pub(crate) fn to_proto(plan: &Plan) -> v1::Plan {
    v1::Plan {
        id: plan.id.to_string(),
        kind: plan.kind.to_string(),
        steps: plan.steps.iter().map(step_to_proto).collect(),
    }
}

fn step_to_proto(planned: &PlannedStep) -> v1::Step {
    let mut step = v1::Step {
        interface: planned.step.interface().to_owned(),
        name: planned.step.name().to_owned(),
        priority: planned.step.priority(),
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
