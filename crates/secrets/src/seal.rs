//! Sealing and opening: ChaCha20-Poly1305 with random nonces. What is sealed opens in its place alone: for its node, under its
//! key. Somebody who copies it to a node with another BMC sends the secret to nobody.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::ids::NodeId;
use bessemer_domain::node::{FieldChange, JsonMap, RequestedStep, Step};
use bessemer_domain::{CommandBody, Invalid};
use bessemer_wire::mask;
use ring::aead::{Aad, NONCE_LEN, Nonce};
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;

use crate::KeyRing;

/// How a sealed secret begins; then follow the key's name, and nonce and ciphertext in Base64.
const PREFIX: &str = "sealed:v1:";

/// A secret that cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    /// There are no keys here.
    #[error("{place} is sealed, and there is no secret_keys_file in the configuration")]
    NoKeys {
        /// Which secret.
        place: String,
    },
    /// The key is not among those that there are.
    #[error("{place} is sealed with key `{key}`, which secret_keys_file does not hold")]
    UnknownKey {
        /// Which secret.
        place: String,
        /// The key's name.
        key: String,
    },
    /// It was changed, or sealed for another place.
    #[error(
        "{place} is not what was sealed for it: it was changed, or copied from another node or key"
    )]
    Wrong {
        /// Which secret.
        place: String,
    },
}

/// Where a secret is: what it is bound to.
struct Place<'a> {
    node: NodeId,
    path: &'a str,
}

impl Place<'_> {
    fn aad(&self) -> Aad<String> {
        Aad::from(format!("{}/{}", self.node, self.path))
    }
}

