//! What clients set of a node, one line for each field, and how that becomes the core's words.

use bessemer_domain::node::JsonMap;
use bessemer_proto::v1;
use bessemer_wire::json;
use prost_types::Struct;
use serde_json::Value;

use super::fields::NODE;
use super::interfaces::{KINDS, driver, implementation};
use crate::rest::fault::Fault;
use crate::rest::query;
use crate::rest::version::Microversion;

type Spec = v1::NodeSpec;

/// How a field is set.
#[derive(Clone, Copy)]
pub(super) enum Setting {
    Name,
    Driver,
    Text(fn(&mut Spec) -> &mut String),
    Flag(fn(&mut Spec) -> &mut Option<bool>),
    /// Off when nothing is said.
    Switch(fn(&mut Spec) -> &mut bool),
    Object(fn(&mut Spec) -> &mut Option<Struct>),
    /// The one that the hardware type has, and no other.
    Interface,
    /// Nothing but what every node has.
    Nothing,
}

const SETTINGS: &[(&str, Setting)] = &[
    ("name", Setting::Name),
    ("driver", Setting::Driver),
    ("driver_info", Setting::Object(|spec| &mut spec.driver_info)),
    ("instance_info", Setting::Object(|spec| &mut spec.instance_info)),
    ("properties", Setting::Object(|spec| &mut spec.properties)),
    ("extra", Setting::Object(|spec| &mut spec.extra)),
    ("resource_class", Setting::Text(|spec| &mut spec.resource_class)),
    ("conductor_group", Setting::Text(|spec| &mut spec.conductor_group)),
    ("description", Setting::Text(|spec| &mut spec.description)),
    ("owner", Setting::Text(|spec| &mut spec.owner)),
    ("deploy_interface", Setting::Text(|spec| &mut spec.deploy_interface)),
    ("boot_interface", Setting::Text(|spec| &mut spec.boot_interface)),
    ("automated_clean", Setting::Flag(|spec| &mut spec.automated_clean)),
    ("chassis_uuid", Setting::Nothing),
    ("instance_uuid", Setting::Nothing),
    ("instance_name", Setting::Nothing),
    ("lessee", Setting::Text(|spec| &mut spec.lessee)),
    ("shard", Setting::Text(|spec| &mut spec.shard)),
    ("parent_node", Setting::Text(|spec| &mut spec.parent_node)),
    ("protected", Setting::Switch(|spec| &mut spec.protected)),
    ("protected_reason", Setting::Text(|spec| &mut spec.protected_reason)),
    ("retired", Setting::Switch(|spec| &mut spec.retired)),
    ("retired_reason", Setting::Text(|spec| &mut spec.retired_reason)),
    ("network_data", Setting::Nothing),
    ("disable_power_off", Setting::Nothing),
];

/// All fields that a client may name, the interfaces among them.
pub(super) fn all() -> impl Iterator<Item = (&'static str, Setting)> {
    let interfaces = KINDS.iter().map(|(field, _)| (*field, Setting::Interface));
    SETTINGS.iter().copied().chain(interfaces)
}

/// How the field is set, if the version of the API lets a client set it.
pub(super) fn setting(field: &str, version: Microversion) -> Result<Setting, Fault> {
    let Some((_, setting)) = all().find(|(name, _)| *name == field) else {
        let known: Vec<_> = all().map(|(name, _)| name).collect();
        return Err(Fault::bad_request(format!(
            "`{field}` is nothing that can be set of a node; there are: {}",
            known.join(", ")
        )));
    };
    let since = NODE.fields.iter().find(|it| it.name == field).map_or(1, |it| it.since);
    if since > version.0 {
        return Err(Fault::since(&format!("field `{field}`"), since));
    }
    Ok(setting)
}

/// A node as a client describes it.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) spec: Spec,
}

