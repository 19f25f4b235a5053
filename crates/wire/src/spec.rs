//! The caller's part of a node: at creation whole, afterwards by the fields of a mask.

use std::collections::BTreeSet;

use bessemer_domain::Invalid;
use bessemer_domain::ids::{NodeId, NodeName};
use bessemer_domain::node::{
    BootInterface, DeployInterface, FieldChange, JsonMap, NodeSpec, Trait,
};
use bessemer_proto::v1;
use prost_types::Struct;
use serde_json::Value;

use crate::text::{DESCRIPTION_CHARACTERS_MAX, SHORT_CHARACTERS_MAX, bounded};
use crate::{json, mask};

/// Most paths of an update mask: more than a spec has fields, fewer than would hold anyone up.
const MASK_PATHS_MAX: usize = 1000;

/// The fields that `spec` in a mask stands for.
const SPEC_FIELDS: &[&str] = &[
    "driver",
    "driver_info",
    "instance_info",
    "properties",
    "resource_class",
    "conductor_group",
    "deploy_interface",
    "boot_interface",
    "automated_clean",
    "description",
    "owner",
    "extra",
    "lessee",
    "shard",
    "parent_node",
    "traits",
    "protected",
    "retired",
    "protected_reason",
    "retired_reason",
];

/// The name, or none when it is empty.
///
/// # Errors
/// [`Invalid`] when it is not a name that a node may have.
pub fn name_from_proto(name: &str) -> Result<Option<NodeName>, Invalid> {
    if name.is_empty() { Ok(None) } else { NodeName::try_new(name).map(Some) }
}

/// Checks the spec of a new node.
///
/// # Errors
/// [`Invalid`] with the field's path from `spec`.
pub fn from_proto(spec: Option<&v1::NodeSpec>) -> Result<NodeSpec, Invalid> {
    let spec = spec.ok_or_else(|| Invalid::new("spec", "", "is required"))?;
    let driver_info = json::from_proto("spec.driver_info", spec.driver_info.as_ref())?;
    let instance_info = json::from_proto("spec.instance_info", spec.instance_info.as_ref())?;
    Ok(NodeSpec {
        driver: driver(spec)?,
        driver_info: unmasked("spec.driver_info", driver_info, &JsonMap::new())?,
        instance_info: unmasked("spec.instance_info", instance_info, &JsonMap::new())?,
        properties: json::from_proto("spec.properties", spec.properties.as_ref())?,
        resource_class: short("spec.resource_class", &spec.resource_class)?,
        conductor_group: short("spec.conductor_group", &spec.conductor_group)?,
        deploy_interface: deploy_interface(spec)?,
        boot_interface: boot_interface(spec)?,
        automated_clean: spec.automated_clean,
        description: description(spec)?,
        owner: short("spec.owner", &spec.owner)?,
        extra: json::from_proto("spec.extra", spec.extra.as_ref())?,
        lessee: short("spec.lessee", &spec.lessee)?,
        shard: short("spec.shard", &spec.shard)?,
        parent_node: parent_node(spec)?,
        traits: traits(spec)?,
        protected: spec.protected.then(|| protected_reason(spec)).transpose()?,
        retired: spec.retired.then(|| retired_reason(spec)).transpose()?,
    })
}

/// The changes that an update asks for. A secret that comes back masked stays as it is in `current`.
///
/// # Errors
/// [`Invalid`] naming the path of the mask, or the field whose value cannot be accepted.
pub fn changes_from_proto(
    update: &v1::UpdateNodeRequest,
    current: &NodeSpec,
) -> Result<Vec<FieldChange>, Invalid> {
    let paths = update.update_mask.as_ref().map_or(&[][..], |mask| &mask.paths);
    if paths.is_empty() {
        return Err(Invalid::new("update_mask", "", "is required: the fields to replace"));
    }
    if paths.len() > MASK_PATHS_MAX {
        let reason = format!("has more than {MASK_PATHS_MAX} paths");
        return Err(Invalid::new("update_mask", &paths.len().to_string(), reason));
    }
    let none = v1::NodeSpec::default();
    let spec = update.spec.as_ref().unwrap_or(&none);
    let mut changes = Vec::new();
    for path in paths {
        match (path.as_str(), path.strip_prefix("spec.")) {
            ("name", _) => changes.push(FieldChange::Name(name_from_proto(&update.name)?)),
            ("spec", _) => {
                for field in SPEC_FIELDS {
                    changes.extend(field_changes(path, field, spec, current)?);
                }
            }
            (_, Some(field)) => changes.extend(field_changes(path, field, spec, current)?),
            (_, None) => return Err(unknown(path)),
        }
    }
    // A reason belongs to a mark, which must be there first.
    changes.sort_by_key(|change| {
        matches!(change, FieldChange::ProtectedReason(_) | FieldChange::RetiredReason(_))
    });
    Ok(changes)
}

