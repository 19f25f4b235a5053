//! Steps that an agent offers: what its plug-ins say of themselves, and whether it is what a plan asks for.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RequestedStep;

/// A step of an agent's plug-in, as it describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferedStep {
    /// Its name.
    pub name: String,
    /// Where among others it is meant to be. The request decides.
    #[serde(default)]
    pub priority: u32,
    /// For a person.
    #[serde(default)]
    pub description: String,
    /// What it can be told.
    #[serde(default)]
    pub args: BTreeMap<String, Argument>,
    /// Whether it may be done again after it was cut off half way.
    #[serde(default)]
    pub repeatable: bool,
}

/// What a step can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Argument {
    /// Of what type it must be.
    #[serde(rename = "type")]
    pub kind: ArgumentType,
    /// Whether the step cannot do without.
    #[serde(default)]
    pub required: bool,
    /// For a person.
    #[serde(default)]
    pub description: String,
}

/// JSON's types, and whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArgumentType {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Values by name.
    Object,
    /// Values in order.
    Array,
}

impl ArgumentType {
    /// All of them, by name.
    pub const ALL: &'static [(&'static str, Self)] = &[
        ("string", Self::String),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("boolean", Self::Boolean),
        ("object", Self::Object),
        ("array", Self::Array),
    ];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }

    fn takes(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
        }
    }
}

impl fmt::Display for OfferedStep {
    /// `flash_nic (version: string, force: boolean, optional)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if self.args.is_empty() {
            return Ok(());
        }
        let args = self.args.iter().map(|(name, argument)| {
            let optional = if argument.required { "" } else { ", optional" };
            format!("{name}: {}{optional}", argument.kind.as_str())
        });
        write!(f, " ({})", args.collect::<Vec<_>>().join("; "))
    }
}

/// A step that the agent cannot do as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotOffered {
    /// `STEP_NOT_OFFERED` or `STEP_ARGUMENTS`.
    pub reason: &'static str,
    /// With what the agent offers.
    pub message: String,
}

/// Whether the agent offers every step that is asked for, with the arguments given.
///
/// # Errors
/// [`NotOffered`] for the first that it does not.
pub fn check_offered<'a>(
    requested: impl IntoIterator<Item = &'a RequestedStep>,
    offered: &[OfferedStep],
) -> Result<(), NotOffered> {
    for request in requested {
        let Some(step) = offered.iter().find(|step| step.name == request.step) else {
            let steps: Vec<_> = offered.iter().map(ToString::to_string).collect();
            let steps = if steps.is_empty() { "none".to_owned() } else { steps.join(", ") };
            let message =
                format!("the agent has no step `{}`; its plug-ins offer: {steps}", request.step);
            return Err(NotOffered { reason: "STEP_NOT_OFFERED", message });
        };
        if let Some(wrong) = wrong_argument(request, step) {
            let message = format!("step `{}`: {wrong}; the agent offers: {step}", request.step);
            return Err(NotOffered { reason: "STEP_ARGUMENTS", message });
        }
    }
    Ok(())
}

/// What a value is, without what it says: it may be a secret.
const fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn wrong_argument(request: &RequestedStep, step: &OfferedStep) -> Option<String> {
    for (name, value) in &request.args {
        match step.args.get(name) {
            None => return Some(format!("it takes no argument `{name}`")),
            Some(argument) if !argument.kind.takes(value) => {
                let kind = argument.kind.as_str();
                let found = kind_of(value);
                return Some(format!("argument `{name}` must be of type {kind}, and is {found}"));
            }
            Some(_) => {}
        }
    }
    let mut required = step.args.iter().filter(|(_, argument)| argument.required);
    let (missing, _) = required.find(|(name, _)| !request.args.contains_key(*name))?;
    Some(format!("argument `{missing}` is missing"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn offered() -> Vec<OfferedStep> {
        let steps = json!([
            {"name": "flash_nic", "priority": 90, "args": {
                "version": {"type": "string", "required": true},
                "attempts": {"type": "integer"},
            }},
            {"name": "burn_in"},
        ]);
        serde_json::from_value(steps).unwrap()
    }

    fn request(step: &str, args: Value) -> RequestedStep {
        let args = args.as_object().unwrap().clone();
        RequestedStep { step: step.to_owned(), args, priority: 90, limit_seconds: None }
    }

    #[test]
    fn what_is_offered_is_taken() {
        let requests = [
            request("burn_in", json!({})),
            request("flash_nic", json!({"version": "1.2", "attempts": 3})),
        ];
        assert_eq!(check_offered(&requests, &offered()), Ok(()));
        assert_eq!(check_offered(&[], &[]), Ok(()));
    }

    #[test]
    fn what_is_not_offered_is_refused_with_what_is() {
        let cases = [
            (request("flash", json!({})), "STEP_NOT_OFFERED", "no step `flash`"),
            (request("flash_nic", json!({})), "STEP_ARGUMENTS", "`version` is missing"),
            (
                request("flash_nic", json!({"version": 7})),
                "STEP_ARGUMENTS",
                "`version` must be of type string, and is a number",
            ),
            (
                request("flash_nic", json!({"version": "1", "attempts": 0.5})),
                "STEP_ARGUMENTS",
                "`attempts` must be of type integer",
            ),
            (request("burn_in", json!({"days": 1})), "STEP_ARGUMENTS", "takes no argument `days`"),
        ];
        for (request, reason, said) in cases {
            let refused = check_offered([&request], &offered()).unwrap_err();
            assert_eq!(refused.reason, reason);
            assert!(refused.message.contains(said), "{}", refused.message);
        }
        let refused = check_offered([&request("x", json!({}))], &offered()).unwrap_err();
        let listed = "offer: flash_nic (attempts: integer, optional; version: string), burn_in";
        assert!(refused.message.ends_with(listed), "{}", refused.message);
        let refused = check_offered([&request("x", json!({}))], &[]).unwrap_err();
        assert!(refused.message.ends_with("its plug-ins offer: none"), "{}", refused.message);
    }
}
