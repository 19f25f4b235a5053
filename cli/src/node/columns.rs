//! What is shown of nodes, in tables and one by one. Pure.

use std::time::SystemTime;

use bessemer_proto::v1::{Claim, Node, NodeSpec, NodeStatus, PowerState};
use serde_json::Value;

use super::steps;
use super::verdict::power_word;
use crate::output::{Column, View, json, quantity};

/// Nodes.
pub(crate) const NODES: View<Node> = View {
    columns: &[
        Column { title: "NAME", wide: false, cell: |node, _| super::label(node).to_owned() },
        Column { title: "STATE", wide: false, cell: |node, _| state(node) },
        Column { title: "POWER", wide: false, cell: |node, _| power(node) },
        Column { title: "PROGRESS", wide: false, cell: |node, _| progress(node) },
        Column {
            title: "IN-STATE",
            wide: false,
            cell: |node, now| quantity::age(status(node).provision_state_since.as_ref(), now),
        },
        Column { title: "IMAGE", wide: false, cell: |node, _| image(node) },
        Column { title: "CONDUCTOR", wide: false, cell: |node, _| status(node).conductor.clone() },
        Column { title: "ID", wide: true, cell: |node, _| id(node).to_owned() },
        Column { title: "DRIVER", wide: true, cell: |node, _| spec(node).driver.clone() },
        Column {
            title: "RESOURCE CLASS",
            wide: true,
            cell: |node, _| spec(node).resource_class.clone(),
        },
        Column { title: "OWNER", wide: true, cell: |node, _| spec(node).owner.clone() },
        Column { title: "VERSION", wide: true, cell: |node, _| node.version.to_string() },
        Column {
            title: "LAST ERROR",
            wide: false,
            cell: |node, _| status(node).last_error.clone(),
        },
    ],
    name: |node| super::label(node).to_owned(),
    fields: details,
};

static NO_SPEC: std::sync::LazyLock<NodeSpec> = std::sync::LazyLock::new(NodeSpec::default);
static NO_STATUS: std::sync::LazyLock<NodeStatus> = std::sync::LazyLock::new(NodeStatus::default);

fn spec(node: &Node) -> &NodeSpec {
    node.spec.as_ref().unwrap_or(&NO_SPEC)
}

fn status(node: &Node) -> &NodeStatus {
    node.status.as_ref().unwrap_or(&NO_STATUS)
}

fn id(node: &Node) -> &str {
    node.metadata.as_ref().map_or("", |metadata| &metadata.id)
}

fn state(node: &Node) -> String {
    let status = status(node);
    let maintenance = if status.maintenance { " (maintenance)" } else { "" };
    format!("{}{maintenance}", status.provision_state)
}

fn power(node: &Node) -> String {
    let status = status(node);
    let now = power_word(status.power_state());
    match status.target_power_state() {
        PowerState::Unspecified => now.to_owned(),
        target => format!("{} → {}", if now.is_empty() { "?" } else { now }, power_word(target)),
    }
}

/// The running step, and how much of it is done where that is known.
fn progress(node: &Node) -> String {
    let status = status(node);
    if let Some(turn) = status.progress.as_ref().and_then(|progress| progress.turn) {
        return format!("in line, {} of {}", turn.position, turn.waiting);
    }
    let Some(step) = steps::running(status) else { return String::new() };
    match steps::transfer(status) {
        Some(transfer) => {
            format!("{} {}", step.name, transfer.figures().split_whitespace().next().unwrap_or(""))
        }
        None => step.name.clone(),
    }
}

/// The last part of the source's path: what people call the image.
fn image(node: &Node) -> String {
    let deployment = status(node).deployment.as_ref();
    let source = deployment
        .and_then(|deployment| deployment.spec.as_ref())
        .and_then(|spec| spec.image.as_ref())
        .map_or("", |image| &image.source);
    source.rsplit('/').next().unwrap_or_default().to_owned()
}