/// Whether what an update says depends on the node as it is: `driver_info` and `instance_info` may hold masks of secrets
/// that are to stay.
#[must_use]
pub fn depends_on_current(update: &v1::UpdateNodeRequest) -> bool {
    let paths = update.update_mask.as_ref().map_or(&[][..], |mask| &mask.paths);
    let holds_secrets = |path: &String| {
        path == "spec"
            || path.starts_with("spec.driver_info")
            || path.starts_with("spec.instance_info")
    };
    paths.iter().any(holds_secrets)
}

fn unknown(path: &str) -> Invalid {
    let reason = format!(
        "is not a field that can be updated; there are: name, spec, spec.FIELD with FIELD one of {}, \
         and spec.driver_info.KEY, spec.instance_info.KEY, spec.properties.KEY, spec.extra.KEY, \
         spec.traits.TRAIT",
        SPEC_FIELDS.join(", ")
    );
    Invalid::new("update_mask", path, reason)
}

fn field_changes(
    path: &str,
    field: &str,
    spec: &v1::NodeSpec,
    current: &NodeSpec,
) -> Result<Vec<FieldChange>, Invalid> {
    let change = match field {
        "driver" => FieldChange::Driver(driver(spec)?),
        "driver_info" => return driver_info_changes(spec.driver_info.as_ref(), current),
        "instance_info" => {
            let given = json::from_proto("spec.instance_info", spec.instance_info.as_ref())?;
            let current = &current.instance_info;
            FieldChange::InstanceInfo(unmasked("spec.instance_info", given, current)?)
        }
        "properties" => {
            FieldChange::Properties(json::from_proto("spec.properties", spec.properties.as_ref())?)
        }
        "resource_class" => {
            FieldChange::ResourceClass(short("spec.resource_class", &spec.resource_class)?)
        }
        "conductor_group" => {
            FieldChange::ConductorGroup(short("spec.conductor_group", &spec.conductor_group)?)
        }
        "deploy_interface" => FieldChange::DeployInterface(deploy_interface(spec)?),
        "boot_interface" => FieldChange::BootInterface(boot_interface(spec)?),
        "automated_clean" => FieldChange::AutomatedClean(spec.automated_clean),
        "description" => FieldChange::Description(description(spec)?),
        "owner" => FieldChange::Owner(short("spec.owner", &spec.owner)?),
        "extra" => FieldChange::Extra(json::from_proto("spec.extra", spec.extra.as_ref())?),
        "lessee" => FieldChange::Lessee(short("spec.lessee", &spec.lessee)?),
        "shard" => FieldChange::Shard(short("spec.shard", &spec.shard)?),
        "parent_node" => FieldChange::ParentNode(parent_node(spec)?),
        "traits" => FieldChange::Traits(traits(spec)?),
        "protected" => FieldChange::Protected(spec.protected),
        "protected_reason" => FieldChange::ProtectedReason(protected_reason(spec)?),
        "retired" => FieldChange::Retired(spec.retired),
        "retired_reason" => FieldChange::RetiredReason(retired_reason(spec)?),
        _ => key_change(path, field, spec, current)?,
    };
    Ok(vec![change])
}

/// `FIELD.KEY`: one key of an object. A key that is named and not given is removed.
fn key_change(
    path: &str,
    field: &str,
    spec: &v1::NodeSpec,
    current: &NodeSpec,
) -> Result<FieldChange, Invalid> {
    let (object, key) =
        field.split_once('.').filter(|(_, key)| !key.is_empty()).ok_or_else(|| unknown(path))?;
    let value = |given: Option<&Struct>| -> Result<Option<Value>, Invalid> {
        Ok(json::from_proto(&format!("spec.{object}"), given)?.remove(key))
    };
    let key = key.to_owned();
    Ok(match object {
        "driver_info" => {
            let value = value(spec.driver_info.as_ref())?
                .map(|value| mask::restored(path, &key, value, current.driver_info.get(&key)))
                .transpose()?;
            FieldChange::DriverInfoKey(key, value)
        }
        "instance_info" => {
            let current = current.instance_info.get(&key);
            let value = value(spec.instance_info.as_ref())?
                .map(|value| mask::restored(path, &key, value, current))
                .transpose()?;
            FieldChange::InstanceInfoKey(key, value)
        }
        "properties" => {
            let value = value(spec.properties.as_ref())?;
            FieldChange::PropertiesKey(key, value)
        }
        "extra" => {
            let value = value(spec.extra.as_ref())?;
            FieldChange::ExtraKey(key, value)
        }
        "traits" => {
            let is_set = spec.traits.contains(&key);
            FieldChange::Trait(trait_named(&key)?, is_set)
        }
        _ => return Err(unknown(path)),
    })
}

