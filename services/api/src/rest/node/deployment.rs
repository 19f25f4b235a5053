//! A deployment as clients of Ironic ask for it: by the node's `instance_info`, and by what the request itself brings.

use std::collections::BTreeMap;

use bessemer_domain::node::{DeployInterface, ImageType, JsonMap, Node};
use bessemer_proto::v1;
use bessemer_wire::{deployment, json};
use serde_json::Value;

use super::config_drive;
use crate::rest::fault::Fault;

/// What a provision request brings along.
#[derive(Debug, Default)]
pub(super) struct Brought {
    pub(super) config_drive: Option<v1::ConfigDrive>,
    pub(super) deploy_steps: Vec<v1::RequestedStep>,
}

/// The deployment that the node's `instance_info` describes.
pub(super) fn described(node: &Node, brought: Brought) -> Result<v1::DeploymentSpec, Fault> {
    let info = Info(&node.spec.instance_info);
    let interface = node.spec.deploy_interface();
    let image = image(&info, interface)?;
    let is_partition = image.as_ref().is_some_and(|it| it.image_type == "partition");
    let config_drive = match brought.config_drive {
        Some(drive) => Some(drive),
        None => match node.spec.instance_info.get("configdrive") {
            Some(drive) => config_drive::read(drive)?,
            None => None,
        },
    };
    // The kernel and the ramdisk of an image are for network boot, which only `ramdisk` needs.
    let boots_ramdisk = interface == DeployInterface::Ramdisk;
    let booted = |key| if boots_ramdisk { info.text(key) } else { Ok(String::new()) };
    Ok(v1::DeploymentSpec {
        traits: Vec::new(),
        image,
        deploy_interface: interface.as_str().to_owned(),
        image_download_source: download_source(node)?,
        config_drive,
        root_device: if boots_ramdisk { BTreeMap::new() } else { root_device(node)? },
        partitions: is_partition.then(|| partitions(&info)).transpose()?,
        deploy_steps: brought.deploy_steps,
        boot_iso: info.text("boot_iso")?,
        bootc: bootc(&info, interface)?,
        kernel: booted("kernel")?,
        ramdisk: booted("ramdisk")?,
        kernel_arguments: booted("ramdisk_kernel_arguments")?,
    })
}

/// The deployment of a rebuild: as described now or, where nothing is, the one that the node holds. None repeats that.
pub(super) fn of_rebuild(
    node: &Node,
    brought: Brought,
) -> Result<Option<v1::DeploymentSpec>, Fault> {
    let is_described = ["image_source", "boot_iso", "kernel"]
        .iter()
        .any(|key| node.spec.instance_info.contains_key(*key));
    let held = node.deployment.as_ref().filter(|_| !is_described);
    let Some(held) = held else { return described(node, brought).map(Some) };
    if brought.config_drive.is_none() && brought.deploy_steps.is_empty() {
        return Ok(None);
    }
    let mut spec = deployment::spec_to_proto(&held.spec);
    if brought.config_drive.is_some() {
        spec.config_drive = brought.config_drive;
    }
    if !brought.deploy_steps.is_empty() {
        spec.deploy_steps = brought.deploy_steps;
    }
    Ok(Some(spec))
}

/// Steps as Ironic's clients write them.
pub(super) fn deploy_steps(steps: &Value) -> Result<Vec<v1::RequestedStep>, Fault> {
    steps_of("deploy_steps", steps)?.iter().map(|step| requested("deploy_steps", step)).collect()
}

/// The list of steps under `field`.
pub(super) fn steps_of<'a>(field: &str, steps: &'a Value) -> Result<&'a [Value], Fault> {
    match steps {
        Value::Null => Ok(&[]),
        Value::Array(steps) => Ok(steps),
        other => Err(Fault::bad_request(format!("{field} `{other}` is not a list"))),
    }
}

/// One step. Its names and sizes are the core's to judge.
pub(super) fn requested(field: &str, step: &Value) -> Result<v1::RequestedStep, Fault> {
    let wrong = |what: &str| Fault::bad_request(format!("{field} holds {step}, {what}"));
    let known = ["interface", "step", "args", "priority"];
    let object = step.as_object().ok_or_else(|| wrong("which is not an object"))?;
    if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(wrong(&format!("whose `{key}` is not known")));
    }
    let text = |key: &str| match object.get(key) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(wrong(&format!("which lacks `{key}`"))),
    };
    Ok(v1::RequestedStep {
        interface: text("interface")?,
        step: text("step")?,
        args: match object.get("args") {
            None | Some(Value::Null) => None,
            Some(Value::Object(args)) => Some(json::to_proto(args)),
            Some(_) => return Err(wrong("whose `args` is not an object")),
        },
        priority: match object.get("priority") {
            None | Some(Value::Null) => None,
            Some(priority) => Some(
                whole(priority).ok_or_else(|| wrong("whose `priority` is not a whole number"))?,
            ),
        },
        limit_seconds: 0,
    })
}

