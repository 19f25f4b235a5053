//! RFC 6902 patches: applied to the node as the client sees it, then sent on as changes of single fields and keys, so that
//! clients that change different keys do not undo one another.

use bessemer_domain::node::JsonMap;
use bessemer_proto::v1;
use prost_types::FieldMask;
use serde_json::{Map, Value};

use super::settings::{self, Draft, Setting, setting};
use crate::rest::fault::Fault;
use crate::rest::version::Microversion;

/// Most operations of a patch; more than a node has fields and keys.
const OPERATIONS_MAX: usize = 1000;

/// What a patch asks for.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) name: String,
    pub(super) spec: v1::NodeSpec,
    /// Empty when the node is as it is to be.
    pub(super) mask: FieldMask,
    /// Whether the node is to be in maintenance, if the patch says.
    pub(super) maintenance: Option<bool>,
}

/// Applies `patch` to the node as `shown` to the client, with its secrets masked.
pub(super) fn apply(
    shown: &Map<String, Value>,
    patch: Value,
    version: Microversion,
) -> Result<Change, Fault> {
    let patch: json_patch::Patch = serde_json::from_value(patch).map_err(|error| {
        Fault::bad_request(format!("the body is not a JSON patch (RFC 6902): {error}"))
    })?;
    if patch.0.len() > OPERATIONS_MAX {
        let message = format!("the patch has more than {OPERATIONS_MAX} operations");
        return Err(Fault::bad_request(message));
    }
    for operation in &patch.0 {
        let path = operation.path().to_string();
        let field = path.trim_start_matches('/').split('/').next().unwrap_or_default();
        if field != "maintenance" {
            setting(&field.replace("~1", "/").replace("~0", "~"), version)?;
        }
    }
    let settable = |name: &str| name == "maintenance" || settings::all().any(|it| it.0 == name);
    let before: Map<_, _> = shown
        .iter()
        .filter(|(name, _)| settable(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut after = Value::Object(before.clone());
    json_patch::patch(&mut after, &patch)
        .map_err(|error| Fault::bad_request(format!("the patch cannot be applied: {error}")))?;
    let Value::Object(after) = after else {
        return Err(Fault::bad_request("the patch replaces the node by something else"));
    };
    difference(&before, &after, version)
}

fn difference(
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    version: Microversion,
) -> Result<Change, Fault> {
    let driver = after.get("driver").and_then(Value::as_str).unwrap_or_default();
    let driver = super::interfaces::driver(driver);
    let mut draft = Draft::default();
    let mut change = Change::default();
    for (field, old) in before {
        let new = after.get(field).unwrap_or(&Value::Null);
        if new == old {
            continue;
        }
        if field == "maintenance" {
            let wanted = new.as_bool();
            let wrong = || Fault::bad_request(format!("maintenance `{new}` is not true or false"));
            change.maintenance = Some(wanted.ok_or_else(wrong)?);
            continue;
        }
        let setting = setting(field, version)?;
        draft.set(field, setting, new, driver)?;
        match (setting, old, new) {
            (Setting::Name, _, _) => change.mask.paths.push(field.clone()),
            (Setting::Object(_), Value::Object(old), Value::Object(new)) => {
                change.mask.paths.extend(keys(field, old, new));
            }
            (Setting::Interface | Setting::Nothing, _, _) => {}
            _ => change.mask.paths.push(format!("spec.{field}")),
        }
    }
    Ok(Change { name: draft.name, spec: draft.spec, ..change })
}

/// The paths of the keys that differ; that of the whole where a key cannot stand in a path.
fn keys(field: &str, old: &JsonMap, new: &JsonMap) -> Vec<String> {
    let all = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
    let changed: Vec<_> = all.filter(|key| old.get(*key) != new.get(*key)).collect();
    if changed.iter().any(|key| key.is_empty()) || changed.len() > OPERATIONS_MAX / 2 {
        return vec![format!("spec.{field}")];
    }
    changed.into_iter().map(|key| format!("spec.{field}.{key}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(patch: Value) -> Result<Change, Fault> {
        let shown = json!({
            "uuid": "u", "name": "n1", "driver": "fake-hardware", "maintenance": false, "owner": null,
            "driver_info": {"fake_password": "******", "address": "a"}, "extra": {"a": {"b": 1}},
            "boot_interface": "fake", "management_interface": "fake", "resource_class": "x",
        });
        apply(shown.as_object().unwrap(), patch, Microversion::MAX)
    }

    #[test]
    fn only_what_differs_is_changed() {
        let cases = [
            (json!([]), &[] as &[&str]),
            (json!([{"op": "add", "path": "/extra/c", "value": 1}]), &["spec.extra.c"]),
            (json!([{"op": "replace", "path": "/extra/a/b", "value": 2}]), &["spec.extra.a"]),
            (json!([{"op": "remove", "path": "/extra/a"}]), &["spec.extra.a"]),
            (json!([{"op": "remove", "path": "/extra"}]), &["spec.extra"]),
            (json!([{"op": "replace", "path": "/name", "value": "n2"}]), &["name"]),
            (json!([{"op": "remove", "path": "/resource_class"}]), &["spec.resource_class"]),
            // What came masked and goes back masked stays as it is.
            (
                json!([{"op": "replace", "path": "/driver_info",
                    "value": {"fake_password": "******", "address": "b"}}]),
                &["spec.driver_info.address"],
            ),
            (json!([{"op": "add", "path": "/boot_interface", "value": "fake"}]), &[]),
            (json!([{"op": "add", "path": "/owner", "value": "o"}]), &["spec.owner"]),
        ];
        for (patch, expected) in cases {
            assert_eq!(patched(patch.clone()).unwrap().mask.paths, expected, "{patch}");
        }
        let patch = json!([{"op": "replace", "path": "/maintenance", "value": true}]);
        assert_eq!(patched(patch).unwrap().maintenance, Some(true));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let cases = [
            json!({}),
            json!("x"),
            json!([{"op": "jump", "path": "/extra/a"}]),
            json!([{"op": "remove", "path": "/extra/zzz"}]),
            json!([{"op": "test", "path": "/extra/a", "value": 7}]),
            json!([{"op": "replace", "path": "/uuid", "value": "x"}]),
            json!([{"op": "add", "path": "/colour", "value": "x"}]),
            json!([{"op": "replace", "path": "", "value": 1}]),
            json!([{"op": "replace", "path": "/management_interface", "value": "ipmitool"}]),
            json!([{"op": "replace", "path": "/extra", "value": 1}]),
            json!([{"op": "replace", "path": "/maintenance", "value": "perhaps"}]),
        ];
        for patch in cases {
            assert_eq!(patched(patch.clone()).unwrap_err().status().as_u16(), 400, "{patch}");
        }
    }
}
