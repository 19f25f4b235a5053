//! What a form asks for, put as the request that any other client would send.

use axum::Extension;
use axum::Form;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use bessemer_access::Who;
use bessemer_domain::node::Verb;
use bessemer_proto::v1;
use bessemer_proto::v1::image_service_server::ImageService;
use bessemer_proto::v1::node_service_server::NodeService;
use serde::Deserialize;
use tonic::{Request, Status};

use super::shown;
use super::verb::Action;
use crate::api::Api;
use crate::caller::by;
use crate::dashboard::Shared;
use crate::dashboard::problem::Problem;

/// All fields that any form has; those that a form has not are empty.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::dashboard) struct Fields {
    command_id: String,
    reason: String,
    image: String,
    checksum: String,
    image_type: String,
    disk_format: String,
    hostname: String,
    user_data: String,
    erase_devices_metadata: bool,
    erase_devices: bool,
    rescue_password: String,
    step: String,
}

/// `POST /nodes/{node}/{action}`: does it, and leads back to the node. What is refused is told there.
pub(in crate::dashboard) async fn act(
    State(dashboard): Shared,
    Extension(who): Extension<Who>,
    Path((node, action)): Path<(String, String)>,
    Form(fields): Form<Fields>,
) -> Result<Response, Problem> {
    let action = Action::named(&action)
        .ok_or_else(|| Problem::not_found("there is nothing of that name to do"))?;
    match send(&dashboard.api, &who, node.clone(), action, fields).await {
        Ok(()) => Ok(Redirect::to(&format!("/nodes/{node}")).into_response()),
        Err(status) => {
            let problem = Problem::from(status);
            let page = shown(&dashboard, &who, &node, Some(&problem))?;
            Ok((problem.status(), page).into_response())
        }
    }
}

async fn send(
    api: &Api,
    who: &Who,
    node: String,
    action: Action,
    fields: Fields,
) -> Result<(), Status> {
    let command_id = fields.command_id.clone();
    let request = |message| by(who.clone(), message);
    let verb =
        v1::NodeVerbRequest { command_id: command_id.clone(), node: node.clone(), version: 0 };
    let power = |target: v1::PowerTarget| v1::SetNodePowerRequest {
        command_id: command_id.clone(),
        node: node.clone(),
        version: 0,
        target: target.into(),
        limit_seconds: 0,
    };
    let maintenance = |maintenance| v1::SetNodeMaintenanceRequest {
        command_id: command_id.clone(),
        node: node.clone(),
        version: 0,
        maintenance,
        reason: fields.reason.clone(),
    };
    match action {
        Action::Provision(Verb::Manage) => api.manage_node(request(verb)).await,
        Action::Provision(Verb::Inspect) => api.inspect_node(request(verb)).await,
        Action::Provision(Verb::Provide) => api.provide_node(request(verb)).await,
        Action::Provision(Verb::Undeploy) => api.undeploy_node(request(verb)).await,
        Action::Provision(Verb::Abort) => api.abort_node(request(verb)).await,
        Action::Provision(Verb::Unrescue) => api.unrescue_node(request(verb)).await,
        Action::Provision(Verb::Unhold) => api.unhold_node(request(verb)).await,
        Action::Provision(Verb::Rescue) => {
            let rescue_password = fields.rescue_password;
            let rescue = v1::RescueNodeRequest { command_id, node, version: 0, rescue_password };
            api.rescue_node(by(who.clone(), rescue)).await
        }
        Action::Provision(Verb::Service) => {
            let step = v1::RequestedStep { step: fields.step, ..v1::RequestedStep::default() };
            let service_steps = vec![step];
            let runbook = String::new();
            let service =
                v1::ServiceNodeRequest { command_id, node, version: 0, service_steps, runbook };
            api.service_node(by(who.clone(), service)).await
        }
        Action::Provision(Verb::Clean) => {
            let clean_steps = clean_steps(&fields);
            let clean = v1::CleanNodeRequest {
                command_id,
                node,
                version: 0,
                clean_steps,
                plugin_steps: Vec::new(),
                runbook: String::new(),
            };
            api.clean_node(by(who.clone(), clean)).await
        }
        Action::Provision(Verb::Deploy) => {
            api.deploy_node(by(who.clone(), deploy(api, node, fields).await?)).await
        }
        Action::Provision(Verb::Adopt) => {
            api.adopt_node(by(who.clone(), deploy(api, node, fields).await?)).await
        }
        Action::Provision(Verb::Rebuild) => {
            api.rebuild_node(by(who.clone(), deploy(api, node, fields).await?)).await
        }
        Action::PowerOn => api.set_node_power(by(who.clone(), power(v1::PowerTarget::On))).await,
        Action::PowerOff => api.set_node_power(by(who.clone(), power(v1::PowerTarget::Off))).await,
        Action::SoftOff => {
            api.set_node_power(by(who.clone(), power(v1::PowerTarget::SoftOff))).await
        }
        Action::Reboot => api.set_node_power(by(who.clone(), power(v1::PowerTarget::Reboot))).await,
        Action::Maintain => api.set_node_maintenance(by(who.clone(), maintenance(true))).await,
        Action::EndMaintenance => {
            api.set_node_maintenance(by(who.clone(), maintenance(false))).await
        }
    }
    .map(drop)
}