fn image(info: &Info<'_>, interface: DeployInterface) -> Result<Option<v1::ImageSpec>, Fault> {
    let source = info.text("image_source")?;
    // What a ramdisk boots is not an image that is written; Ironic's clients often leave both there.
    if source.is_empty() && ![DeployInterface::Direct, DeployInterface::Bootc].contains(&interface)
    {
        return Ok(None);
    }
    let mut image_type = info.text("image_type")?;
    // Ironic's rule: what comes with a kernel and a ramdisk of its own is one file system.
    if image_type.is_empty() && (info.has("kernel") || info.has("ramdisk")) {
        ImageType::Partition.as_str().clone_into(&mut image_type);
    }
    Ok(Some(v1::ImageSpec {
        source,
        checksum: info.text("image_checksum")?,
        os_hash_algo: info.text("image_os_hash_algo")?,
        os_hash_value: info.text("image_os_hash_value")?,
        disk_format: info.text("image_disk_format")?,
        image_type,
    }))
}

/// What only `bootc` looks at; another interface is not told, as Ironic does not tell it.
fn bootc(info: &Info<'_>, interface: DeployInterface) -> Result<Option<v1::BootcOptions>, Fault> {
    let options = v1::BootcOptions {
        authorized_keys: info.text("bootc_authorized_keys")?,
        tpm2_luks: info.flag("bootc_tpm2_luks")?,
    };
    let takes = [DeployInterface::Bootc, DeployInterface::Autodetect].contains(&interface);
    Ok(Some(options).filter(|options| takes && *options != v1::BootcOptions::default()))
}

fn partitions(info: &Info<'_>) -> Result<v1::PartitionLayout, Fault> {
    Ok(v1::PartitionLayout {
        root_gb: info.number("root_gb")?,
        swap_mb: info.number("swap_mb")?,
        ephemeral_gb: info.number("ephemeral_gb")?,
        ephemeral_format: info.text("ephemeral_format")?,
        preserve_ephemeral: info.flag("preserve_ephemeral")?,
    })
}

/// That of the instance, else that of the machine.
fn download_source(node: &Node) -> Result<String, Fault> {
    let key = "image_download_source";
    let of_instance = Info(&node.spec.instance_info).text(key)?;
    if of_instance.is_empty() { Info(&node.spec.driver_info).text(key) } else { Ok(of_instance) }
}

/// Hints of the instance, else those of the machine.
fn root_device(node: &Node) -> Result<BTreeMap<String, String>, Fault> {
    let of_instance = node.spec.instance_info.get("root_device");
    let (field, hints) = match of_instance.filter(|hints| !hints.is_null()) {
        Some(hints) => ("instance_info/root_device", Some(hints)),
        None => ("properties/root_device", node.spec.properties.get("root_device")),
    };
    let hints = match hints {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(hints)) => hints,
        Some(other) => {
            return Err(Fault::bad_request(format!("{field} `{other}` is not an object")));
        }
    };
    let text = |(hint, value): (&String, &Value)| match value {
        Value::String(text) => Ok((hint.clone(), text.clone())),
        Value::Number(number) => Ok((hint.clone(), number.to_string())),
        Value::Bool(flag) => Ok((hint.clone(), flag.to_string())),
        other => {
            Err(Fault::bad_request(format!("{field}/{hint} `{other}` is not a text or a number")))
        }
    };
    hints.iter().map(text).collect()
}

/// `instance_info`, or another object whose values clients write as they like.
struct Info<'a>(&'a JsonMap);

impl Info<'_> {
    fn has(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|value| !value.is_null())
    }

    fn wrong(key: &str, value: &Value, what: &str) -> Fault {
        Fault::bad_request(format!("instance_info/{key} `{value}` is not {what}"))
    }

    fn text(&self, key: &str) -> Result<String, Fault> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(Self::wrong(key, other, "a text")),
        }
    }

    fn number(&self, key: &str) -> Result<u32, Fault> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(0),
            Some(value) => whole(value).ok_or_else(|| Self::wrong(key, value, "a whole number")),
        }
    }

    fn flag(&self, key: &str) -> Result<bool, Fault> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(Value::String(text)) => crate::rest::query::flag(key, text),
            Some(other) => Err(Self::wrong(key, other, "true or false")),
        }
    }
}

/// A whole number, or a text that reads as one.
fn whole(value: &Value) -> Option<u32> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        other => u32::try_from(other.as_u64()?).ok(),
    }
}
