//! What an event means, in words for a person. Pure: from the stored record alone, and tolerant of kinds it does not
//! know, which newer clusters may have.

use serde_json::Value;

use crate::quantity;

/// What happened, in one line without the subject.
#[must_use]
pub fn describe(kind: &str, data: &Value) -> String {
    let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    let number = |key: &str| data.get(key).and_then(Value::as_u64).unwrap_or_default();
    match kind {
        "cluster.restored" => {
            format!("cluster was restored from a backup of revision {}", number("from_revision"))
        }
        "cluster.initialised" => format!("cluster {} was formed", text("cluster_id")),
        "node.created" => {
            let driver = data.pointer("/spec/driver").and_then(Value::as_str).unwrap_or("?");
            format!("enrolled with driver {driver}")
        }
        "conductor.drain_started" => "hands its nodes over".to_owned(),
        "conductor.drain_ended" => "gets nodes again".to_owned(),
        "node.updated" => "name or spec changed".to_owned(),
        "node.deleted" => "no longer managed".to_owned(),
        "node.claimed" => {
            format!("claimed by conductor {}, epoch {}", text("conductor"), number("epoch"))
        }
        "node.released" => "its conductor let go of it".to_owned(),
        "node.provision_state_changed" => format!("{} → {}", text("from"), text("to")),
        "node.maintenance_set" => format!("maintenance: {}", text("reason")),
        "node.maintenance_cleared" => "maintenance ended".to_owned(),
        "node.power_requested" => format!("power {} asked for", text("target")),
        "node.power_changed" => format!("power is {}", text("state")),
        "node.power_failed" => format!("power was not changed: {}", text("message")),
        "node.deployment_requested" => {
            let spec = |field: &str| {
                data.pointer(&format!("/deployment/spec/{field}")).and_then(Value::as_str)
            };
            let source = spec("image/source").or_else(|| spec("boot_iso"));
            match source {
                Some(source) => format!("deployment of {source} asked for"),
                None => {
                    format!("deployment by {} asked for", spec("deploy_interface").unwrap_or("?"))
                }
            }
        }
        "node.rescue_requested" => "rescue asked for".to_owned(),
        "node.deployment_cleared" => "holds no deployment any more".to_owned(),
        "node.plan_started" => {
            let kind = data.pointer("/plan/kind").and_then(Value::as_str).unwrap_or("?");
            let steps = data.pointer("/plan/steps").and_then(Value::as_array).map_or(0, Vec::len);
            format!("{kind} begins: {steps} {}", if steps == 1 { "step" } else { "steps" })
        }
        "node.plan_aborted" => format!("stopped: {}", text("message")),
        "node.step_started" => match number("attempt") {
            0 | 1 => format!("{} begun", text("step")),
            attempt => format!("{} taken over, attempt {attempt}", text("step")),
        },
        "node.step_completed" => {
            format!("{} done{}", text("step"), result(data.get("result").unwrap_or(&Value::Null)))
        }
        "node.step_failed" => {
            format!("{} failed: {} ({})", text("step"), text("message"), text("reason"))
        }
        "node.agent_bound" => "agent called in".to_owned(),
        "node.agent_reset" => "rebooting; the agent before is not trusted any more".to_owned(),
        "node.inventory_recorded" => "inventory recorded".to_owned(),
        "port.created" => {
            let address = data.pointer("/spec/address").and_then(Value::as_str).unwrap_or("?");
            format!("port {address} added")
        }
        "port.deleted" => "port removed".to_owned(),
        "conductor.registered" => {
            let address = data.pointer("/registration/address").and_then(Value::as_str);
            format!("conductor came up at {}", address.unwrap_or("?"))
        }
        "conductor.lost" => "conductor was lost: its lease ran out".to_owned(),
        "conductor.unregistered" => "conductor went away".to_owned(),
        _ if kind.starts_with("allocation.") || kind.starts_with("template.") => {
            of_request(kind, data)
        }
        "node.allocated" => format!("given to allocation {}", text("allocation")),
        "node.returned" => "given back by its allocation".to_owned(),
        _ => match data {
            Value::Null => kind.to_owned(),
            data => data.to_string(),
        },
    }
}