fn clean_steps(fields: &Fields) -> Vec<String> {
    [
        ("erase_devices_metadata", fields.erase_devices_metadata),
        ("erase_devices", fields.erase_devices),
    ]
    .into_iter()
    .filter(|(_, wanted)| *wanted)
    .map(|(name, _)| name.to_owned())
    .collect()
}

async fn deploy(api: &Api, node: String, fields: Fields) -> Result<v1::DeployNodeRequest, Status> {
    let command_id = fields.command_id.clone();
    // Only a rebuild may leave it out; the others are refused for want of it.
    let deployment = match fields.image.trim() {
        "" => None,
        image => Some(v1::DeploymentSpec {
            image: Some(image_spec(api, image, &fields).await?),
            config_drive: config_drive(&fields),
            ..v1::DeploymentSpec::default()
        }),
    };
    Ok(v1::DeployNodeRequest { command_id, node, version: 0, deployment })
}

/// What is at a URL, or the source of a prepared image.
async fn image_spec(api: &Api, image: &str, fields: &Fields) -> Result<v1::ImageSpec, Status> {
    if !image.contains("://") {
        let request = v1::GetImageRequest { image: image.to_owned() };
        let prepared = api.get_image(Request::new(request)).await?.into_inner();
        let spec = prepared.spec.unwrap_or_default();
        return Ok(v1::ImageSpec { image_type: fields.image_type.clone(), ..spec });
    }
    Ok(v1::ImageSpec {
        source: image.to_owned(),
        checksum: fields.checksum.trim().to_owned(),
        disk_format: fields.disk_format.clone(),
        image_type: fields.image_type.clone(),
        ..v1::ImageSpec::default()
    })
}

fn config_drive(fields: &Fields) -> Option<v1::ConfigDrive> {
    let hostname = fields.hostname.trim();
    if hostname.is_empty() && fields.user_data.is_empty() {
        return None;
    }
    let meta_data = (!hostname.is_empty()).then(|| {
        let kind = prost_types::value::Kind::StringValue(hostname.to_owned());
        let name = prost_types::Value { kind: Some(kind) };
        prost_types::Struct { fields: [("hostname".to_owned(), name)].into() }
    });
    // Browsers send lines as the mail of old did; scripts are not run with such lines.
    let user_data = fields.user_data.replace("\r\n", "\n").into_bytes();
    Some(v1::ConfigDrive { meta_data, user_data, ..v1::ConfigDrive::default() })
}
