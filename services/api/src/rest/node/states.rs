//! `…/states`: where a node stands, its power, and the verbs that move it.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use bessemer_domain::node::{AGENT_PRIORITIES, Node, Step};
use bessemer_proto::v1;
use bessemer_proto::v1::node_service_server::NodeService;
use serde_json::{Map, Value};

use super::deployment::{self, Brought, requested, steps_of};
use super::fields::{NODE, STATES};
use super::{config_drive, reference};
use crate::api::{Api, Freshness};
use crate::rest::Shared;
use crate::rest::answer;
use crate::rest::asked::Asked;
use crate::rest::body::Body;
use crate::rest::fault::Fault;
use crate::rest::resource::Context;

/// Power off by the operating system, and times to wait, came with this version.
const SOFT_POWER_SINCE: u16 = 27;

/// `GET /v1/nodes/{node}/states`
pub(in crate::rest) async fn show(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
) -> Result<Response, Fault> {
    let node = reference(&node)?;
    let state = rest.api.state(Freshness::Latest).await?;
    let node = node.find(&state)?;
    let context = Context { state: &state, asked: &asked };
    let columns = NODE.all(asked.version).into_iter().filter(|it| STATES.contains(&it.name));
    let states = columns.map(|field| (field.name.to_owned(), (field.show)(node, &context)));
    Ok(answer::ok(&states.collect::<Map<_, _>>()))
}

/// `PUT /v1/nodes/{node}/states/power`
pub(in crate::rest) async fn power(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
    body: Body,
) -> Result<Response, Fault> {
    let mut request = body.object()?;
    let target = match take_text(&mut request, "target")?.as_str() {
        "power on" => v1::PowerTarget::On,
        "power off" => v1::PowerTarget::Off,
        "rebooting" => v1::PowerTarget::Reboot,
        "soft power off" | "soft rebooting" if asked.version.0 < SOFT_POWER_SINCE => {
            return Err(Fault::since("soft power off", SOFT_POWER_SINCE));
        }
        "soft power off" => v1::PowerTarget::SoftOff,
        "soft rebooting" => v1::PowerTarget::SoftReboot,
        other => {
            return Err(Fault::bad_request(format!(
                "target `{other}` is none of: power on, power off, rebooting, soft power off, soft rebooting"
            )));
        }
    };
    let limit_seconds = match request.remove("timeout") {
        None | Some(Value::Null) => 0,
        Some(_) if asked.version.0 < SOFT_POWER_SINCE => {
            return Err(Fault::since("timeout", SOFT_POWER_SINCE));
        }
        Some(seconds) => {
            let whole = seconds.as_u64().and_then(|it| u32::try_from(it).ok()).filter(|it| *it > 0);
            let wrong =
                || Fault::bad_request(format!("timeout `{seconds}` is no number of seconds"));
            whole.ok_or_else(wrong)?
        }
    };
    refuse_others(&request)?;
    let message = v1::SetNodePowerRequest {
        limit_seconds,
        command_id: asked.command_id(&body.0, ""),
        node: reference(&node)?.to_string(),
        version: asked.expected_version(),
        target: target.into(),
    };
    rest.api.set_node_power(asked.by(message)).await?;
    Ok(accepted(&asked, &node))
}

/// What a provision request may ask for: Ironic's name, and the version of the API that it came with.
const TARGETS: &[(&str, u16)] = &[
    ("abort", 13),
    ("active", 1),
    ("adopt", 17),
    ("clean", 15),
    ("deleted", 1),
    ("deploy", 73),
    ("inspect", 6),
    ("manage", 4),
    ("provide", 4),
    ("rebuild", 1),
    ("rescue", 38),
    ("service", 87),
    ("undeploy", 73),
    ("unhold", 85),
    ("unrescue", 38),
];

/// Versions with which parts of provision requests came.
const CLEAN_STEPS_SINCE: u16 = 15;
const REBUILD_CONFIG_DRIVE_SINCE: u16 = 35;
const CONFIG_DRIVE_DOCUMENTS_SINCE: u16 = 56;
const VENDOR_DATA_SINCE: u16 = 59;
const DEPLOY_STEPS_SINCE: u16 = 69;
const RUNBOOK_SINCE: u16 = 92;