impl KeyRing {
    /// Seals every secret that a command brings, before it is put to the log. What is sealed already stays as it is, or is
    /// sealed with the newest key.
    ///
    /// # Errors
    /// [`Invalid`] naming the field that holds something sealed that does not belong there.
    pub fn seal(&self, body: &mut CommandBody) -> Result<(), Invalid> {
        match body {
            CommandBody::CreateNode { node, spec, .. } => {
                self.seal_map(*node, "driver_info", &mut spec.driver_info)?;
                self.seal_map(*node, "instance_info", &mut spec.instance_info)
            }
            CommandBody::UpdateNode { node, changes, .. } => {
                changes.iter_mut().try_for_each(|change| match change {
                    FieldChange::DriverInfo(map) => self.seal_map(*node, "driver_info", map),
                    FieldChange::InstanceInfo(map) => self.seal_map(*node, "instance_info", map),
                    FieldChange::DriverInfoKey(key, Some(value)) => {
                        self.seal_value(*node, "driver_info", key, value)
                    }
                    FieldChange::InstanceInfoKey(key, Some(value)) => {
                        self.seal_value(*node, "instance_info", key, value)
                    }
                    _ => Ok(()),
                })
            }
            CommandBody::Provision { node, verb, .. } => match verb {
                ProvisionVerb::Adopt(spec)
                | ProvisionVerb::Deploy(spec)
                | ProvisionVerb::Rebuild(Some(spec)) => {
                    self.seal_steps(*node, &mut spec.deploy_steps)
                }
                ProvisionVerb::Service(steps) => self.seal_steps(*node, steps),
                ProvisionVerb::Clean(steps) => {
                    let requested = steps.iter_mut().filter_map(|step| match step {
                        Step::Plugin(step) => Some(&mut **step),
                        _ => None,
                    });
                    self.seal_steps(*node, requested)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn seal_steps<'a>(
        &self,
        node: NodeId,
        steps: impl IntoIterator<Item = &'a mut RequestedStep>,
    ) -> Result<(), Invalid> {
        steps.into_iter().try_for_each(|step| {
            let path = args_of(step);
            self.seal_map(node, &path, &mut step.args)
        })
    }

    fn seal_map(&self, node: NodeId, path: &str, map: &mut JsonMap) -> Result<(), Invalid> {
        map.iter_mut().try_for_each(|(key, value)| self.seal_value(node, path, key, value))
    }

    fn seal_value(
        &self,
        node: NodeId,
        above: &str,
        key: &str,
        value: &mut Value,
    ) -> Result<(), Invalid> {
        let path = format!("{above}.{key}");
        if mask::is_secret(key) {
            let place = Place { node, path: &path };
            if value.is_null() {
                return Ok(());
            }
            let sealed_by = sealed(value).map(|(key, _)| key.to_owned());
            let plain = match sealed_by {
                None => value.clone(),
                Some(key) => {
                    let opened = self.open_one(&place, value).map_err(|error| {
                        Invalid::new(&field_of(&path), mask::MASK, error.to_string())
                    })?;
                    if self.keys().first().is_some_and(|newest| newest.id == key) {
                        return Ok(());
                    }
                    opened
                }
            };
            *value = self.seal_one(&place, &plain).ok_or_else(|| {
                let reason = "cannot be sealed: the system gives no randomness";
                Invalid::new(&field_of(&path), mask::MASK, reason)
            })?;
            return Ok(());
        }
        match value {
            Value::Object(map) => self.seal_map(node, &path, map),
            Value::Array(items) => {
                items.iter_mut().try_for_each(|item| self.seal_value(node, above, key, item))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
        }
    }

    fn seal_one(&self, place: &Place<'_>, plain: &Value) -> Option<Value> {
        let keys = self.keys();
        let newest = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut bytes = plain.to_string().into_bytes();
        let unique = Nonce::assume_unique_for_key(nonce);
        newest.key.seal_in_place_append_tag(unique, place.aad(), &mut bytes).ok()?;
        let encoded = BASE64.encode([&nonce[..], &bytes].concat());
        Some(Value::String(format!("{PREFIX}{}:{encoded}", newest.id)))
    }

    fn open_one(&self, place: &Place<'_>, value: &Value) -> Result<Value, NotOpened> {
        let wrong = || NotOpened::Wrong { place: place.path.to_owned() };
        let Some((key, encoded)) = sealed(value) else { return Ok(value.clone()) };
        let keys = self.keys();
        let key = keys.iter().find(|held| held.id == key).ok_or_else(|| NotOpened::UnknownKey {
            place: place.path.to_owned(),
            key: key.to_owned(),
        })?;
        let mut bytes = BASE64.decode(encoded).map_err(|_| wrong())?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN).ok_or_else(wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| wrong())?;
        let plain = key.key.open_in_place(nonce, place.aad(), sealed).map_err(|_| wrong())?;
        serde_json::from_slice(plain).map_err(|_| wrong())
    }
}

/// A place as the caller of the API knows it.
fn field_of(path: &str) -> String {
    if path.starts_with("steps.") { path.to_owned() } else { format!("spec.{path}") }
}

/// Where the arguments of a step are.
fn args_of(step: &RequestedStep) -> String {
    format!("steps.{}.args", step.step)
}

/// A step as the agent needs it: with the secrets among its arguments opened.
///
/// # Errors
/// [`NotOpened`] naming the secret.
pub fn opened_step(
    keys: Option<&KeyRing>,
    node: NodeId,
    step: &RequestedStep,
) -> Result<RequestedStep, NotOpened> {
    let args = opened_map(keys, node, &args_of(step), &step.args)?;
    Ok(RequestedStep { args, ..step.clone() })
}

/// The key's name and the rest of a sealed secret; none of anything else.
fn sealed(value: &Value) -> Option<(&str, &str)> {
    value.as_str()?.strip_prefix(PREFIX)?.split_once(':')
}

/// `driver_info` as hardware needs it: with its secrets opened. Those that were stored in the clear are as they are.
///
/// # Errors
/// [`NotOpened`] naming the secret.
pub fn opened(
    keys: Option<&KeyRing>,
    node: NodeId,
    driver_info: &JsonMap,
) -> Result<JsonMap, NotOpened> {
    opened_map(keys, node, "driver_info", driver_info)
}

/// `instance_info` with its secrets opened, as [`opened`] has it of `driver_info`.
///
/// # Errors
/// [`NotOpened`] when a secret cannot be opened.
pub fn opened_instance_info(
    keys: Option<&KeyRing>,
    node: NodeId,
    instance_info: &JsonMap,
) -> Result<JsonMap, NotOpened> {
    opened_map(keys, node, "instance_info", instance_info)
}

fn opened_map(
    keys: Option<&KeyRing>,
    node: NodeId,
    path: &str,
    map: &JsonMap,
) -> Result<JsonMap, NotOpened> {
    let open = |(key, value): (&String, &Value)| {
        Ok((key.clone(), opened_value(keys, node, path, key, value)?))
    };
    map.iter().map(open).collect()
}

fn opened_value(
    keys: Option<&KeyRing>,
    node: NodeId,
    above: &str,
    key: &str,
    value: &Value,
) -> Result<Value, NotOpened> {
    let path = format!("{above}.{key}");
    match value {
        Value::String(_) if mask::is_secret(key) && sealed(value).is_some() => match keys {
            Some(keys) => keys.open_one(&Place { node, path: &path }, value),
            None => Err(NotOpened::NoKeys { place: path }),
        },
        Value::Object(map) => Ok(Value::Object(opened_map(keys, node, &path, map)?)),
        Value::Array(items) => {
            items.iter().map(|item| opened_value(keys, node, above, key, item)).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(value.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::draw_key;

    fn ring(lines: &[&str]) -> (tempfile::NamedTempFile, KeyRing) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines.join("\n")).unwrap();
        let ring = KeyRing::open(file.path()).unwrap();
        (file, ring)
    }

    fn node(number: u128) -> NodeId {
        NodeId::new(Uuid::from_u128(number))
    }

    fn info() -> JsonMap {
        let info = json!({
            "redfish_address": "https://bmc", "redfish_password": "hunter2", "pin_secret": 1234,
            "snmp": {"auth_token": "t0ken", "port": 161}, "list": [{"secret": "in a list"}],
            "empty_password": null,
        });
        info.as_object().unwrap().clone()
    }

    fn update(node: NodeId, map: JsonMap) -> CommandBody {
        let changes = vec![FieldChange::DriverInfo(map)];
        CommandBody::UpdateNode { node, expected_version: None, changes }
    }

    fn sealed_info(ring: &KeyRing, of: NodeId, map: JsonMap) -> JsonMap {
        let mut body = update(of, map);
        ring.seal(&mut body).unwrap();
        let CommandBody::UpdateNode { mut changes, .. } = body else { unreachable!() };
        let Some(FieldChange::DriverInfo(map)) = changes.pop() else { unreachable!() };
        map
    }

    #[test]
    fn what_is_sealed_holds_no_secret_and_opens_to_what_it_was() {
        let (_file, ring) = ring(&[&draw_key().unwrap()]);
        let sealed = sealed_info(&ring, node(1), info());
        let text = serde_json::to_string(&sealed).unwrap();
        for secret in ["hunter2", "1234", "t0ken", "in a list"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains("https://bmc") && text.contains("161"), "{text}");
        assert_eq!(opened(Some(&ring), node(1), &sealed).unwrap(), info());
        let again = sealed_info(&ring, node(1), info());
        assert_ne!(again["redfish_password"], sealed["redfish_password"], "nonces differ");
    }

    #[test]
    fn it_opens_in_its_place_alone() {
        let (_file, ring) = ring(&[&draw_key().unwrap()]);
        let sealed = sealed_info(&ring, node(1), info());
        let error = opened(Some(&ring), node(2), &sealed).unwrap_err();
        assert!(matches!(error, NotOpened::Wrong { .. }), "{error}");
        let mut moved = sealed.clone();
        moved.insert("other_password".into(), sealed["redfish_password"].clone());
        let error = opened(Some(&ring), node(1), &moved).unwrap_err();
        assert_eq!(error, NotOpened::Wrong { place: "driver_info.other_password".into() });
        // Nor is it taken for another node.
        let mut body = update(node(2), sealed.clone());
        assert!(ring.seal(&mut body).unwrap_err().field.starts_with("spec.driver_info."));
        let error = opened(None, node(1), &sealed).unwrap_err();
        assert!(matches!(error, NotOpened::NoKeys { .. }), "{error}");
    }

    #[test]
    fn the_newest_key_seals_and_the_others_still_open() {
        let (old, new) = (draw_key().unwrap(), draw_key().unwrap());
        let (_old_file, old_ring) = ring(&[&old]);
        let (_both_file, both) = ring(&[&new, &old]);
        let (_new_file, new_ring) = ring(&[&new]);
        let sealed = sealed_info(&old_ring, node(1), info());
        assert_eq!(opened(Some(&both), node(1), &sealed).unwrap(), info());
        let error = opened(Some(&new_ring), node(1), &sealed).unwrap_err();
        assert!(matches!(error, NotOpened::UnknownKey { .. }), "{error}");
        let rotated = sealed_info(&both, node(1), sealed);
        assert_eq!(opened(Some(&new_ring), node(1), &rotated).unwrap(), info());
        assert_eq!(sealed_info(&both, node(1), rotated.clone()), rotated, "nothing is left to do");
    }

    #[test]
    fn arguments_of_steps_are_sealed_like_the_rest() {
        let (_file, ring) = ring(&[&draw_key().unwrap()]);
        let args = json!({"license_key": "hunter2", "version": "7", "key_bits": 2048});
        let step = RequestedStep {
            step: "flash".into(),
            args: args.as_object().unwrap().clone(),
            priority: 90,
            limit_seconds: None,
        };
        let verbs = [
            ProvisionVerb::Service(vec![step.clone()]),
            ProvisionVerb::Clean(vec![Step::Plugin(Box::new(step.clone()))]),
        ];
        for verb in verbs {
            let mut body = CommandBody::Provision { node: node(1), expected_version: None, verb };
            ring.seal(&mut body).unwrap();
            let text = serde_json::to_string(&body).unwrap();
            assert!(!text.contains("hunter2") && text.contains("\"version\":\"7\""), "{text}");
            let CommandBody::Provision { verb, .. } = body else { unreachable!() };
            let sealed = match verb {
                ProvisionVerb::Service(steps) => steps[0].clone(),
                ProvisionVerb::Clean(steps) => steps[0].requested().unwrap().clone(),
                _ => unreachable!(),
            };
            assert_eq!(opened_step(Some(&ring), node(1), &sealed).unwrap(), step);
            opened_step(Some(&ring), node(2), &sealed).unwrap_err();
        }
    }

    #[test]
    fn what_was_stored_in_the_clear_is_read_as_it_is() {
        let (_file, ring) = ring(&[&draw_key().unwrap()]);
        assert_eq!(opened(Some(&ring), node(1), &info()).unwrap(), info());
        assert_eq!(opened(None, node(1), &info()).unwrap(), info());
    }
}
