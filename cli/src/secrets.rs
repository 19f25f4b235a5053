//! `bessemer secrets`: the keys that seal the secrets of nodes.

use bessemer_proto::v1::{NodeFilter, NodeSpec, UpdateNodeRequest};
use bessemer_secrets::draw_key;
use bessemer_wire::mask::MASK;
use clap::Subcommand;
use prost_types::value::Kind;
use prost_types::{FieldMask, Struct, Value};
use uuid::Uuid;

use crate::failure::Failure;
use crate::node::query;
use crate::output::print;
use crate::session::Session;

/// `bessemer secrets`.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Print a new key as a line for secret_keys_file, which members and conductors have
    Key,
    /// Seal the secrets of all nodes with the newest key, those that are stored in the clear among them
    Rotate,
}

impl SecretsCommand {
    /// A new key.
    pub(crate) fn key() -> Result<(), Failure> {
        let key = draw_key().ok_or_else(|| Failure::failed("the system gives no randomness"))?;
        print(&format!("{key}\n"))
    }

    /// Has the members write every secret again: what is sent back masked is the secret that is there.
    pub(crate) async fn rotate(session: &Session) -> Result<(), Failure> {
        let (mut nodes, mut refused) = (0, Vec::new());
        for node in query::all(session, &NodeFilter::default()).await? {
            let metadata = node.metadata.unwrap_or_default();
            let spec = node.spec.unwrap_or_default();
            let (driver_info, instance_info) =
                (masked(spec.driver_info.as_ref()), masked(spec.instance_info.as_ref()));
            let path = |object: &'static str| move |key: &String| format!("spec.{object}.{key}");
            let paths: Vec<_> = (driver_info.fields.keys().map(path("driver_info")))
                .chain(instance_info.fields.keys().map(path("instance_info")))
                .collect();
            if paths.is_empty() {
                continue;
            }
            let request = UpdateNodeRequest {
                command_id: Uuid::new_v4().to_string(),
                node: metadata.id.clone(),
                version: node.version,
                name: String::new(),
                spec: Some(NodeSpec {
                    driver_info: Some(driver_info),
                    instance_info: Some(instance_info),
                    ..NodeSpec::default()
                }),
                update_mask: Some(FieldMask { paths }),
            };
            match session.client.update_node(request).await {
                Ok(_) => nodes += 1,
                Err(error) => refused.push(format!("{}: {error}", metadata.id)),
            }
        }
        print(&format!("the secrets of {nodes} nodes were sealed\n"))?;
        if refused.is_empty() {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "those of {} nodes were not: {}",
            refused.len(),
            refused.join("; ")
        ))
        .hint("once more: a node that was changed meanwhile is read anew"))
    }
}

/// The keys of an object that hold a mask somewhere.
fn masked(object: Option<&Struct>) -> Struct {
    let fields = object.into_iter().flat_map(|object| &object.fields);
    let fields = fields.filter(|(_, value)| holds_mask(value));
    Struct { fields: fields.map(|(key, value)| (key.clone(), value.clone())).collect() }
}

fn holds_mask(value: &Value) -> bool {
    match &value.kind {
        Some(Kind::StringValue(text)) => text == MASK,
        Some(Kind::StructValue(object)) => object.fields.values().any(holds_mask),
        Some(Kind::ListValue(list)) => list.values.iter().any(holds_mask),
        _ => false,
    }
}
