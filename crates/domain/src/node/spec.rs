//! The caller's part of a node.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{BootInterface, DeployInterface, Trait};
use crate::ids::{NodeId, NodeName};

/// A JSON object.
pub type JsonMap = serde_json::Map<String, serde_json::Value>;

/// What the caller says of a node. Ironic's fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSpec {
    /// Hardware type.
    pub driver: String,
    /// What the hardware type needs to reach the machine.
    pub driver_info: JsonMap,
    /// What the next deployment is made of where the request itself does not say, in Ironic's keys: `image_source`,
    /// `image_checksum`, ... Emptied when the deployment is taken off.
    #[serde(skip_serializing_if = "JsonMap::is_empty")]
    pub instance_info: JsonMap,
    /// What is known of the machine.
    pub properties: JsonMap,
    /// What kind of machine schedulers take it for.
    pub resource_class: String,
    /// Only conductors of this group drive it.
    pub conductor_group: String,
    /// The default of its deployments; unset is `direct`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy_interface: Option<DeployInterface>,
    /// How the machine gets at the deploy ramdisk; unset is that of the hardware type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_interface: Option<BootInterface>,
    /// Whether it is cleaned on its way to `available`; unset means yes.
    pub automated_clean: Option<bool>,
    /// In the caller's words.
    pub description: String,
    /// The project that owns it.
    pub owner: String,
    /// Free for the caller.
    pub extra: JsonMap,
    /// The project that it is lent to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lessee: String,
    /// The part of the fleet that it is in, for clients that share one among them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub shard: String,
    /// The machine that it is a part of, such as a server with a smart NIC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_node: Option<NodeId>,
    /// What it has.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub traits: BTreeSet<Trait>,
    /// Why it must be neither undeployed, nor rebuilt, nor deleted; none when it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protected: Option<String>,
    /// Why it is offered to nobody any more; none when it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retired: Option<String>,
}

impl NodeSpec {
    /// The deploy interface of deployments that choose none.
    #[must_use]
    pub fn deploy_interface(&self) -> DeployInterface {
        self.deploy_interface.unwrap_or_default()
    }

    /// How the machine gets at the deploy ramdisk.
    #[must_use]
    pub fn boot_interface(&self) -> BootInterface {
        self.boot_interface.unwrap_or_else(|| BootInterface::default_of(&self.driver))
    }
}

/// One change to the caller's part. Changes of different fields and keys never undo one another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "field", content = "to", rename_all = "snake_case")]
pub enum FieldChange {
    /// The name, or none.
    Name(Option<NodeName>),
    /// Hardware type.
    Driver(String),
    /// All of `driver_info`.
    DriverInfo(JsonMap),
    /// One key of `driver_info`; `None` removes it.
    DriverInfoKey(String, Option<serde_json::Value>),
    /// All of `instance_info`.
    InstanceInfo(JsonMap),
    /// One key of `instance_info`; `None` removes it.
    InstanceInfoKey(String, Option<serde_json::Value>),
    /// All of `properties`.
    Properties(JsonMap),
    /// One key of `properties`; `None` removes it.
    PropertiesKey(String, Option<serde_json::Value>),
    /// Resource class.
    ResourceClass(String),
    /// Conductor group.
    ConductorGroup(String),
    /// Default deploy interface; `None` leaves it to the hardware type.
    DeployInterface(Option<DeployInterface>),
    /// Boot interface; `None` leaves it to the hardware type.
    BootInterface(Option<BootInterface>),
    /// Whether it is cleaned.
    AutomatedClean(Option<bool>),
    /// Description.
    Description(String),
    /// Owner.
    Owner(String),
    /// All of `extra`.
    Extra(JsonMap),
    /// One key of `extra`; `None` removes it.
    ExtraKey(String, Option<serde_json::Value>),
    /// Lessee.
    Lessee(String),
    /// Shard.
    Shard(String),
    /// Parent node, or none.
    ParentNode(Option<NodeId>),
    /// All traits.
    Traits(BTreeSet<Trait>),
    /// One trait; whether it has it.
    Trait(Trait, bool),
    /// Whether it is protected.
    Protected(bool),
    /// Why it is; nothing to one that is not.
    ProtectedReason(String),
    /// Whether it is retired.
    Retired(bool),
    /// Why it is; nothing to one that is not.
    RetiredReason(String),
}

impl FieldChange {
    /// Applies the change.
    pub(crate) fn apply(&self, name: &mut Option<NodeName>, spec: &mut NodeSpec) {
        match self {
            Self::Name(to) => name.clone_from(to),
            Self::Driver(to) => spec.driver.clone_from(to),
            Self::DriverInfo(to) => spec.driver_info.clone_from(to),
            Self::DriverInfoKey(key, to) => set_key(&mut spec.driver_info, key, to.as_ref()),
            Self::InstanceInfo(to) => spec.instance_info.clone_from(to),
            Self::InstanceInfoKey(key, to) => set_key(&mut spec.instance_info, key, to.as_ref()),
            Self::Properties(to) => spec.properties.clone_from(to),
            Self::PropertiesKey(key, to) => set_key(&mut spec.properties, key, to.as_ref()),
            Self::ResourceClass(to) => spec.resource_class.clone_from(to),
            Self::ConductorGroup(to) => spec.conductor_group.clone_from(to),
            Self::DeployInterface(to) => spec.deploy_interface = *to,
            Self::BootInterface(to) => spec.boot_interface = *to,
            Self::AutomatedClean(to) => spec.automated_clean = *to,
            Self::Description(to) => spec.description.clone_from(to),
            Self::Owner(to) => spec.owner.clone_from(to),
            Self::Extra(to) => spec.extra.clone_from(to),
            Self::ExtraKey(key, to) => set_key(&mut spec.extra, key, to.as_ref()),
            Self::Lessee(to) => spec.lessee.clone_from(to),
            Self::Shard(to) => spec.shard.clone_from(to),
            Self::ParentNode(to) => spec.parent_node = *to,
            Self::Traits(to) => spec.traits.clone_from(to),
            Self::Trait(one, true) => drop(spec.traits.insert(one.clone())),
            Self::Trait(one, false) => drop(spec.traits.remove(one)),
            Self::Protected(to) => mark(&mut spec.protected, *to),
            Self::ProtectedReason(to) => explain(&mut spec.protected, to),
            Self::Retired(to) => mark(&mut spec.retired, *to),
            Self::RetiredReason(to) => explain(&mut spec.retired, to),
        }
    }
}

/// A mark keeps the reason that it has.
fn mark(mark: &mut Option<String>, is_set: bool) {
    *mark = is_set.then(|| mark.take().unwrap_or_default());
}

fn explain(mark: &mut Option<String>, reason: &str) {
    if let Some(mark) = mark {
        reason.clone_into(mark);
    }
}

fn set_key(map: &mut JsonMap, key: &str, to: Option<&serde_json::Value>) {
    match to {
        Some(value) => {
            map.insert(key.to_owned(), value.clone());
        }
        None => {
            map.remove(key);
        }
    }
}
