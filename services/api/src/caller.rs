//! Who asks, and which request it is: what makes a repeated mutation happen once.

use bessemer_access::Who;
use bessemer_domain::Invalid;
use bessemer_domain::ids::CommandId;
use bessemer_proto::v1;
use bessemer_wire::mask;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use sha2::{Digest, Sha256};
use tonic::Request;
use uuid::Uuid;

/// Who asks, and the identity of what is asked.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) actor: String,
    /// Whose nodes the caller is held to, by their owner or lessee.
    pub(crate) project: Option<String>,
    pub(crate) command_id: CommandId,
    /// Tells two requests with one command id apart; 0 when the id was drawn here, so that nobody can repeat it.
    pub(crate) fingerprint: u64,
}

/// A request that changes something.
pub(crate) trait Mutation: Message + Clone {
    /// Takes the command id out, so that what is left says what is asked.
    fn take_command_id(&mut self) -> String;

    /// The objects that may hold secrets.
    fn objects(&mut self) -> Vec<&mut Struct>;
}

macro_rules! mutations {
    ($($request:ident $(with $objects:ident($field:ident))?),+ $(,)?) => {
        $(impl Mutation for v1::$request {
            fn take_command_id(&mut self) -> String {
                std::mem::take(&mut self.command_id)
            }

            fn objects(&mut self) -> Vec<&mut Struct> {
                mutations!(@objects self $(, $objects $field)?)
            }
        })+
    };
    (@objects $self:ident) => { Vec::new() };
    (@objects $self:ident, $objects:ident $field:ident) => { $objects(&mut $self.$field) };
}

fn of_spec(spec: &mut Option<v1::NodeSpec>) -> Vec<&mut Struct> {
    let objects = spec.iter_mut().flat_map(|spec| [&mut spec.driver_info, &mut spec.instance_info]);
    objects.flatten().collect()
}

fn of_steps(steps: &mut [v1::RequestedStep]) -> Vec<&mut Struct> {
    steps.iter_mut().filter_map(|step| step.args.as_mut()).collect()
}

fn of_deployment(deployment: &mut Option<v1::DeploymentSpec>) -> Vec<&mut Struct> {
    deployment.iter_mut().flat_map(|it| of_steps(&mut it.deploy_steps)).collect()
}

mutations!(
    CreateNodeRequest with of_spec(spec),
    UpdateNodeRequest with of_spec(spec),
    DeleteNodeRequest,
    NodeVerbRequest,
    DeployNodeRequest with of_deployment(deployment),
    CleanNodeRequest with of_steps(plugin_steps),
    RescueNodeRequest,
    ServiceNodeRequest with of_steps(service_steps),
    SetNodePowerRequest,
    SetNodeMaintenanceRequest,
    CreatePortRequest,
    DeletePortRequest,
    CreateTemplateRequest,
    UpdateTemplateRequest,
    DeleteTemplateRequest,
    CreateAllocationRequest,
    DeleteAllocationRequest,
    DrainConductorRequest,
    ResumeConductorRequest,
);

/// Takes a mutation apart into who asks and what is asked. `operation` tells verbs with the same request apart.
pub(crate) fn identify<M: Mutation>(
    operation: &'static str,
    request: Request<M>,
) -> Result<(Caller, M), Invalid> {
    let who = who(&request);
    let (actor, project) = (who.actor(), who.project().map(str::to_owned));
    let mut message = request.into_inner();
    let given = message.take_command_id();
    let caller = if given.is_empty() {
        Caller { actor, project, command_id: CommandId::new(Uuid::new_v4()), fingerprint: 0 }
    } else {
        let fingerprint = fingerprint(operation, &message);
        Caller { actor, project, command_id: given.parse()?, fingerprint }
    };
    Ok((caller, message))
}

/// Who asks, as the guard in front of every face has found out.
pub(crate) fn who<T>(request: &Request<T>) -> Who {
    request.extensions().get().cloned().unwrap_or(Who::Nobody)
}

/// A request to the services of this member by somebody whom another face of it let in.
pub(crate) fn by<T>(who: Who, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(who);
    request
}

