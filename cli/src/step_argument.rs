//! Steps on the command line: a list as JSON or YAML, or the path of a file with it.

use std::str::FromStr;

use bessemer_proto::v1::RequestedStep;
use serde::Deserialize;

use crate::arguments::to_struct;

/// Steps that are asked for, in Ironic's form.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RequestedSteps(pub Vec<RequestedStep>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    #[serde(default)]
    interface: String,
    step: String,
    #[serde(default)]
    args: serde_json::Map<String, serde_json::Value>,
    /// Whether it may be left out is the API's to say.
    priority: Option<u32>,
    #[serde(default)]
    limit_seconds: u64,
}

impl FromStr for RequestedSteps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_list = text.trim_start().starts_with('[');
        let list = if is_list {
            text.to_owned()
        } else {
            std::fs::read_to_string(text).map_err(|error| format!("cannot be read: {error}"))?
        };
        let steps: Vec<Given> = serde_norway::from_str(&list)
            .map_err(|error| format!("is no list of steps with `step` and the like: {error}"))?;
        Ok(Self(steps.into_iter().map(Given::into_proto).collect()))
    }
}

impl Given {
    fn into_proto(self) -> RequestedStep {
        RequestedStep {
            interface: self.interface,
            step: self.step,
            args: (!self.args.is_empty()).then(|| to_struct(&self.args)),
            priority: self.priority,
            limit_seconds: self.limit_seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_given_as_it_is_or_by_its_file() {
        let json =
            r#"[{"interface": "deploy", "step": "burn_in", "args": {"days": 2}, "priority": 90}]"#;
        let given: RequestedSteps = json.parse().unwrap();
        assert_eq!(given.0[0].args.as_ref().unwrap().fields.len(), 1);
        assert_eq!(given.0[0].priority, Some(90));
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("steps.yaml");
        std::fs::write(
            &file,
            "- step: burn_in\n  interface: deploy\n  args: {days: 2}\n  priority: 90\n",
        )
        .unwrap();
        assert_eq!(file.to_str().unwrap().parse::<RequestedSteps>().unwrap(), given);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, said) in [
            (r#"[{"priority": 1}]"#, "missing field `step`"),
            (r#"[{"step": "a", "priority": 1, "arguments": {}}]"#, "unknown field `arguments`"),
            ("steps.yaml", "cannot be read"),
        ] {
            let error = text.parse::<RequestedSteps>().unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
