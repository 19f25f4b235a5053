//! The provision verbs.

use super::Decision;
use super::node::refuse_protected;
use crate::command::ProvisionVerb;
use crate::event::{Event, Subject};
use crate::node::{
    DeployInterface, Deployment, DeploymentSpec, Node, POWER_CHANGE_LIMIT, Plan, PowerTarget,
    ProvisionState, Step, Trigger, Verb, check_clean_steps, check_service_steps,
};
use crate::{Command, Invalid, Rejection, State};

pub(super) fn decide(
    state: &State,
    command: &Command,
    node: &Node,
    verb: &ProvisionVerb,
) -> Decision {
    let name = verb_of(verb);
    let Some(to) = node.provision.state.after(Trigger::Verb(name)) else {
        return Err(Rejection::IllegalTransition {
            node: node.label(),
            state: node.provision.state,
            verb: name.to_string(),
            allowed: node.provision.state.verbs(),
        });
    };
    let events = match verb {
        ProvisionVerb::Manage if to == ProvisionState::Verifying => {
            vec![change(node, name, to), started(Plan::verify(command.id))]
        }
        ProvisionVerb::Manage if node.provision.state == ProvisionState::AdoptFailed => {
            vec![Event::DeploymentCleared {}, change(node, name, to)]
        }
        ProvisionVerb::Manage => vec![change(node, name, to)],
        ProvisionVerb::Inspect => {
            vec![change(node, name, to), started(Plan::inspect(command.id))]
        }
        ProvisionVerb::Adopt(spec) => {
            refuse_in_maintenance(node, name)?;
            vec![
                requested(state, command, node, spec)?,
                change(node, name, to),
                started(Plan::adopt(command.id)),
            ]
        }
        ProvisionVerb::Clean(steps) => {
            refuse_in_maintenance(node, name)?;
            clean(command, node, to, steps)?
        }
        ProvisionVerb::Provide => provide(command, node, to)?,
        ProvisionVerb::Deploy(spec) => deploy(state, command, node, name, spec)?,
        ProvisionVerb::Rebuild(spec) => rebuild(state, command, node, spec.as_deref())?,
        ProvisionVerb::Undeploy => {
            refuse_protected(node, name.as_str())?;
            replaced(node, name, to, Plan::undeploy(command.id, interface_of(node)))
        }
        ProvisionVerb::Rescue { password_hash } => {
            refuse_in_maintenance(node, name)?;
            let password_hash = password_hash.clone();
            let mut events = vec![Event::RescueRequested { password_hash }];
            events.extend(replaced(node, name, to, Plan::rescue(command.id)));
            events
        }
        ProvisionVerb::Unrescue => {
            refuse_in_maintenance(node, name)?;
            replaced(node, name, to, Plan::unrescue(command.id, interface_of(node)))
        }
        ProvisionVerb::Service(steps) => {
            refuse_in_maintenance(node, name)?;
            check_service_steps("service_steps", steps)?;
            replaced(node, name, to, Plan::service(command.id, steps, interface_of(node)))
        }
        ProvisionVerb::Unhold => super::step::unheld(command, node)?,
        ProvisionVerb::Abort => abort(state, command, node, to)?,
    };
    Ok(events.into_iter().map(|event| (Subject::Node(node.id), event)).collect())
}

/// A plan in the place of the one in progress, if there is one.
fn replaced(node: &Node, verb: Verb, to: ProvisionState, plan: Plan) -> Vec<Event> {
    let mut events = aborted(node, verb);
    events.extend([change(node, verb, to), started(plan)]);
    events
}

fn rebuild(
    state: &State,
    command: &Command,
    node: &Node,
    spec: Option<&DeploymentSpec>,
) -> Result<Vec<Event>, Rejection> {
    refuse_protected(node, Verb::Rebuild.as_str())?;
    let held = node.deployment.as_ref().map(|deployment| &deployment.spec);
    let Some(spec) = spec.or(held) else {
        let reason = format!("is required: node {} holds none to repeat", node.label());
        return Err(Invalid::new("deployment", "", reason).into());
    };
    deploy(state, command, node, Verb::Rebuild, spec)
}

/// Ends the work in progress. Where that is over and its machine is not back in its own system, it is booted into that.
fn abort(
    state: &State,
    command: &Command,
    node: &Node,
    to: ProvisionState,
) -> Result<Vec<Event>, Rejection> {
    let verb = Verb::Abort;
    if to.is_transient() {
        refuse_in_maintenance(node, verb)?;
        let plan = Plan::abort_service(command.id, interface_of(node));
        return Ok(replaced(node, verb, to, plan));
    }
    let mut events = aborted(node, verb);
    events.push(change(node, verb, to));
    // What runs on the machine must not go on without its plan.
    if node.current_step().is_some_and(|(plan, ..)| plan.occupies_machine()) {
        events.push(power_off(state));
    }
    Ok(events)
}

