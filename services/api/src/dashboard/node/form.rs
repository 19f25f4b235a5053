//! The page that asks whether it is really meant, and for what else is needed.

use axum::extract::{Path, State};
use axum::response::Html;
use bessemer_domain::node::Verb;
use maud::{Markup, html};
use uuid::Uuid;

use super::verb::Action;
use super::{Known, found, known, panels};
use crate::dashboard::image::prepared_names;
use crate::dashboard::layout::{Page, Tab};
use crate::dashboard::problem::Problem;
use crate::dashboard::{Dashboard, Shared};

/// `GET /nodes/{node}/{action}`
pub(in crate::dashboard) async fn form(
    State(dashboard): Shared,
    Path((reference, action)): Path<(String, String)>,
) -> Result<Html<String>, Problem> {
    let action = Action::named(&action)
        .ok_or_else(|| Problem::not_found("there is nothing of that name to do"))?;
    let id = dashboard.api.ledger.look(|state| found(state, &reference))?;
    let known = known(&dashboard, id)?;
    let fields = fields(&dashboard, action).await;
    let title = format!("{} {}", action.title(), known.label());
    let page = Page { tab: Tab::None, title: &title, live: None, scripts: &[] };
    Ok(Html(page.with(&dashboard.api, &confirmation(&known, action, &fields)).into_string()))
}

fn confirmation(known: &Known, action: Action, fields: &Markup) -> Markup {
    let id = known.metadata().id;
    let label = known.label();
    html! {
        section.panel.narrow {
            h1 { (action.title()) " " (label) "?" }
            (panels::short(known))
            @if let Some(consequence) = action.consequence() { p.warning { (consequence) } }
            form method="post" action=(format!("/nodes/{id}/{}", action.name())) {
                // Sent twice, by a double click or a reload, it is done once.
                input type="hidden" name="command_id" value=(Uuid::new_v4());
                (fields)
                div.actions {
                    button class=(if action.consequence().is_some() { "primary danger" } else { "primary" }) type="submit" { (action.title()) " " (label) }
                    a.button href=(format!("/nodes/{id}")) { "Leave it" }
                }
            }
        }
    }
}

async fn fields(dashboard: &Dashboard, action: Action) -> Markup {
    match action {
        Action::Provision(Verb::Deploy | Verb::Adopt) => deployment(dashboard, true).await,
        Action::Provision(Verb::Rebuild) => deployment(dashboard, false).await,
        Action::Provision(Verb::Clean) => html! {
            fieldset {
                legend { "Steps" }
                label { input type="checkbox" name="erase_devices_metadata" value="true" checked; " erase_devices_metadata: partition tables and signatures" }
                label { input type="checkbox" name="erase_devices" value="true"; " erase_devices: overwrite the disks, which takes hours" }
            }
        },
        Action::Provision(Verb::Rescue) => html! {
            label.field { "Password" input type="password" name="rescue_password" required maxlength="255" autocomplete="new-password"; span.note { "of user rescue; it is stored as a hash, until the machine has it" } }
        },
        Action::Provision(Verb::Service) => html! {
            label.field { "Step" input name="step" required list="steps" autocomplete="off" spellcheck="false"; span.note { "a universal step, or one of the agent's plug-ins that needs no arguments" } }
            datalist #steps { @for step in ["reboot", "power_off", "power_on", "hold"] { option value=(step) {} } }
        },
        Action::Maintain => html! {
            label.field { "Reason" input name="reason" maxlength="255" autocomplete="off"; }
        },
        _ => html! {},
    }
}

async fn deployment(dashboard: &Dashboard, is_required: bool) -> Markup {
    let prepared = prepared_names(dashboard).await;
    let note = if is_required {
        "URL, or the name of a prepared image"
    } else {
        "URL, or the name of a prepared image; empty repeats the last deployment"
    };
    html! {
        label.field { "Image" input name="image" required[is_required] list="images" autocomplete="off" spellcheck="false"; span.note { (note) } }
        datalist #images { @for name in &prepared { option value=(name) {} } }
        label.field { "Checksum" input name="checksum" autocomplete="off" spellcheck="false"; span.note { "md5, sha256 or sha512, or the URL of a checksum file; a prepared image has its own" } }
        div.pair {
            label.field { "Image type" select name="image_type" { option value="" { "whole-disk" } option value="partition" { "partition" } } }
            label.field { "Disk format" select name="disk_format" {
                option value="" { "found out" }
                @for format in ["raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi"] { option { (format) } }
            } }
        }
        label.field { "Host name" input name="hostname" autocomplete="off" spellcheck="false"; span.note { "meta data of the config drive" } }
        label.field { "User data" textarea name="user_data" rows="5" spellcheck="false" {} span.note { "for cloud-init, by the config drive" } }
    }
}
