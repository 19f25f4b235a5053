//! The caller's part of a node on the command line: for `create` the whole, for `set` what is named.

use bessemer_proto::v1::NodeSpec;

use crate::arguments::{KeyValue, object};

/// Fields of a node's spec.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SpecArguments {
    /// Hardware type, such as `fake`
    #[arg(long)]
    driver: Option<String>,
    /// What the hardware type needs to reach the machine; repeatable. The value is JSON where it reads as JSON; `@FILE` takes it from a file, as a password should be
    #[arg(long, value_name = "KEY=VALUE")]
    driver_info: Vec<KeyValue>,
    /// What is known of the machine; repeatable
    #[arg(long = "property", value_name = "KEY=VALUE")]
    properties: Vec<KeyValue>,
    /// Free for you; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    extra: Vec<KeyValue>,
    /// What kind of machine schedulers take it for
    #[arg(long)]
    resource_class: Option<String>,
    /// Only conductors of this group drive it
    #[arg(long)]
    conductor_group: Option<String>,
    /// Deploy interface of its deployments, unless they say otherwise
    #[arg(long)]
    deploy_interface: Option<String>,
    /// `redfish-virtual-media`, `ipxe` or `http`: how it gets at the deploy ramdisk
    #[arg(long)]
    boot_interface: Option<String>,
    /// Whether it is cleaned on its way to `available`
    #[arg(long, value_name = "true|false")]
    automated_clean: Option<bool>,
    /// In your words
    #[arg(long)]
    description: Option<String>,
    /// The project that owns it
    #[arg(long)]
    owner: Option<String>,
    /// The project that it is lent to
    #[arg(long)]
    lessee: Option<String>,
    /// The part of the fleet that it is in
    #[arg(long)]
    shard: Option<String>,
    /// Id of the node that it is a part of
    #[arg(long, value_name = "UUID")]
    parent_node: Option<String>,
    /// What it has, such as `CUSTOM_GPU`; repeatable
    #[arg(long = "trait", value_name = "TRAIT")]
    traits: Vec<String>,
    /// Whether it can be neither rebuilt, nor undeployed, nor deleted
    #[arg(long, value_name = "true|false")]
    protected: Option<bool>,
    /// Why it is protected
    #[arg(long, value_name = "TEXT")]
    protected_reason: Option<String>,
    /// Whether it is offered to nobody any more
    #[arg(long, value_name = "true|false")]
    retired: Option<bool>,
    /// Why it is retired
    #[arg(long, value_name = "TEXT")]
    retired_reason: Option<String>,
}

impl SpecArguments {
    /// The spec with what was given, and the rest unset.
    pub(crate) fn spec(&self) -> NodeSpec {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        NodeSpec {
            driver: text(&self.driver),
            driver_info: object(&self.driver_info),
            properties: object(&self.properties),
            resource_class: text(&self.resource_class),
            conductor_group: text(&self.conductor_group),
            deploy_interface: text(&self.deploy_interface),
            boot_interface: text(&self.boot_interface),
            automated_clean: self.automated_clean,
            description: text(&self.description),
            owner: text(&self.owner),
            extra: object(&self.extra),
            lessee: text(&self.lessee),
            shard: text(&self.shard),
            parent_node: text(&self.parent_node),
            traits: self.traits.clone(),
            protected: self.protected.unwrap_or_default(),
            protected_reason: text(&self.protected_reason),
            retired: self.retired.unwrap_or_default(),
            retired_reason: text(&self.retired_reason),
            ..NodeSpec::default()
        }
    }

    /// The paths of what was given, as a field mask names them: single keys of objects, so that others stay.
    pub(crate) fn mask(&self) -> Vec<String> {
        let fields = [
            ("driver", self.driver.is_some()),
            ("resource_class", self.resource_class.is_some()),
            ("conductor_group", self.conductor_group.is_some()),
            ("deploy_interface", self.deploy_interface.is_some()),
            ("boot_interface", self.boot_interface.is_some()),
            ("automated_clean", self.automated_clean.is_some()),
            ("description", self.description.is_some()),
            ("owner", self.owner.is_some()),
            ("lessee", self.lessee.is_some()),
            ("shard", self.shard.is_some()),
            ("parent_node", self.parent_node.is_some()),
            ("protected", self.protected.is_some()),
            ("protected_reason", self.protected_reason.is_some()),
            ("retired", self.retired.is_some()),
            ("retired_reason", self.retired_reason.is_some()),
        ];
        let objects = [
            ("driver_info", &self.driver_info),
            ("properties", &self.properties),
            ("extra", &self.extra),
        ];
        let given = fields.iter().filter(|(_, given)| *given);
        let mut mask: Vec<_> = given.map(|(field, _)| format!("spec.{field}")).collect();
        for (object, pairs) in objects {
            mask.extend(pairs.iter().map(|pair| format!("spec.{object}.{}", pair.key)));
        }
        mask.extend(self.traits.iter().map(|name| format!("spec.traits.{name}")));
        mask
    }
}

/// The path in a field mask of what is to be unset: `owner` is `spec.owner`, `name` is itself.
pub(crate) fn unset_path(field: &str) -> String {
    match field {
        "name" => "name".to_owned(),
        _ if field.starts_with("spec.") => field.to_owned(),
        _ => format!("spec.{field}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        spec: SpecArguments,
    }

    #[test]
    fn the_mask_names_what_was_given_and_nothing_else() {
        let line = ["x", "--driver", "fake", "--property", "memory_mb=4096", "--property", "a.b=1"];
        let spec = Command::parse_from(line).spec;
        assert_eq!(
            spec.mask(),
            ["spec.driver", "spec.properties.memory_mb", "spec.properties.a.b"]
        );
        assert_eq!(spec.spec().properties.unwrap().fields.len(), 2);
        assert_eq!(spec.spec().driver_info, None);
        assert!(SpecArguments::default().mask().is_empty());
    }

    #[test]
    fn an_empty_value_is_given_all_the_same() {
        let spec = Command::parse_from(["x", "--owner", ""]).spec;
        assert_eq!(spec.mask(), ["spec.owner"]);
    }

    #[test]
    fn what_is_unset_is_named_with_or_without_spec() {
        let paths = [
            ("name", "name"),
            ("owner", "spec.owner"),
            ("spec.owner", "spec.owner"),
            ("properties.memory_mb", "spec.properties.memory_mb"),
        ];
        for (field, path) in paths {
            assert_eq!(unset_path(field), path);
        }
    }
}