fn details(node: &Node, now: SystemTime) -> Vec<(&'static str, String)> {
    let (spec, status) = (spec(node), status(node));
    let metadata = node.metadata.clone().unwrap_or_default();
    let shown = json(node);
    let mut fields = vec![
        ("Name", metadata.name),
        ("ID", metadata.id),
        ("State", state_with_age(node, now)),
        ("Power", power(node)),
        ("Last error", status.last_error.clone()),
        ("Fault", status.fault.clone()),
        ("Waiting for", waiting(status)),
        ("Maintenance", status.maintenance_reason.clone()),
        ("Conductor", status.conductor.clone()),
        ("Claim", status.claim.as_ref().map(claim).unwrap_or_default()),
        ("Driver", spec.driver.clone()),
        ("Driver info", object(shown.pointer("/spec/driver_info"))),
        ("Properties", object(shown.pointer("/spec/properties"))),
        ("Deploy interface", chosen(&spec.deploy_interface, &status.deploy_interface)),
        ("Boot interface", chosen(&spec.boot_interface, &status.boot_interface)),
        ("Resource class", spec.resource_class.clone()),
        ("Conductor group", spec.conductor_group.clone()),
        ("Owner", spec.owner.clone()),
        ("Lessee", spec.lessee.clone()),
        ("Shard", spec.shard.clone()),
        ("Parent node", spec.parent_node.clone()),
        ("Traits", spec.traits.join(", ")),
        ("Protected", marked(spec.protected, &spec.protected_reason)),
        ("Retired", marked(spec.retired, &spec.retired_reason)),
        ("Description", spec.description.clone()),
        ("Extra", object(shown.pointer("/spec/extra"))),
    ];
    fields.extend(deployment(status));
    if let Some(plan) = &status.plan {
        fields.push(("Plan", plan_lines(node, &plan.kind, now)));
    }
    fields.push(("Inventory", inventory(status)));
    fields.push(("Created", quantity::instant(metadata.created_at.as_ref())));
    fields.push(("Updated", quantity::instant(metadata.updated_at.as_ref())));
    fields.push(("Version", node.version.to_string()));
    fields
}

/// A mark and why it is there; nothing where it is not.
fn marked(is_set: bool, reason: &str) -> String {
    match (is_set, reason) {
        (false, _) => String::new(),
        (true, "") => "yes".to_owned(),
        (true, reason) => format!("yes: {reason}"),
    }
}

/// An interface that was chosen, or the one there is without a choice.
fn chosen(chosen: &str, default: &str) -> String {
    if chosen.is_empty() { format!("{default} (by default)") } else { chosen.to_owned() }
}

fn state_with_age(node: &Node, now: SystemTime) -> String {
    let status = status(node);
    let age = quantity::age(status.provision_state_since.as_ref(), now);
    let target = match status.target_provision_state.as_str() {
        "" => String::new(),
        target => format!(" → {target}"),
    };
    format!("{}{target}, for {age}", state(node))
}

fn waiting(status: &NodeStatus) -> String {
    let Some(waiting) = &status.waiting_on else { return String::new() };
    let mut text = format!("{}, since {}", waiting.what, quantity::instant(waiting.since.as_ref()));
    if waiting.until.is_some() {
        text += &format!(", until {} at most", quantity::instant(waiting.until.as_ref()));
    }
    text
}

fn claim(claim: &Claim) -> String {
    format!("{}, epoch {}", claim.conductor_id, claim.epoch)
}

