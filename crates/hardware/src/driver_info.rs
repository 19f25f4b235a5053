//! Reading a node's `driver_info`: every error names the key, none shows a secret.

use serde_json::{Map, Value};

use crate::HardwareError;

/// Stands for a secret's value.
pub(crate) const MASK: &str = "******";

/// A text, or nothing when the key is absent or null.
pub(crate) fn text<'a>(
    info: &'a Map<String, Value>,
    key: &'static str,
) -> Result<Option<&'a str>, HardwareError> {
    match info.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(wrong(key, other, "is not text; in JSON, text is in quotes")),
    }
}

/// A text that must be there and not be empty.
pub(crate) fn required<'a>(
    info: &'a Map<String, Value>,
    key: &'static str,
) -> Result<&'a str, HardwareError> {
    text(info, key)?
        .filter(|text| !text.is_empty())
        .ok_or(HardwareError::DriverInfoMissing { key, hint: "" })
}

/// A number, or a number as text: command lines give the latter.
pub(crate) fn number(
    info: &Map<String, Value>,
    key: &'static str,
    max: u64,
) -> Result<Option<u64>, HardwareError> {
    let number = match info.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.parse().ok(),
        Some(other) => other.as_u64(),
    };
    match number {
        Some(number) if number <= max => Ok(Some(number)),
        _ => Err(wrong(key, &info[key], "is not a number in its range")),
    }
}

/// The error for a key that holds something else than it may.
pub(crate) fn wrong(key: &'static str, value: &Value, reason: &'static str) -> HardwareError {
    let value = match value {
        _ if key.contains("password") => MASK.to_owned(),
        // An address with a password in it.
        Value::String(text) if text.contains('@') => MASK.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    HardwareError::DriverInfo { key, value, reason }
}
