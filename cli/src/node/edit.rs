//! `node create`, `node set` and `node delete`.

use bessemer_proto::v1::{CreateNodeRequest, DeleteNodeRequest, UpdateNodeRequest};
use prost_types::FieldMask;
use uuid::Uuid;

use super::spec::{SpecArguments, unset_path};
use crate::arguments::{Mutation, Version};
use crate::failure::Failure;
use crate::output::print;
use crate::session::Session;

/// `node create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Unique among nodes
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Drawn when not given
    #[arg(long, value_name = "UUID")]
    id: Option<Uuid>,
    /// MAC address of a network interface; repeatable. The agent finds its node by them
    #[arg(long = "port", value_name = "MAC")]
    ports: Vec<String>,
    #[command(flatten)]
    spec: SpecArguments,
    #[command(flatten)]
    mutation: Mutation,
}

impl Create {
    /// Enrols it.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let node = session
            .client
            .create_node(CreateNodeRequest {
                command_id: self.mutation.command_id(),
                id: self.id.map(|id| id.to_string()).unwrap_or_default(),
                name: self.name,
                spec: Some(self.spec.spec()),
                port_addresses: self.ports,
            })
            .await?;
        super::answer(session.format, &node, &format!("enrolled, `{}`", super::state(&node)))
    }
}

/// `node set`.
#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// Name or id
    node: String,
    /// A new name
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    spec: SpecArguments,
    /// A field or key to remove, such as `owner`, `name` or `properties.memory_mb`; repeatable
    #[arg(long, value_name = "FIELD")]
    unset: Vec<String>,
    #[command(flatten)]
    version: Version,
    #[command(flatten)]
    mutation: Mutation,
}

impl Set {
    /// Changes what was named.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let request = self.request()?;
        let node = session.client.update_node(request).await?;
        super::answer(session.format, &node, &format!("changed, version {}", node.version))
    }

    fn request(self) -> Result<UpdateNodeRequest, Failure> {
        let mut paths = self.spec.mask();
        paths.extend(self.name.as_ref().map(|_| "name".to_owned()));
        for field in &self.unset {
            let path = unset_path(field);
            if paths.contains(&path) {
                return Err(Failure::refused(format!("`{field}` is both set and unset")));
            }
            paths.push(path);
        }
        if paths.is_empty() {
            return Err(Failure::refused("nothing to change")
                .hint("name a field, for example --property memory_mb=4096 or --unset owner"));
        }
        Ok(UpdateNodeRequest {
            command_id: self.mutation.command_id(),
            node: self.node,
            version: self.version.version,
            name: self.name.unwrap_or_default(),
            spec: Some(self.spec.spec()),
            update_mask: Some(FieldMask { paths }),
        })
    }
}

/// `node delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Name or id
    node: String,
    #[command(flatten)]
    version: Version,
    #[command(flatten)]
    mutation: Mutation,
}

impl Delete {
    /// Removes it from management.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let sentence = format!("node {} deleted\n", self.node);
        session
            .client
            .delete_node(DeleteNodeRequest {
                command_id: self.mutation.command_id(),
                node: self.node,
                version: self.version.version,
            })
            .await?;
        if session.format.is_data() { Ok(()) } else { print(&sentence) }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        set: Set,
    }

    fn request(arguments: &[&str]) -> Result<UpdateNodeRequest, Failure> {
        Line::parse_from([&["set", "m1"], arguments].concat()).set.request()
    }

    #[test]
    fn what_is_unset_is_in_the_mask_and_not_in_the_spec() {
        let request = request(&[
            "--name",
            "m2",
            "--property",
            "a=1",
            "--unset",
            "properties.b",
            "--version",
            "7",
        ])
        .unwrap();
        let mask = request.update_mask.unwrap().paths;
        assert_eq!(mask, ["spec.properties.a", "name", "spec.properties.b"]);
        assert_eq!(request.name, "m2");
        assert_eq!(request.version, 7);
        let properties = request.spec.unwrap().properties.unwrap();
        assert_eq!(properties.fields.keys().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn nothing_to_change_and_contradictions_are_refused() {
        assert!(
            request(&[]).unwrap_err().to_string().starts_with("error: nothing to change\nhint:")
        );
        let error = request(&["--owner", "x", "--unset", "owner"]).unwrap_err();
        assert_eq!(error.to_string(), "error: `owner` is both set and unset");
    }
}