impl Draft {
    /// Sets a field. `of_driver` is the hardware type of the node, whose interfaces there are.
    pub(super) fn set(
        &mut self,
        field: &str,
        setting: Setting,
        value: &Value,
        of_driver: &str,
    ) -> Result<(), Fault> {
        let spec = &mut self.spec;
        match setting {
            Setting::Name => {
                self.name = text(field, value)?;
                refuse_reserved(&self.name)?;
            }
            Setting::Driver => driver(&text(field, value)?).clone_into(&mut spec.driver),
            Setting::Text(place) => *place(spec) = text(field, value)?,
            Setting::Flag(place) => *place(spec) = flag(field, value)?,
            Setting::Switch(place) => *place(spec) = flag(field, value)?.unwrap_or_default(),
            Setting::Object(place) => *place(spec) = Some(json::to_proto(&object(field, value)?)),
            Setting::Interface => check_interface(field, value, of_driver)?,
            Setting::Nothing if is_nothing(value) => {}
            Setting::Nothing => {
                return Err(Fault::bad_request(format!("{field} `{value}` is not supported yet")));
            }
        }
        Ok(())
    }
}

fn text(field: &str, value: &Value) -> Result<String, Fault> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        other => Err(Fault::bad_request(format!("{field} `{other}` is not a text"))),
    }
}

fn flag(field: &str, value: &Value) -> Result<Option<bool>, Fault> {
    match value {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(*flag)),
        Value::String(text) => query::flag(field, text).map(Some),
        other => Err(Fault::bad_request(format!("{field} `{other}` is neither true nor false"))),
    }
}

fn object(field: &str, value: &Value) -> Result<JsonMap, Fault> {
    match value {
        Value::Null => Ok(JsonMap::new()),
        Value::Object(object) => Ok(object.clone()),
        other => Err(Fault::bad_request(format!("{field} `{other}` is not an object"))),
    }
}

/// Null asks for the default, which is what there is.
fn check_interface(field: &str, value: &Value, of_driver: &str) -> Result<(), Fault> {
    let implementation = implementation(of_driver, field);
    match value {
        Value::Null => Ok(()),
        Value::String(asked) if asked.is_empty() || asked == implementation => Ok(()),
        other => Err(Fault::bad_request(format!(
            "{field} {other} cannot be had with hardware type `{of_driver}`, only `{implementation}`"
        ))),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(object) => object.is_empty(),
        Value::String(text) => text.is_empty() || query::flag("", text).is_ok_and(|is_set| !is_set),
        Value::Bool(true) | Value::Number(_) | Value::Array(_) => false,
    }
}

/// Names that mean something else in the place of a node's.
fn refuse_reserved(name: &str) -> Result<(), Fault> {
    const RESERVED: &[&str] = &["detail", "maintenance", "management", "states", "validate"];
    if RESERVED.contains(&name) {
        return Err(Fault::bad_request(format!(
            "name `{name}` is a word of the API's; choose another"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(field: &str, value: &Value) -> Result<Draft, Fault> {
        let mut draft = Draft::default();
        let setting = setting(field, Microversion::MAX)?;
        draft.set(field, setting, value, "fake").map(|()| draft)
    }

    #[test]
    fn every_field_that_is_set_is_one_that_is_shown() {
        for (name, _) in all() {
            assert!(NODE.fields.iter().any(|field| field.name == name), "{name}");
        }
    }

    #[test]
    fn values_become_the_cores_and_others_are_refused_by_name() {
        assert_eq!(set("driver", &json!("fake-hardware")).unwrap().spec.driver, "fake");
        assert_eq!(
            set("automated_clean", &json!("False")).unwrap().spec.automated_clean,
            Some(false)
        );
        assert_eq!(set("extra", &json!({"a": 1})).unwrap().spec.extra.unwrap().fields.len(), 1);
        set("management_interface", &json!("fake")).unwrap();
        assert!(!set("retired", &json!("False")).unwrap().spec.retired);
        assert!(set("protected", &json!(true)).unwrap().spec.protected);
        let wrong = [
            ("driver", json!(1)),
            ("extra", json!("x")),
            ("automated_clean", json!(2)),
            ("management_interface", json!("ipmitool")),
            ("name", json!("detail")),
            ("network_data", json!({"links": []})),
            ("power_state", json!("power on")),
        ];
        for (field, value) in wrong {
            assert!(set(field, &value).unwrap_err().message().contains(field), "{field}");
        }
    }

    #[test]
    fn what_came_later_is_not_acceptable_before() {
        assert!(setting("owner", Microversion(50)).is_ok());
        assert_eq!(setting("owner", Microversion(49)).err().unwrap().status().as_u16(), 406);
    }
}