/// The same on every member and in every attempt: messages have no map whose order is left to chance. It is kept, and must tell
/// nothing of secrets: two requests that differ in these alone are taken for one.
fn fingerprint<M: Mutation>(operation: &str, message: &M) -> u64 {
    let mut message = message.clone();
    message.objects().into_iter().for_each(hide_secrets);
    let mut hasher = Sha256::new();
    hasher.update(operation);
    hasher.update([0]);
    hasher.update(message.encode_to_vec());
    let digest: [u8; 32] = hasher.finalize().into();
    let (head, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    // 0 is kept for requests that cannot be repeated.
    u64::from_le_bytes(*head).max(1)
}

fn hide_secrets(object: &mut Struct) {
    for (key, value) in &mut object.fields {
        if mask::is_secret(key) {
            value.kind = None;
        } else {
            hide_within(value);
        }
    }
}

fn hide_within(value: &mut Value) {
    match &mut value.kind {
        Some(Kind::StructValue(object)) => hide_secrets(object),
        Some(Kind::ListValue(list)) => list.values.iter_mut().for_each(hide_within),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0192f1a6-0000-7000-8000-000000000001";

    fn verb(command_id: &str, node: &str) -> Request<v1::NodeVerbRequest> {
        Request::new(v1::NodeVerbRequest {
            command_id: command_id.into(),
            node: node.into(),
            version: 0,
        })
    }

    fn fingerprint_of(operation: &'static str, request: Request<v1::NodeVerbRequest>) -> u64 {
        identify(operation, request).unwrap().0.fingerprint
    }

    #[test]
    fn a_repeat_has_the_same_fingerprint_and_anything_else_has_not() {
        let first = fingerprint_of("manage_node", verb(ID, "a"));
        assert_eq!(fingerprint_of("manage_node", verb(ID, "a")), first);
        assert_ne!(fingerprint_of("manage_node", verb(ID, "b")), first);
        assert_ne!(fingerprint_of("provide_node", verb(ID, "a")), first);
    }

    #[test]
    fn a_fingerprint_tells_nothing_of_secrets() {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let create = |address: &str, password: &str| {
            let within = Struct { fields: [("auth_token".to_owned(), text(password))].into() };
            let within = Value { kind: Some(Kind::StructValue(within)) };
            let fields =
                [("address", text(address)), ("password", text(password)), ("snmp", within)];
            let fields = fields.map(|(key, value)| (key.to_owned(), value)).into();
            let spec =
                v1::NodeSpec { driver_info: Some(Struct { fields }), ..v1::NodeSpec::default() };
            let request = v1::CreateNodeRequest {
                command_id: ID.into(),
                spec: Some(spec),
                ..v1::CreateNodeRequest::default()
            };
            identify("create_node", Request::new(request)).unwrap().0.fingerprint
        };
        assert_eq!(create("bmc", "hunter2"), create("bmc", "correct horse"));
        assert_ne!(create("bmc", "hunter2"), create("other", "hunter2"));
    }

    #[test]
    fn without_a_command_id_one_is_drawn_that_nobody_can_repeat() {
        let (one, _) = identify("manage_node", verb("", "a")).unwrap();
        let (other, _) = identify("manage_node", verb("", "a")).unwrap();
        assert_ne!(one.command_id, other.command_id);
        assert_eq!(one.fingerprint, 0);
    }

    #[test]
    fn a_command_id_must_be_a_uuid() {
        assert_eq!(identify("manage_node", verb("1", "a")).unwrap_err().field, "command_id");
    }

    #[test]
    fn the_actor_is_who_was_let_in_and_not_who_the_caller_says_it_is() {
        let mut request = verb("", "a");
        request.metadata_mut().insert("x-bessemer-actor", "root".parse().unwrap());
        assert_eq!(identify("manage_node", request).unwrap().0.actor, "anonymous");
        let alice = Who::Known("bessemer://operator/alice?project=t".parse().unwrap());
        let request = by(alice, verb("", "a").into_inner());
        let (caller, _) = identify("manage_node", request).unwrap();
        assert_eq!((caller.actor.as_str(), caller.project.as_deref()), ("alice", Some("t")));
    }
}