/// What happened to an allocation, a deploy template or a runbook.
fn of_request(kind: &str, data: &Value) -> String {
    let text = |path| data.pointer(path).and_then(Value::as_str).unwrap_or("?");
    match (kind, text("/outcome/state")) {
        ("allocation.created", "active") => format!("allocated node {}", text("/outcome/data")),
        ("allocation.created", _) => format!("not allocated: {}", text("/outcome/data")),
        ("template.created", _) => format!("{} {} made", text("/spec/kind"), text("/spec/name")),
        ("template.updated", _) => format!("{} {} changed", text("/spec/kind"), text("/spec/name")),
        _ => "is no more".to_owned(),
    }
}

/// Longest result of a plug-in that is shown in a line; `-o json` has all of it.
const RESULT_CHARACTERS_MAX: usize = 120;

/// What a step found out or did, where that is worth a word.
fn result(result: &Value) -> String {
    let data = result.get("data").unwrap_or(&Value::Null);
    let number = |key: &str| data.get(key).and_then(Value::as_u64).unwrap_or_default();
    match result.get("type").and_then(Value::as_str) {
        Some("power") => format!(", power is {}", data.as_str().unwrap_or("?")),
        Some("image") => format!(
            ", {} raw, {} packed",
            quantity::bytes(number("raw_size_bytes")),
            quantity::bytes(number("pack_size_bytes"))
        ),
        Some("written") => format!(
            ", {} from {} on the wire",
            quantity::bytes(number("image_bytes")),
            quantity::bytes(number("wire_bytes"))
        ),
        Some("pinned") => {
            format!(", {}", data.get("reference").and_then(Value::as_str).unwrap_or("?"))
        }
        Some("installed") => {
            format!(", on {}", data.get("device").and_then(Value::as_str).unwrap_or("?"))
        }
        Some("plugin") if data.as_object().is_some_and(|said| !said.is_empty()) => {
            let said = data.to_string();
            let shown: String = said.chars().take(RESULT_CHARACTERS_MAX).collect();
            let cut = if shown.len() < said.len() { "…" } else { "" };
            format!(", {shown}{cut}")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_read_as_sentences() {
        let cases = [
            (
                "node.provision_state_changed",
                json!({"from": "deploying", "to": "wait call-back", "trigger": "wait"}),
                "deploying → wait call-back",
            ),
            (
                "node.step_completed",
                json!({"index": 2, "step": "deploy.write_image", "result": {"type": "written", "data":
                    {"image_bytes": 1_073_741_824_u64, "wire_bytes": 52_428_800}}}),
                "deploy.write_image done, 1.0 GiB from 50 MiB on the wire",
            ),
            (
                "node.step_completed",
                json!({"index": 1, "step": "deploy.flash", "result": {"type": "plugin", "data":
                    {"version": "1.2"}}}),
                r#"deploy.flash done, {"version":"1.2"}"#,
            ),
            (
                "node.step_completed",
                json!({"step": "deploy.flash", "result": {"type": "plugin", "data": {}}}),
                "deploy.flash done",
            ),
            (
                "node.deployment_requested",
                json!({"deployment": {"spec": {"boot_iso": "http://a/b.iso", "image": null}}}),
                "deployment of http://a/b.iso asked for",
            ),
            (
                "node.deployment_requested",
                json!({"deployment": {"spec": {"deploy_interface": "custom-agent"}}}),
                "deployment by custom-agent asked for",
            ),
            (
                "node.step_started",
                json!({"step": "deploy.write_image", "attempt": 2}),
                "deploy.write_image taken over, attempt 2",
            ),
            (
                "node.plan_started",
                json!({"plan": {"kind": "verify", "steps": [{}]}}),
                "verify begins: 1 step",
            ),
            ("port.deleted", json!({}), "port removed"),
            (
                "allocation.created",
                json!({"outcome": {"state": "error", "data": "no node fits"}}),
                "not allocated: no node fits",
            ),
            (
                "template.created",
                json!({"spec": {"kind": "runbook", "name": "CUSTOM_A"}}),
                "runbook CUSTOM_A made",
            ),
        ];
        for (kind, data, text) in cases {
            assert_eq!(describe(kind, &data), text);
        }
    }

    #[test]
    fn a_kind_from_the_future_is_shown_as_it_is() {
        assert_eq!(describe("node.cloned", &json!({"from": "m1"})), r#"{"from":"m1"}"#);
        assert_eq!(describe("node.cloned", &Value::Null), "node.cloned");
    }
}