/// One key a line.
fn object(object: Option<&Value>) -> String {
    let Some(Value::Object(object)) = object else { return String::new() };
    let lines = object.iter().map(|(key, value)| match value.as_str() {
        Some(text) => format!("{key}: {text}"),
        None => format!("{key}: {value}"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn deployment(status: &NodeStatus) -> Vec<(&'static str, String)> {
    let Some(deployment) = &status.deployment else { return Vec::new() };
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut fields = vec![
        ("Deployment", format!("{} ({})", deployment.id, spec.deploy_interface)),
        ("Image", spec.image.unwrap_or_default().source),
        ("Boot ISO", spec.boot_iso),
        ("Kernel", spec.kernel),
    ];
    if let Some(container) = &deployment.container {
        fields.push(("Container", container.reference.clone()));
    }
    if let Some(install) = &deployment.install {
        let end = install.log.lines().last().unwrap_or_default();
        fields.push(("Installed", format!("on {}: {end}", install.device)));
    }
    if let Some(image) = &deployment.image {
        let size = quantity::bytes(image.raw_size_bytes);
        let pack = quantity::bytes(image.pack_size_bytes);
        fields.push(("Image size", format!("{size} ({}, {pack} packed)", image.source_format)));
        fields.push(("Image digest", format!("{}:{}", image.raw_hash_algo, image.raw_hash_value)));
    }
    if let Some(write) = &deployment.write {
        let took = write
            .duration
            .and_then(|duration| std::time::Duration::try_from(duration).ok())
            .unwrap_or_default();
        fields.push((
            "Written",
            format!(
                "{} to {} in {}, {} on the wire",
                quantity::bytes(write.image_bytes),
                write.device,
                quantity::duration(took),
                quantity::bytes(write.wire_bytes)
            ),
        ));
        if !write.root_uuid.is_empty() {
            fields.push(("Root file system", write.root_uuid.clone()));
        }
    }
    fields
}

fn plan_lines(node: &Node, kind: &str, now: SystemTime) -> String {
    let lines = steps::live(node, now);
    let steps = lines.iter().skip(1).filter(|line| !line.trim_start().starts_with("waiting"));
    let steps: Vec<_> =
        steps.map(|line| console::strip_ansi_codes(line).trim_start().to_owned()).collect();
    format!("{kind}\n{}", steps.join("\n"))
}

fn inventory(status: &NodeStatus) -> String {
    let Some(inventory) = &status.inventory else { return String::new() };
    let mut lines = vec![format!(
        "{} CPUs ({} {}), {} memory",
        inventory.cpu_count,
        inventory.cpu_architecture,
        inventory.cpu_model,
        quantity::bytes(inventory.memory_bytes)
    )];
    lines.extend(inventory.disks.iter().map(|disk| {
        format!("disk {}  {}  {}", disk.name, quantity::bytes(disk.size_bytes), disk.model)
            .trim_end()
            .to_owned()
    }));
    lines.extend(
        inventory.interfaces.iter().map(|nic| format!("nic {}  {}", nic.name, nic.mac_address)),
    );
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bessemer_proto::v1::{
        Deployment, DeploymentSpec, ImageSpec, Metadata, Plan, Progress, Step,
    };

    use super::*;

    fn nodes() -> Vec<Node> {
        let since = Some(prost_types::Timestamp { seconds: 1000, nanos: 0 });
        let named = |name: &str| {
            Some(Metadata { name: name.into(), id: "3f1c7a52".into(), ..Metadata::default() })
        };
        let resting = NodeStatus {
            provision_state: "deploy failed".into(),
            provision_state_since: since,
            power_state: PowerState::Off.into(),
            last_error: "checksum is wrong".into(),
            conductor: "c1".into(),
            ..NodeStatus::default()
        };
        let moving = NodeStatus {
            provision_state: "wait call-back".into(),
            target_provision_state: "active".into(),
            provision_state_since: since,
            power_state: PowerState::On.into(),
            target_power_state: PowerState::Off.into(),
            deployment: Some(Deployment {
                spec: Some(DeploymentSpec {
                    image: Some(ImageSpec {
                        source: "http://images.test/debian-12.qcow2".into(),
                        ..ImageSpec::default()
                    }),
                    ..DeploymentSpec::default()
                }),
                ..Deployment::default()
            }),
            plan: Some(Plan {
                steps: vec![Step {
                    interface: "deploy".into(),
                    name: "write_image".into(),
                    ..Step::default()
                }],
                ..Plan::default()
            }),
            progress: Some(Progress {
                step: "deploy.write_image".into(),
                done_bytes: 45,
                total_bytes: 100,
                ..Progress::default()
            }),
            ..NodeStatus::default()
        };
        vec![
            Node { metadata: named("m1"), status: Some(resting), ..Node::default() },
            Node { metadata: named(""), status: Some(moving), ..Node::default() },
        ]
    }

    #[test]
    fn a_list_reads_at_a_glance() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1192);
        let table = NODES.table(&nodes(), false, now).render();
        let expected = "\
NAME      STATE           POWER     PROGRESS         IN-STATE  IMAGE            CONDUCTOR  LAST ERROR
m1        deploy failed   off       -                3m        -                c1         checksum is wrong
3f1c7a52  wait call-back  on → off  write_image 45%  3m        debian-12.qcow2  -          -
";
        assert_eq!(table, expected);
    }

    #[test]
    fn the_wide_list_has_the_id_and_keeps_the_error_last() {
        let table = NODES.table(&nodes(), true, SystemTime::UNIX_EPOCH).render();
        let headings = table.lines().next().unwrap();
        assert!(headings.contains("ID") && headings.ends_with("LAST ERROR"), "{headings}");
    }
}
