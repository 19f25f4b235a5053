//! Values on the command line: `KEY=VALUE`, durations, and what every request that changes something takes.

use std::str::FromStr;
use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use uuid::Uuid;

/// `KEY=VALUE`. The value is JSON when it reads as such, as in Ironic's client, and text otherwise. `KEY=@FILE` takes the text of
/// a file, without the white space at its end: others on the machine see arguments, which are no place for a password.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyValue {
    /// Before the first `=`.
    pub key: String,
    /// After it.
    pub value: serde_json::Value,
}

impl FromStr for KeyValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = Self::split(text)?;
        let value = match value.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| format!("cannot read {path}: {error}"))?
                .trim_end()
                .into(),
            None => serde_json::from_str(value).unwrap_or_else(|_| value.into()),
        };
        Ok(Self { key: key.to_owned(), value })
    }
}

impl KeyValue {
    /// Key and value as they stand there.
    pub(crate) fn split(text: &str) -> Result<(&str, &str), String> {
        text.split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| "is not of the form KEY=VALUE".to_owned())
    }
}

/// The pairs as an object; none when there are none.
pub(crate) fn object(pairs: &[KeyValue]) -> Option<Struct> {
    let fields = pairs.iter().map(|pair| (pair.key.clone(), to_proto(&pair.value)));
    (!pairs.is_empty()).then(|| Struct { fields: fields.collect() })
}

/// JSON as the API takes it.
pub(crate) fn to_proto(value: &serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(*value),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::MAX)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.iter().map(to_proto).collect() })
        }
        serde_json::Value::Object(object) => Kind::StructValue(to_struct(object)),
    };
    Value { kind: Some(kind) }
}

/// A JSON object as the API takes it.
pub(crate) fn to_struct(object: &serde_json::Map<String, serde_json::Value>) -> Struct {
    Struct { fields: object.iter().map(|(key, value)| (key.clone(), to_proto(value))).collect() }
}

/// `90`, `90s`, `10m`, `2h` or `30d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds_each = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return Err("is not of the form 90, 90s, 10m, 2h or 30d".to_owned()),
    };
    let number: u64 =
        number.parse().map_err(|_| "is not of the form 90, 90s, 10m, 2h or 30d".to_owned())?;
    Ok(Duration::from_secs(number.saturating_mul(seconds_each)))
}

/// What every request that changes something takes.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Mutation {
    /// Identity of the command: sent again, it answers with the first outcome and changes nothing. Drawn when not
    /// given
    #[arg(long, value_name = "UUID", help_heading = "Safety")]
    command_id: Option<Uuid>,
}

impl Mutation {
    /// The command id, drawn once so that retries of the call are safe.
    pub(crate) fn command_id(&self) -> String {
        self.command_id.unwrap_or_else(Uuid::now_v7).to_string()
    }

    /// Whether the caller has chosen it.
    pub(crate) const fn is_given(&self) -> bool {
        self.command_id.is_some()
    }
}

/// Refuses the request when the node has changed since it was read.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Version {
    /// Only if the node still has this version
    #[arg(
        long,
        value_name = "N",
        default_value_t,
        hide_default_value = true,
        help_heading = "Safety"
    )]
    pub version: u64,
}

/// Whether to wait for what was asked.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Wait {
    /// Wait until the node rests, and show its progress
    #[arg(long, help_heading = "Waiting")]
    pub wait: bool,
    /// Longest wait: 90, 90s, 10m, 2h. Without it, as long as it takes
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait",
          help_heading = "Waiting")]
    pub timeout: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_json_where_they_read_as_json() {
        let cases = [
            ("memory_mb=4096", "memory_mb", json!(4096)),
            ("boot=true", "boot", json!(true)),
            ("address=10.0.0.1", "address", json!("10.0.0.1")),
            ("pin=\"0042\"", "pin", json!("0042")),
            ("hints={\"size\": 10}", "hints", json!({"size": 10})),
            ("query=a=b", "query", json!("a=b")),
            ("empty=", "empty", json!("")),
        ];
        for (text, key, value) in cases {
            assert_eq!(text.parse(), Ok(KeyValue { key: key.into(), value }), "{text}");
        }
        for wrong in ["", "key", "=value"] {
            wrong.parse::<KeyValue>().unwrap_err();
        }
    }

    #[test]
    fn durations_have_seconds_minutes_hours_and_days() {
        let cases = [("90", 90), ("90s", 90), ("10m", 600), ("2h", 7200), ("30d", 2_592_000)];
        for (text, seconds) in cases {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "s", "1w", "-1", "1.5s", "99999999999999999999"] {
            duration(wrong).unwrap_err();
        }
    }

    #[test]
    fn no_pairs_are_no_object() {
        assert_eq!(object(&[]), None);
        assert_eq!(object(&["a=1".parse().unwrap()]).unwrap().fields.len(), 1);
    }
}