const fn verb_of(verb: &ProvisionVerb) -> Verb {
    match verb {
        ProvisionVerb::Manage => Verb::Manage,
        ProvisionVerb::Inspect => Verb::Inspect,
        ProvisionVerb::Adopt(_) => Verb::Adopt,
        ProvisionVerb::Clean(_) => Verb::Clean,
        ProvisionVerb::Provide => Verb::Provide,
        ProvisionVerb::Deploy(_) => Verb::Deploy,
        ProvisionVerb::Rebuild(_) => Verb::Rebuild,
        ProvisionVerb::Undeploy => Verb::Undeploy,
        ProvisionVerb::Abort => Verb::Abort,
        ProvisionVerb::Rescue { .. } => Verb::Rescue,
        ProvisionVerb::Unrescue => Verb::Unrescue,
        ProvisionVerb::Service(_) => Verb::Service,
        ProvisionVerb::Unhold => Verb::Unhold,
    }
}

fn provide(command: &Command, node: &Node, to: ProvisionState) -> Result<Vec<Event>, Rejection> {
    if let Some(reason) = &node.spec.retired {
        return Err(Rejection::Retired {
            node: node.label(),
            reason: reason.clone(),
            verb: Verb::Provide.to_string(),
        });
    }
    let into = change(node, Verb::Provide, to);
    if !is_cleaned(node) {
        return Ok(vec![
            into,
            Event::ProvisionStateChanged {
                from: to,
                to: ProvisionState::Available,
                trigger: Trigger::Done,
                target: None,
            },
        ]);
    }
    Ok(vec![into, started(Plan::clean(command.id))])
}

/// Whether a node is cleaned on its way to `available`. What `noop` leaves to others is left to them.
pub(super) fn is_cleaned(node: &Node) -> bool {
    node.spec.automated_clean != Some(false)
        && node.spec.deploy_interface() != DeployInterface::Noop
}

/// How what the node holds got onto it.
fn interface_of(node: &Node) -> DeployInterface {
    let held = node.deployment.as_ref().map(|deployment| deployment.spec.deploy_interface);
    held.unwrap_or_else(|| node.spec.deploy_interface())
}

/// Cleaning of the operator's choice: it leads back to where it began.
fn clean(
    command: &Command,
    node: &Node,
    to: ProvisionState,
    steps: &[Step],
) -> Result<Vec<Event>, Rejection> {
    if steps.is_empty() {
        return Err(Invalid::new("clean_steps", "", "is required: at least one step").into());
    }
    let plan = Plan::clean_manually(command.id, steps);
    let plugin_steps: Vec<_> = steps.iter().filter_map(|it| it.asked().cloned()).collect();
    check_clean_steps("plugin_steps", &plugin_steps)?;
    let change = Event::ProvisionStateChanged {
        from: node.provision.state,
        to,
        trigger: Trigger::Verb(Verb::Clean),
        target: Some(ProvisionState::Manageable),
    };
    Ok(vec![change, started(plan)])
}

fn deploy(
    state: &State,
    command: &Command,
    node: &Node,
    verb: Verb,
    spec: &DeploymentSpec,
) -> Result<Vec<Event>, Rejection> {
    refuse_in_maintenance(node, verb)?;
    Ok(vec![
        requested(state, command, node, spec)?,
        change(node, verb, ProvisionState::Deploying),
        started(Plan::deploy(command.id, &spec.detected())),
    ])
}

fn refuse_in_maintenance(node: &Node, verb: Verb) -> Result<(), Rejection> {
    match &node.maintenance {
        Some(maintenance) => Err(Rejection::InMaintenance {
            node: node.label(),
            reason: maintenance.reason.clone(),
            verb: verb.to_string(),
        }),
        None => Ok(()),
    }
}

/// The node holds this deployment from now on.
fn requested(
    state: &State,
    command: &Command,
    node: &Node,
    spec: &DeploymentSpec,
) -> Result<Event, Rejection> {
    let spec = spec.detected();
    spec.check()
        .and_then(|()| spec.check_bootable_by(node.spec.boot_interface()))
        .map_err(|invalid| invalid.under("deployment"))?;
    let deployment = Deployment {
        id: command.id,
        spec,
        requested_at: state.now(),
        image: None,
        write: None,
        container: None,
        install: None,
    };
    Ok(Event::DeploymentRequested { deployment: Box::new(deployment) })
}

/// Ends the plan in progress, if there is one.
fn aborted(node: &Node, verb: Verb) -> Vec<Event> {
    node.current_step()
        .map(|(plan, _, step)| Event::PlanAborted {
            message: format!("{} was ended by `{verb}` at step {}", plan.kind, step.step),
        })
        .into_iter()
        .collect()
}

fn change(node: &Node, verb: Verb, to: ProvisionState) -> Event {
    Event::ProvisionStateChanged {
        from: node.provision.state,
        to,
        trigger: Trigger::Verb(verb),
        target: to.target(),
    }
}

fn started(plan: Plan) -> Event {
    Event::PlanStarted { plan: Box::new(plan) }
}

/// Ends whatever runs on the machine.
pub(super) fn power_off(state: &State) -> Event {
    Event::PowerRequested { target: PowerTarget::Off, until: state.now() + POWER_CHANGE_LIMIT }
}
