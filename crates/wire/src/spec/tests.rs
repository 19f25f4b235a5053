//! What comes in as a spec or an update, and what must not.

use serde_json::json;

use super::*;
use crate::mask::MASK;

fn object(value: &Value) -> JsonMap {
    value.as_object().unwrap().clone()
}

fn message(value: &Value) -> Struct {
    json::to_proto(&object(value))
}

fn current() -> NodeSpec {
    NodeSpec {
        driver: "redfish".into(),
        driver_info: object(&json!({"address": "https://bmc", "password": "hunter2", "port": 1})),
        ..NodeSpec::default()
    }
}

fn update(paths: &[&str], spec: v1::NodeSpec) -> Result<Vec<FieldChange>, Invalid> {
    let update = v1::UpdateNodeRequest {
        name: "web-1".into(),
        spec: Some(spec),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        ..Default::default()
    };
    changes_from_proto(&update, &current())
}

fn driver_info(value: &Value) -> v1::NodeSpec {
    v1::NodeSpec { driver_info: Some(message(value)), ..Default::default() }
}

#[test]
fn only_what_the_mask_names_changes() {
    let spec = v1::NodeSpec { owner: "blue".into(), description: "x".into(), ..Default::default() };
    let changes = update(&["name", "spec.owner"], spec).unwrap();
    let name = NodeName::try_new("web-1").unwrap();
    assert_eq!(changes, [FieldChange::Name(Some(name)), FieldChange::Owner("blue".into())]);
}

#[test]
fn the_whole_spec_is_every_field() {
    let spec = v1::NodeSpec { driver: "fake".into(), ..Default::default() };
    assert_eq!(update(&["spec"], spec).unwrap().len(), SPEC_FIELDS.len());
}

#[test]
fn one_key_is_set_or_removed_even_with_dots_in_it() {
    let spec = v1::NodeSpec { extra: Some(message(&json!({"a.b": 4}))), ..v1::NodeSpec::default() };
    let changes = update(&["spec.extra.a.b", "spec.properties.gone"], spec).unwrap();
    let expected = [
        FieldChange::ExtraKey("a.b".into(), Some(4.into())),
        FieldChange::PropertiesKey("gone".into(), None),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn a_secret_sent_back_masked_is_not_touched() {
    let spec = driver_info(&json!({"address": "https://other", "password": MASK}));
    let changes = update(&["spec.driver_info"], spec).unwrap();
    let expected = [
        FieldChange::DriverInfoKey("address".into(), Some("https://other".into())),
        FieldChange::DriverInfoKey("port".into(), None),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn a_new_secret_replaces_the_old_one() {
    let given = json!({"password": "correct horse"});
    let changes = update(&["spec.driver_info"], driver_info(&given)).unwrap();
    assert_eq!(changes, [FieldChange::DriverInfo(object(&given))]);
    let changes = update(&["spec.driver_info.password"], driver_info(&given)).unwrap();
    let expected = FieldChange::DriverInfoKey("password".into(), Some("correct horse".into()));
    assert_eq!(changes, [expected]);
}

#[test]
fn a_mask_where_no_secret_was_is_refused() {
    let spec = driver_info(&json!({"token": MASK}));
    assert_eq!(update(&["spec.driver_info"], spec).unwrap_err().field, "spec.driver_info.token");
    let new = v1::NodeSpec { driver: "fake".into(), ..driver_info(&json!({"token": MASK})) };
    assert_eq!(from_proto(Some(&new)).unwrap_err().field, "spec.driver_info.token");
}

#[test]
fn what_cannot_be_updated_is_named() {
    for path in ["status", "spec.", "spec.uuid", "spec.extra.", "spec.owner.x", "version", ""] {
        let invalid = update(&[path], v1::NodeSpec::default()).unwrap_err();
        assert_eq!((invalid.field.as_str(), invalid.value.as_str()), ("update_mask", path));
    }
    assert_eq!(update(&[], v1::NodeSpec::default()).unwrap_err().field, "update_mask");
    let many = vec!["name"; MASK_PATHS_MAX + 1];
    assert_eq!(update(&many, v1::NodeSpec::default()).unwrap_err().field, "update_mask");
}

#[test]
fn wrong_values_are_named_by_their_path() {
    type Change = fn(&mut v1::NodeSpec);
    let cases: &[(Change, &str)] = &[
        (|spec| spec.driver.clear(), "spec.driver"),
        (|spec| spec.deploy_interface = "iscsi".into(), "spec.deploy_interface"),
        (|spec| spec.owner = "x".repeat(256), "spec.owner"),
        (|spec| spec.description = "x".repeat(4097), "spec.description"),
    ];
    for (change, field) in cases {
        let mut spec = v1::NodeSpec { driver: "fake".into(), ..Default::default() };
        change(&mut spec);
        assert_eq!(from_proto(Some(&spec)).unwrap_err().field, *field);
    }
    assert_eq!(from_proto(None).unwrap_err().field, "spec");
}

#[test]
fn a_name_may_be_absent_and_must_be_a_name() {
    assert_eq!(name_from_proto(""), Ok(None));
    assert_eq!(name_from_proto("a b").unwrap_err().field, "name");
}
