//! Steps of plug-ins: what operators ask for, and what agents offer.

use bessemer_domain::Invalid;
use bessemer_domain::node::{
    Argument, ArgumentType, OfferedStep, REQUESTED_STEPS_MAX, RequestedStep, UniversalStep,
};
use bessemer_proto::v1;

use crate::{json, mask};

/// The interface that every step of a deployment belongs to.
const INTERFACE: &str = "deploy";

pub(crate) fn requested_to_proto(step: &RequestedStep) -> v1::RequestedStep {
    v1::RequestedStep {
        interface: INTERFACE.to_owned(),
        step: step.step.clone(),
        args: (!step.args.is_empty()).then(|| json::to_proto(&step.args)),
        priority: Some(step.priority),
        limit_seconds: step.limit_seconds.unwrap_or_default(),
    }
}

/// The same for somebody to look at: secrets among the arguments masked.
pub(crate) fn masked_to_proto(step: &RequestedStep) -> v1::RequestedStep {
    let args = mask::masked(&step.args);
    requested_to_proto(&RequestedStep { args, ..step.clone() })
}

/// The steps under `field`. Their names, sizes and priorities are the domain's to judge.
pub(crate) fn requested_from_proto(
    field: &str,
    steps: &[v1::RequestedStep],
) -> Result<Vec<RequestedStep>, Invalid> {
    converted(field, steps, |_| {
        let reason = "is required: higher comes first, 0 leaves a step out";
        Err(Invalid::new("priority", "", reason))
    })
}

/// The same for a list in which a step without a priority comes where it stands.
pub(crate) fn ordered_from_proto(
    field: &str,
    steps: &[v1::RequestedStep],
) -> Result<Vec<RequestedStep>, Invalid> {
    let below = |place: usize| u32::try_from(place).map_or(1, |place| 98_u32.saturating_sub(place));
    converted(field, steps, |place| Ok(below(place)))
}

/// The steps that a service is asked for. Whether they are any, and where they may be, is the domain's to judge.
///
/// # Errors
/// [`Invalid`] with the field's path from the request.
pub fn service_steps_from_proto(
    request: &v1::ServiceNodeRequest,
) -> Result<Vec<RequestedStep>, Invalid> {
    ordered_from_proto("service_steps", &request.service_steps)
}

fn converted(
    field: &str,
    steps: &[v1::RequestedStep],
    priority_at: impl Fn(usize) -> Result<u32, Invalid>,
) -> Result<Vec<RequestedStep>, Invalid> {
    let count = steps.len();
    if count > REQUESTED_STEPS_MAX {
        let reason = format!("are more than {REQUESTED_STEPS_MAX}");
        return Err(Invalid::new(field, &count.to_string(), reason));
    }
    steps
        .iter()
        .enumerate()
        .map(|(place, step)| {
            one_from_proto(step, || priority_at(place))
                .map_err(|it| it.under(&format!("{field}[{place}]")))
        })
        .collect()
}

fn one_from_proto(
    step: &v1::RequestedStep,
    priority: impl FnOnce() -> Result<u32, Invalid>,
) -> Result<RequestedStep, Invalid> {
    // Universal steps belong to none.
    let is_universal = UniversalStep::named(&step.step).is_some() && step.interface == "power";
    if !is_universal && !["", INTERFACE].contains(&step.interface.as_str()) {
        let reason = "is not `deploy`, the only interface whose steps can be asked for";
        return Err(Invalid::new("interface", &step.interface, reason));
    }
    let priority = step.priority.map_or_else(priority, Ok)?;
    let args = json::from_proto("args", step.args.as_ref())?;
    if let Some((name, _)) = args.iter().find(|(name, value)| mask::holds_mask(name, value)) {
        let reason =
            "is the mask of a secret, which a list of steps does not have; give the secret";
        return Err(Invalid::new(&format!("args.{name}"), mask::MASK, reason));
    }
    Ok(RequestedStep {
        step: step.step.clone(),
        args,
        priority,
        limit_seconds: Some(step.limit_seconds).filter(|limit| *limit != 0),
    })
}

/// A step of a plug-in as a message.
#[must_use]
pub fn offered_to_proto(step: &OfferedStep) -> v1::OfferedStep {
    let args = step.args.iter().map(|(name, argument)| {
        let argument = v1::StepArgument {
            r#type: argument.kind.as_str().to_owned(),
            required: argument.required,
            description: argument.description.clone(),
        };
        (name.clone(), argument)
    });
    v1::OfferedStep {
        name: step.name.clone(),
        priority: step.priority,
        description: step.description.clone(),
        args: args.collect(),
        repeatable: step.repeatable,
    }
}

/// A step of a plug-in in a message. An argument of a type that is not known here can be given no value, so it is left out.
#[must_use]
pub fn offered_from_proto(step: v1::OfferedStep) -> OfferedStep {
    let args = step.args.into_iter().filter_map(|(name, argument)| {
        let (_, kind) = ArgumentType::ALL.iter().find(|(known, _)| *known == argument.r#type)?;
        let argument = Argument {
            kind: *kind,
            required: argument.required,
            description: argument.description,
        };
        Some((name, argument))
    });
    OfferedStep {
        name: step.name,
        priority: step.priority,
        description: step.description,
        args: args.collect(),
        repeatable: step.repeatable,
    }
}

#[cfg(test)]
mod tests {
    use bessemer_domain::node::JsonMap;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn requests_come_back(
            step in "[a-z_]{1,8}", version in ".{0,6}", priority: u32, limit in 0_u64..9,
        ) {
            let request = RequestedStep {
                step,
                args: JsonMap::from_iter([("version".to_owned(), version.into())]),
                priority,
                limit_seconds: Some(limit).filter(|limit| *limit != 0),
            };
            let back = requested_from_proto("deploy_steps", &[requested_to_proto(&request)]);
            prop_assert_eq!(back.unwrap(), vec![request]);
        }

        #[test]
        fn offers_come_back(
            name in ".{0,6}", description in ".{0,6}", priority: u32, repeatable: bool, required: bool,
            kind in 0..ArgumentType::ALL.len(), argument in ".{0,6}",
        ) {
            let kind = ArgumentType::ALL[kind].1;
            let args = [(argument, Argument { kind, required, description: description.clone() })];
            let step =
                OfferedStep { name, priority, description, args: args.into(), repeatable };
            prop_assert_eq!(offered_from_proto(offered_to_proto(&step)), step);
        }
    }

    #[test]
    fn what_is_wrong_is_refused_by_the_place_of_its_step() {
        let step =
            || v1::RequestedStep { step: "a".into(), priority: Some(90), ..Default::default() };
        let cases = [
            (v1::RequestedStep { interface: "raid".into(), ..step() }, "deploy_steps[1].interface"),
            (v1::RequestedStep { priority: None, ..step() }, "deploy_steps[1].priority"),
        ];
        for (wrong, field) in cases {
            let error = requested_from_proto("deploy_steps", &[step(), wrong]).unwrap_err();
            assert_eq!(error.field, field);
        }
    }
}
