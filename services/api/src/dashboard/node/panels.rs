//! The panels of a node's page that follow from its newest state.

use bessemer_proto::v1;
use bessemer_wire::quantity;
use maud::{Markup, html};

use super::Known;
use super::verb::Action;
use crate::dashboard::layout::{self, ago, code, facts as list, lasting, state_chip, text, until};

/// Name, state, and what can be done.
pub(super) fn head(known: &Known, may_act: bool) -> Markup {
    let (metadata, status) = (known.metadata(), known.status());
    html! {
        div.head {
            h1 { (known.label()) }
            (state_chip(&status.provision_state))
            @if !status.target_provision_state.is_empty() { span.note { "on its way to " (status.target_provision_state) } }
            span.note { "for " (lasting(status.provision_state_since.as_ref())) }
            span.chip { (power(&status)) }
            @if status.maintenance { span.chip.busy { "maintenance: " (status.maintenance_reason) } }
        }
        @if may_act {
            div.actions role="group" aria-label="What can be done" {
                @for action in Action::allowed(&status) {
                    a.button href=(format!("/nodes/{}/{}", metadata.id, action.name())) { (action.title()) "…" }
                }
            }
        }
        @if !status.last_error.is_empty() {
            div.panel.problem { p { b { "Last error: " } (status.last_error) } }
        }
    }
}

fn power(status: &v1::NodeStatus) -> String {
    let name = |state| match state {
        v1::PowerState::On => "on",
        v1::PowerState::Off => "off",
        v1::PowerState::Unspecified => "unknown",
    };
    match status.target_power_state() {
        v1::PowerState::Unspecified => format!("power {}", name(status.power_state())),
        target => format!("power {} → {}", name(status.power_state()), name(target)),
    }
}

/// What it waits for, and how far that is.
pub(super) fn waiting(known: &Known) -> Markup {
    let status = known.status();
    let Some(wait) = &status.waiting_on else { return html! {} };
    html! {
        section.panel.waiting {
            h2 { "Waiting for " (wait.what) }
            p.note {
                "for " (lasting(wait.since.as_ref()))
                @if wait.until.is_some() { ", given up " (until(wait.until.as_ref())) } @else { "; nothing bounds this" }
                @if !status.conductor.is_empty() { ", driven by conductor " b { (status.conductor) } }
                @if let Some(claim) = &status.claim { ", epoch " (claim.epoch) }
            }
            @if let Some(progress) = &status.progress { (bytes(progress)) }
        }
    }
}

fn bytes(progress: &v1::Progress) -> Markup {
    if progress.turn.is_some() {
        return html! {};
    }
    let (done, total, rate) =
        (progress.done_bytes, progress.total_bytes, progress.bytes_per_second);
    html! {
        div.progress {
            @if total > 0 {
                progress max=(total) value=(done) aria-label=(progress.step) {}
                b { (quantity::percent(done, total)) " %" }
            }
            span {
                (progress.step) ": " (quantity::bytes(done))
                @if total > 0 { " of " (quantity::bytes(total)) }
                @if rate > 0 { ", " (quantity::bytes(rate)) "/s" }
                @if let Some(left) = quantity::remaining(done, total, rate) { ", " (quantity::duration(left)) " left" }
                @if progress.wire_bytes > 0 { " · " (quantity::bytes(progress.wire_bytes)) " on the wire" }
            }
        }
    }
}

/// Everything else that is known of it.
pub(super) fn facts(known: &Known) -> Markup {
    let (metadata, status) = (known.metadata(), known.status());
    let spec = known.node.spec.clone().unwrap_or_default();
    let claim =
        status.claim.as_ref().map(|claim| format!("{}, epoch {}", claim.conductor_id, claim.epoch));
    html! {
        div.columns {
            section.panel {
                h2 { "Node" }
                (list(vec![
                    ("UUID", code(&metadata.id)),
                    ("Driver", text(&spec.driver)),
                    ("Conductor", text(&status.conductor)),
                    ("Claimed by", text(claim.as_deref().unwrap_or_default())),
                    ("Conductor group", text(&spec.conductor_group)),
                    ("Resource class", text(&spec.resource_class)),
                    ("Owner", text(&spec.owner)),
                    ("Description", text(&spec.description)),
                    ("Deploy interface", text(&spec.deploy_interface)),
                    ("Ports", html! { @for port in &known.ports { code { (port) } " " } }),
                    ("Enrolled", ago(metadata.created_at.as_ref())),
                    ("Changed", ago(metadata.updated_at.as_ref())),
                    ("Version", html! { (known.node.version) }),
                ]))
                (structure("Driver info", spec.driver_info.as_ref()))
                (structure("Properties", spec.properties.as_ref()))
                (structure("Extra", spec.extra.as_ref()))
            }
            @if let Some(deployment) = &status.deployment { (self::deployment(deployment)) }
            @if let Some(inventory) = &status.inventory { (self::inventory(inventory)) }
        }
    }
}