/// `PUT /v1/nodes/{node}/states/provision`
pub(in crate::rest) async fn provision(
    rest: Shared,
    asked: Asked,
    Path(node): Path<String>,
    body: Body,
) -> Result<Response, Fault> {
    let mut request = body.object()?;
    let target = take_text(&mut request, "target")?;
    check_target(&target, asked.version.0)?;
    let brought = brought(&mut request, &target, asked.version.0)?;
    let mut only = |field: &str, targets: &[&str]| {
        let value = request.remove(field).unwrap_or_default();
        if value.is_null() || targets.contains(&target.as_str()) {
            return Ok(value);
        }
        let targets = targets.join("`, `");
        Err(Fault::bad_request(format!("{field} is only for target `{targets}`")))
    };
    let clean_steps = only("clean_steps", &["clean"])?;
    let service_steps = only("service_steps", &["service"])?;
    let rescue_password = only("rescue_password", &["rescue"])?;
    let runbook = runbook(&only("runbook", &["clean", "service"])?, asked.version.0)?;
    refuse_others(&request)?;
    let ask = Ask {
        api: &rest.api,
        asked: &asked,
        node: reference(&node)?.to_string(),
        command_id: asked.command_id(&body.0, ""),
    };
    match target.as_str() {
        "active" | "deploy" => {
            let deploy = ask.deployment(|node| deployment::described(node, brought).map(Some));
            ask.api.deploy_node(asked.by(deploy.await?)).await?
        }
        "rebuild" => {
            let deploy = ask.deployment(|node| deployment::of_rebuild(node, brought));
            ask.api.rebuild_node(asked.by(deploy.await?)).await?
        }
        "adopt" => {
            let deploy = ask.deployment(|node| deployment::described(node, brought).map(Some));
            ask.api.adopt_node(asked.by(deploy.await?)).await?
        }
        "clean" => ask.api.clean_node(asked.by(ask.cleaning(&clean_steps, runbook)?)).await?,
        "service" => ask.api.service_node(asked.by(ask.service(&service_steps, runbook)?)).await?,
        "rescue" => ask.api.rescue_node(asked.by(ask.rescue(&rescue_password)?)).await?,
        "unrescue" => ask.api.unrescue_node(asked.by(ask.verb())).await?,
        "unhold" => ask.api.unhold_node(asked.by(ask.verb())).await?,
        "manage" => ask.api.manage_node(asked.by(ask.verb())).await?,
        "inspect" => ask.api.inspect_node(asked.by(ask.verb())).await?,
        "provide" => ask.api.provide_node(asked.by(ask.verb())).await?,
        "abort" => ask.api.abort_node(asked.by(ask.verb())).await?,
        _ => ask.api.undeploy_node(asked.by(ask.verb())).await?,
    };
    Ok(accepted(&asked, &node))
}

fn check_target(target: &str, version: u16) -> Result<(), Fault> {
    match TARGETS.iter().find(|(name, _)| *name == target) {
        Some((_, since)) if *since > version => {
            Err(Fault::since(&format!("target `{target}`"), *since))
        }
        Some(_) => Ok(()),
        None => {
            let known: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
            let known = known.join(", ");
            Err(Fault::bad_request(format!("target `{target}` is none of: {known}")))
        }
    }
}

/// The config drive and the deploy steps, where they may be.
fn brought(request: &mut Map<String, Value>, target: &str, version: u16) -> Result<Brought, Fault> {
    let drive = request.remove("configdrive").unwrap_or_default();
    let steps = request.remove("deploy_steps").unwrap_or_default();
    let deploys = ["active", "deploy", "rebuild"].contains(&target);
    for (field, value) in [("configdrive", &drive), ("deploy_steps", &steps)] {
        if !value.is_null() && !deploys {
            let message = format!("{field} is only for targets `active`, `deploy` and `rebuild`");
            return Err(Fault::bad_request(message));
        }
    }
    if !drive.is_null() && target == "rebuild" && version < REBUILD_CONFIG_DRIVE_SINCE {
        return Err(Fault::since("configdrive of a rebuild", REBUILD_CONFIG_DRIVE_SINCE));
    }
    if drive.is_object() && version < CONFIG_DRIVE_DOCUMENTS_SINCE {
        return Err(Fault::since("configdrive as an object", CONFIG_DRIVE_DOCUMENTS_SINCE));
    }
    if drive.get("vendor_data").is_some() && version < VENDOR_DATA_SINCE {
        return Err(Fault::since("vendor_data of a configdrive", VENDOR_DATA_SINCE));
    }
    if !steps.is_null() && version < DEPLOY_STEPS_SINCE {
        return Err(Fault::since("deploy_steps", DEPLOY_STEPS_SINCE));
    }
    Ok(Brought {
        config_drive: config_drive::read(&drive)?,
        deploy_steps: deployment::deploy_steps(&steps)?,
    })
}

