//! Protocol messages as JSON and YAML: protobuf's own mapping, with the field names of the `.proto` files and numbers as
//! numbers.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::Value;

static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(bessemer_proto::FILE_DESCRIPTOR_SET)
        .expect("the descriptors were made by the build that made the messages")
});

/// A message of ours as JSON.
pub(crate) fn json<M: Message + Name>(message: &M) -> Value {
    let descriptor = DESCRIPTORS
        .get_message_by_name(&M::full_name())
        .expect("the descriptors hold every message of the build");
    let mut dynamic = DynamicMessage::new(descriptor);
    dynamic.transcode_from(message).expect("message and descriptor are of one build");
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    let value = dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .expect("messages hold only what JSON has");
    whole_numbers(value)
}

/// `google.protobuf.Struct` knows only doubles; 4096 was meant by 4096.0.
fn whole_numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() < EXACT => {
                (double as i64).into()
            }
            _ => number.into(),
        },
        Value::Array(items) => items.into_iter().map(whole_numbers).collect(),
        Value::Object(object) => {
            object.into_iter().map(|(key, value)| (key, whole_numbers(value))).collect()
        }
        other => other,
    }
}

/// 2^53: doubles hold every whole number below it.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use bessemer_proto::v1;

    use super::*;

    #[test]
    fn names_are_the_contracts_and_numbers_stay_numbers() {
        let node = v1::Node {
            metadata: Some(v1::Metadata {
                id: "3f1c".to_owned(),
                created_at: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
                ..v1::Metadata::default()
            }),
            spec: Some(v1::NodeSpec {
                driver_info: Some(prost_types::Struct {
                    fields: [(
                        "disk_bytes".to_owned(),
                        prost_types::Value {
                            kind: Some(prost_types::value::Kind::NumberValue(1024.0)),
                        },
                    )]
                    .into(),
                }),
                ..v1::NodeSpec::default()
            }),
            status: Some(v1::NodeStatus {
                power_state: v1::PowerState::On.into(),
                ..v1::NodeStatus::default()
            }),
            version: u64::MAX,
        };
        let shown = json(&node);
        assert_eq!(
            shown,
            serde_json::json!({
                "metadata": {"id": "3f1c", "created_at": "1970-01-01T00:00:01Z"},
                "spec": {"driver_info": {"disk_bytes": 1024}},
                "status": {"power_state": "POWER_STATE_ON"},
                "version": u64::MAX,
            })
        );
    }
}