/// The whole object at once; key by key when a secret came back masked, so that a secret that another caller sets
/// meanwhile is not undone with the one we read.
fn driver_info_changes(
    given: Option<&Struct>,
    current: &NodeSpec,
) -> Result<Vec<FieldChange>, Invalid> {
    let given = json::from_proto("spec.driver_info", given)?;
    if !given.iter().any(|(key, value)| mask::holds_mask(key, value)) {
        return Ok(vec![FieldChange::DriverInfo(given)]);
    }
    let removed: Vec<_> = current
        .driver_info
        .keys()
        .filter(|key| !given.contains_key(*key))
        .map(|key| FieldChange::DriverInfoKey(key.clone(), None))
        .collect();
    let kept = unmasked("spec.driver_info", given.clone(), &current.driver_info)?;
    let changed = kept
        .into_iter()
        .filter(|(key, _)| given.get(key) != Some(&mask::MASK.into()))
        .map(|(key, value)| FieldChange::DriverInfoKey(key, Some(value)));
    Ok(changed.chain(removed).collect())
}

fn unmasked(field: &str, given: JsonMap, current: &JsonMap) -> Result<JsonMap, Invalid> {
    given
        .into_iter()
        .map(|(key, value)| {
            let field = format!("{field}.{key}");
            let value = mask::restored(&field, &key, value, current.get(&key))?;
            Ok((key, value))
        })
        .collect()
}

fn driver(spec: &v1::NodeSpec) -> Result<String, Invalid> {
    if spec.driver.is_empty() {
        return Err(Invalid::new("spec.driver", "", "is required: a hardware type such as `fake`"));
    }
    short("spec.driver", &spec.driver)
}

fn deploy_interface(spec: &v1::NodeSpec) -> Result<Option<DeployInterface>, Invalid> {
    match spec.deploy_interface.as_str() {
        "" => Ok(None),
        name => name.parse().map(Some).map_err(|invalid: Invalid| invalid.under("spec")),
    }
}

fn boot_interface(spec: &v1::NodeSpec) -> Result<Option<BootInterface>, Invalid> {
    match spec.boot_interface.as_str() {
        "" => Ok(None),
        name => name.parse().map(Some).map_err(|invalid: Invalid| invalid.under("spec")),
    }
}

fn parent_node(spec: &v1::NodeSpec) -> Result<Option<NodeId>, Invalid> {
    match spec.parent_node.as_str() {
        "" => Ok(None),
        id => id.parse().map(Some).map_err(|invalid: Invalid| Invalid {
            field: "spec.parent_node".to_owned(),
            ..invalid
        }),
    }
}

/// How many there may be is the domain's to judge.
fn traits(spec: &v1::NodeSpec) -> Result<BTreeSet<Trait>, Invalid> {
    traits_from_proto(&spec.traits)
}

pub(crate) fn traits_from_proto(names: &[String]) -> Result<BTreeSet<Trait>, Invalid> {
    names.iter().map(|name| trait_named(name)).collect()
}

fn trait_named(name: &str) -> Result<Trait, Invalid> {
    name.parse().map_err(|invalid: Invalid| invalid.under("spec"))
}

fn protected_reason(spec: &v1::NodeSpec) -> Result<String, Invalid> {
    bounded("spec.protected_reason", &spec.protected_reason, DESCRIPTION_CHARACTERS_MAX)
}

fn retired_reason(spec: &v1::NodeSpec) -> Result<String, Invalid> {
    bounded("spec.retired_reason", &spec.retired_reason, DESCRIPTION_CHARACTERS_MAX)
}

fn description(spec: &v1::NodeSpec) -> Result<String, Invalid> {
    bounded("spec.description", &spec.description, DESCRIPTION_CHARACTERS_MAX)
}

fn short(field: &str, text: &str) -> Result<String, Invalid> {
    bounded(field, text, SHORT_CHARACTERS_MAX)
}

#[cfg(test)]
mod tests;