/// A provision request on its way to the core.
struct Ask<'a> {
    api: &'a Api,
    asked: &'a Asked,
    node: String,
    command_id: String,
}

impl Ask<'_> {
    fn verb(&self) -> v1::NodeVerbRequest {
        v1::NodeVerbRequest {
            command_id: self.command_id.clone(),
            node: self.node.clone(),
            version: self.asked.expected_version(),
        }
    }

    async fn deployment(
        &self,
        of: impl FnOnce(&Node) -> Result<Option<v1::DeploymentSpec>, Fault>,
    ) -> Result<v1::DeployNodeRequest, Fault> {
        let state = self.api.state(Freshness::Latest).await?;
        let node = reference(&self.node)?;
        Ok(v1::DeployNodeRequest {
            command_id: self.command_id.clone(),
            node: self.node.clone(),
            version: self.asked.expected_version(),
            deployment: of(node.find(&state)?)?,
        })
    }

    /// Steps of plug-ins come in the order in which they are given, unless they say otherwise.
    fn cleaning(&self, steps: &Value, runbook: String) -> Result<v1::CleanNodeRequest, Fault> {
        if self.asked.version.0 < CLEAN_STEPS_SINCE {
            return Err(Fault::since("clean_steps", CLEAN_STEPS_SINCE));
        }
        let mut clean = v1::CleanNodeRequest {
            command_id: self.command_id.clone(),
            node: self.node.clone(),
            version: self.asked.expected_version(),
            runbook,
            ..v1::CleanNodeRequest::default()
        };
        let mut priorities = AGENT_PRIORITIES.rev();
        for step in steps_of("clean_steps", steps)? {
            let mut step = requested("clean_steps", step)?;
            let is_own = step.interface == "deploy" && Step::clean_step(&step.step).is_ok();
            if is_own && step.args.is_none() {
                clean.clean_steps.push(step.step);
                continue;
            }
            step.priority = step.priority.or_else(|| priorities.next());
            clean.plugin_steps.push(step);
        }
        Ok(clean)
    }

    fn service(&self, steps: &Value, runbook: String) -> Result<v1::ServiceNodeRequest, Fault> {
        let steps = steps_of("service_steps", steps)?.iter();
        let steps = steps.map(|step| requested("service_steps", step));
        Ok(v1::ServiceNodeRequest {
            command_id: self.command_id.clone(),
            node: self.node.clone(),
            version: self.asked.expected_version(),
            service_steps: steps.collect::<Result<_, _>>()?,
            runbook,
        })
    }

    fn rescue(&self, password: &Value) -> Result<v1::RescueNodeRequest, Fault> {
        let Value::String(password) = password else {
            // The value is a secret, whatever it is.
            let message = "rescue_password is required for target `rescue`, and is a text";
            return Err(Fault::bad_request(message));
        };
        Ok(v1::RescueNodeRequest {
            command_id: self.command_id.clone(),
            node: self.node.clone(),
            version: self.asked.expected_version(),
            rescue_password: password.clone(),
        })
    }
}

/// The runbook that a request names, by name or UUID.
fn runbook(runbook: &Value, version: u16) -> Result<String, Fault> {
    match runbook {
        Value::Null => Ok(String::new()),
        _ if version < RUNBOOK_SINCE => Err(Fault::since("runbook", RUNBOOK_SINCE)),
        Value::String(runbook) => Ok(runbook.clone()),
        other => Err(Fault::bad_request(format!("runbook `{other}` is not a text"))),
    }
}

/// 202, and where to look how it goes.
fn accepted(asked: &Asked, node: &str) -> Response {
    let location = asked.link(&format!("nodes/{node}/states"));
    (StatusCode::ACCEPTED, [(LOCATION, location)]).into_response()
}

fn take_text(request: &mut Map<String, Value>, field: &str) -> Result<String, Fault> {
    match request.remove(field) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(Fault::bad_request(format!("{field} `{other}` is not a text"))),
        None => Err(Fault::bad_request(format!("{field} is required"))),
    }
}

/// What nobody took is not known; null is as good as absent.
fn refuse_others(request: &Map<String, Value>) -> Result<(), Fault> {
    match request.iter().find(|(_, value)| !value.is_null()) {
        None => Ok(()),
        Some((field, _)) => Err(Fault::bad_request(format!("`{field}` is not known here"))),
    }
}
