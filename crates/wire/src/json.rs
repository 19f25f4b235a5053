//! JSON objects: `google.protobuf.Struct` outside, `serde_json` inside.

use bessemer_domain::Invalid;
use bessemer_domain::node::JsonMap;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};

/// Largest JSON object of a resource, encoded: what Ironic's database columns hold.
const OBJECT_BYTES_MAX: usize = 64 * 1024;

/// From here on, whole numbers that a double holds stand for others too: 2^53.
const EXACT_INTEGERS_MAX: f64 = 9_007_199_254_740_992.0;

/// The object as a message. A whole number beyond 2^53 comes out as the nearest double.
#[must_use]
pub fn to_proto(object: &JsonMap) -> Struct {
    Struct {
        fields: object.iter().map(|(key, value)| (key.clone(), value_to_proto(value))).collect(),
    }
}

pub(crate) fn value_to_proto(value: &serde_json::Value) -> Value {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(*value),
        // Without serde_json's `arbitrary_precision`, every number has a nearest double.
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::MAX)),
        serde_json::Value::String(text) => Kind::StringValue(text.clone()),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.iter().map(value_to_proto).collect() })
        }
        serde_json::Value::Object(object) => Kind::StructValue(to_proto(object)),
    };
    Value { kind: Some(kind) }
}

/// The object in a message; empty when there is none. Whole numbers up to 2^53 become integers.
pub(crate) fn from_proto(field: &str, object: Option<&Struct>) -> Result<JsonMap, Invalid> {
    let Some(object) = object else {
        return Ok(JsonMap::new());
    };
    let bytes = object.encoded_len();
    if bytes > OBJECT_BYTES_MAX {
        let reason = format!("is larger than {OBJECT_BYTES_MAX} bytes");
        return Err(Invalid::new(field, &format!("{bytes} bytes"), reason));
    }
    object_from_proto(field, object)
}

/// Recursion is bounded by prost, which decodes no message deeper than 100 levels.
pub(crate) fn object_from_proto(field: &str, object: &Struct) -> Result<JsonMap, Invalid> {
    object
        .fields
        .iter()
        .map(|(key, value)| Ok((key.clone(), value_from_proto(&format!("{field}.{key}"), value)?)))
        .collect()
}

fn value_from_proto(field: &str, value: &Value) -> Result<serde_json::Value, Invalid> {
    Ok(match &value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::NumberValue(number)) => number_from_proto(field, *number)?.into(),
        Some(Kind::StringValue(text)) => text.clone().into(),
        Some(Kind::ListValue(list)) => list
            .values
            .iter()
            .map(|item| value_from_proto(field, item))
            .collect::<Result<_, _>>()?,
        Some(Kind::StructValue(object)) => object_from_proto(field, object)?.into(),
    })
}

fn number_from_proto(field: &str, number: f64) -> Result<serde_json::Number, Invalid> {
    if number.fract() == 0.0 && number.abs() <= EXACT_INTEGERS_MAX {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "whole and within 2^53, checked above"
        )]
        return Ok((number as i64).into());
    }
    serde_json::Number::from_f64(number)
        .ok_or_else(|| Invalid::new(field, &number.to_string(), "is not a number that JSON knows"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values() -> impl Strategy<Value = serde_json::Value> {
        let leaves = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            (-9_007_199_254_740_992_i64..=9_007_199_254_740_992).prop_map(Into::into),
            any::<f64>()
                .prop_filter("JSON knows it and it is not whole", |n| n.fract() != 0.0)
                .prop_map(Into::into),
            ".{0,8}".prop_map(Into::into),
        ];
        leaves.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                proptest::collection::btree_map("[a-z]{1,4}", inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn objects_come_back(value in values()) {
            let object = JsonMap::from_iter([("key".to_owned(), value)]);
            prop_assert_eq!(from_proto("extra", Some(&to_proto(&object))).unwrap(), object);
        }
    }

    #[test]
    fn whole_numbers_stay_whole() {
        let object = json!({"memory_mb": 65536, "ratio": 0.5}).as_object().unwrap().clone();
        let back = from_proto("properties", Some(&to_proto(&object))).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), r#"{"memory_mb":65536,"ratio":0.5}"#);
    }

    #[test]
    fn what_json_does_not_know_is_refused_by_name() {
        let value = Value { kind: Some(Kind::NumberValue(f64::NAN)) };
        let object = Struct { fields: [("speed".to_owned(), value)].into() };
        let error = from_proto("spec.extra", Some(&object)).unwrap_err();
        assert_eq!(error.field, "spec.extra.speed");
    }

    #[test]
    fn an_object_that_is_too_large_is_refused() {
        let object = json!({"blob": "x".repeat(OBJECT_BYTES_MAX)}).as_object().unwrap().clone();
        let error = from_proto("spec.extra", Some(&to_proto(&object))).unwrap_err();
        assert_eq!(error.field, "spec.extra");
    }
}