fn structure(title: &str, structure: Option<&prost_types::Struct>) -> Markup {
    let fields = structure.map(|structure| &structure.fields).filter(|fields| !fields.is_empty());
    html! {
        @if let Some(fields) = fields {
            h3 { (title) }
            dl.facts { @for (key, value) in fields { div { dt { (key) } dd { code { (value_text(value)) } } } } }
        }
    }
}

/// A value as it would be written in JSON, but a text without its quotes.
fn value_text(value: &prost_types::Value) -> String {
    use prost_types::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => "null".to_owned(),
        Some(Kind::NumberValue(number)) => number.to_string(),
        Some(Kind::StringValue(text)) => text.clone(),
        Some(Kind::BoolValue(value)) => value.to_string(),
        Some(Kind::StructValue(object)) => {
            let fields = object.fields.iter();
            let fields = fields.map(|(key, value)| format!("{key}: {}", value_text(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Some(Kind::ListValue(list)) => {
            format!("[{}]", list.values.iter().map(value_text).collect::<Vec<_>>().join(", "))
        }
    }
}

fn deployment(deployment: &v1::Deployment) -> Markup {
    let spec = deployment.spec.clone().unwrap_or_default();
    let image = spec.image.unwrap_or_default();
    let hints: Vec<_> =
        spec.root_device.iter().map(|(key, value)| format!("{key} {value}")).collect();
    let checksum = if image.os_hash_value.is_empty() {
        image.checksum
    } else {
        format!("{} {}", image.os_hash_algo, image.os_hash_value)
    };
    html! {
        section.panel {
            h2 { "Deployment" }
            (list(vec![
                ("Image", code(&image.source)),
                ("Checksum", code(&checksum)),
                ("Type", text(&image.image_type)),
                ("Interface", text(&spec.deploy_interface)),
                ("Download", text(&spec.image_download_source)),
                ("Root device hints", text(&hints.join(", "))),
                ("Asked for", ago(deployment.requested_at.as_ref())),
            ]))
            @if let Some(resolved) = &deployment.image {
                h3 { "Prepared image" }
                (list(vec![
                    ("Id", code(&resolved.id)),
                    ("Format", text(&resolved.source_format)),
                    ("Raw", text(&quantity::bytes(resolved.raw_size_bytes))),
                    ("Stored", text(&quantity::bytes(resolved.pack_size_bytes))),
                    ("Raw digest", code(&format!("{} {}", resolved.raw_hash_algo, resolved.raw_hash_value))),
                ]))
            }
            @if let Some(write) = &deployment.write { (self::write(write)) }
        }
    }
}

fn write(write: &v1::WriteReport) -> Markup {
    let took = write.duration.and_then(|took| std::time::Duration::try_from(took).ok());
    let refused = write.refused_chunks;
    html! {
        h3 { "Written" }
        (list(vec![
            ("Root device", code(&write.device)),
            ("Image", text(&quantity::bytes(write.image_bytes))),
            ("On the wire", text(&quantity::bytes(write.wire_bytes))),
            ("Found on the disk", if write.resumed_bytes > 0 { text(&quantity::bytes(write.resumed_bytes)) } else { html! {} }),
            ("Refused chunks", if refused > 0 { html! { (refused) } } else { html! {} }),
            ("Took", text(&took.map(quantity::duration).unwrap_or_default())),
            ("Root UUID", code(&write.root_uuid)),
        ]))
    }
}

fn inventory(inventory: &v1::Inventory) -> Markup {
    let cpu =
        format!("{} × {} {}", inventory.cpu_count, inventory.cpu_architecture, inventory.cpu_model);
    let system =
        [&inventory.system_vendor, &inventory.system_product].map(String::as_str).join(" ");
    html! {
        section.panel {
            h2 { "Inventory" }
            (list(vec![
                ("System", text(system.trim())),
                ("Serial", text(&inventory.system_serial)),
                ("CPU", text(&cpu)),
                ("Memory", text(&quantity::bytes(inventory.memory_bytes))),
            ]))
            div.scroll tabindex="0" { table {
                thead { tr { th { "Disk" } th.right { "Size" } th { "Model" } th { "Serial" } } }
                tbody { @for disk in &inventory.disks { tr {
                    td { code { (disk.name) } }
                    td.right { (quantity::bytes(disk.size_bytes)) }
                    td { (disk.vendor) " " (disk.model) @if disk.rotational { " (rotational)" } }
                    td { (disk.serial) }
                } } }
            } }
            div.scroll tabindex="0" { table {
                thead { tr { th { "Interface" } th { "MAC" } th { "Addresses" } th { "Link" } } }
                tbody { @for interface in &inventory.interfaces { tr {
                    td { code { (interface.name) } }
                    td { code { (interface.mac_address) } }
                    td { (interface.addresses.join(", ")) }
                    td { @if interface.has_carrier { "up" } @else { "down" } }
                } } }
            } }
        }
    }
}

/// Shown where a form is about the node.
pub(super) fn short(known: &Known) -> Markup {
    let (metadata, status) = (known.metadata(), known.status());
    html! {
        p { b { (known.label()) } " " (layout::state_chip(&status.provision_state)) " " span.note { code { (metadata.id) } } }
    }
}
