//! Secrets in `driver_info` and `instance_info`: hidden on the way out, put back on the way in.

use bessemer_domain::Invalid;
use bessemer_domain::node::JsonMap;
use serde_json::Value;

/// Stands for a secret. Sent back for a secret's key, it means the secret that is there.
pub const MASK: &str = "******";

/// A key that holds one of these holds a secret, whatever the hardware type.
const SECRET_WORDS: &[&str] = &["password", "passwd", "secret", "token", "key", "credential"];

/// Whether what stands under a key is a secret.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| key.contains(word))
}

/// The object with a mask in the place of every secret, however deep.
#[must_use]
pub fn masked(object: &JsonMap) -> JsonMap {
    object.iter().map(|(key, value)| (key.clone(), masked_value(key, value))).collect()
}

pub(crate) fn masked_value(key: &str, value: &Value) -> Value {
    match value {
        _ if is_secret(key) => MASK.into(),
        Value::Object(object) => masked(object).into(),
        Value::Array(items) => items.iter().map(|item| masked_value(key, item)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// Whether any secret was sent back masked.
pub(crate) fn holds_mask(key: &str, value: &Value) -> bool {
    match value {
        Value::String(text) => is_secret(key) && text == MASK,
        Value::Object(object) => object.iter().any(|(key, value)| holds_mask(key, value)),
        Value::Array(items) => items.iter().any(|item| holds_mask(key, item)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The value with the secrets of `current`, which stands in the same place, where a mask was sent back.
///
/// # Errors
/// [`Invalid`] when there is no such secret: the caller would store the mask.
pub(crate) fn restored(
    field: &str,
    key: &str,
    value: Value,
    current: Option<&Value>,
) -> Result<Value, Invalid> {
    if !holds_mask(key, &value) {
        return Ok(value);
    }
    match value {
        Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| {
                let current = current.and_then(|current| current.get(&key));
                let value = restored(&format!("{field}.{key}"), &key, value, current)?;
                Ok((key, value))
            })
            .collect(),
        Value::Array(items) => items
            .into_iter()
            .enumerate()
            .map(|(place, item)| {
                restored(field, key, item, current.and_then(|current| current.get(place)))
            })
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            current.cloned().ok_or_else(|| {
                Invalid::new(
                    field,
                    MASK,
                    "is the mask of a secret that is not there; give the secret",
                )
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> JsonMap {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn secrets_are_hidden_at_any_depth_and_nothing_else_is() {
        let info = object(&json!({
            "redfish_address": "https://bmc", "redfish_password": "hunter2", "ipmi_hex_kg_KEY": 7,
            "snmp": {"auth_token": "t", "port": 161}, "list": [{"secret": 1}, "x"],
        }));
        let shown = masked(&info);
        let expected = json!({
            "redfish_address": "https://bmc", "redfish_password": MASK, "ipmi_hex_kg_KEY": MASK,
            "snmp": {"auth_token": MASK, "port": 161}, "list": [{"secret": MASK}, "x"],
        });
        assert_eq!(Value::Object(shown), expected);
    }

    #[test]
    fn a_mask_sent_back_is_the_secret_that_is_there() {
        let current = json!({"password": "hunter2", "list": [{"token": "t"}], "port": 1});
        let sent = json!({"password": MASK, "list": [{"token": MASK}], "port": 2});
        let back = restored("info", "info", sent, Some(&current)).unwrap();
        assert_eq!(back, json!({"password": "hunter2", "list": [{"token": "t"}], "port": 2}));
    }

    #[test]
    fn a_mask_of_nothing_is_refused_by_name() {
        let sent = json!({"password": MASK});
        let error = restored("info", "info", sent, Some(&json!({}))).unwrap_err();
        assert_eq!(error.field, "info.password");
    }

    #[test]
    fn six_stars_where_no_secret_is_are_six_stars() {
        assert!(!holds_mask("description", &MASK.into()));
    }
}
