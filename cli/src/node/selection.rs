//! Which nodes a command is about: names, ranges of names, or all that match.

use std::collections::HashSet;
use std::str::FromStr;

use bessemer_proto::v1::{GetNodeRequest, Node, NodeFilter};
use futures::{StreamExt, TryStreamExt, stream};

use super::query;
use super::range::NodeRange;
use crate::arguments::KeyValue;
use crate::failure::Failure;
use crate::session::Session;

/// Requests under way at once.
pub(super) const REQUESTS_MAX: usize = 64;

/// The nodes that a command is about.
#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    /// Names or ids. `rack1-n[01-40]` and `n[1,3,7-9]` stand for several
    #[arg(value_name = "NODE", required_unless_present = "select")]
    nodes: Vec<NodeRange>,
    /// All nodes that match instead, such as `state=available,trait=CUSTOM_GPU`; a key that is given twice takes either value (state) or
    /// wants both (trait)
    #[arg(long, value_name = "KEY=VALUE,…", conflicts_with = "nodes")]
    select: Option<Selector>,
    /// List the nodes that are meant, and ask nothing of them
    #[arg(long)]
    dry_run: bool,
}

/// What a command is about, resolved.
pub(super) enum Meant {
    /// One node, by name.
    One(String),
    /// Several, or however many match.
    Many(Vec<String>),
}

impl Selection {
    /// Whether nothing is to be asked.
    pub(super) const fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    /// The nodes by name or id, each once, in order.
    pub(super) async fn resolve(&self, session: &Session) -> Result<Meant, Failure> {
        if let Some(Selector(filter)) = &self.select {
            let nodes = query::all(session, filter).await?;
            if nodes.is_empty() {
                return Err(Failure::refused("no node matches --select")
                    .hint("`bessemer node list` shows what there is"));
            }
            let id = |node: &Node| node.metadata.as_ref().map(|metadata| metadata.id.clone());
            return Ok(Meant::Many(nodes.iter().filter_map(id).collect()));
        }
        if let [NodeRange { is_range: false, names }] = &self.nodes[..]
            && let [name] = &names[..]
        {
            return Ok(Meant::One(name.clone()));
        }
        let mut seen = HashSet::new();
        let names = self.nodes.iter().flat_map(|range| &range.names);
        Ok(Meant::Many(names.filter(|name| seen.insert(*name)).cloned().collect()))
    }
}

impl Meant {
    /// Reads them all. Names that there are not are an error before anything is asked of the others.
    pub(super) async fn read(&self, session: &Session) -> Result<Vec<Node>, Failure> {
        let names = match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        };
        let reading = stream::iter(names).map(|name| async {
            let request = GetNodeRequest { node: name.clone(), ..GetNodeRequest::default() };
            session.client.get_node(request).await.map_err(Failure::from)
        });
        reading.buffered(REQUESTS_MAX).try_collect().await
    }
}

/// `KEY=VALUE,…`, all of which must hold.
#[derive(Debug, Clone, PartialEq)]
struct Selector(NodeFilter);

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut filter = NodeFilter::default();
        for pair in text.split(',') {
            let (key, value) =
                KeyValue::split(pair).map_err(|error| format!("`{pair}` {error}"))?;
            let text = || value.to_owned();
            let flag = || match value {
                "true" => Ok(Some(true)),
                "false" => Ok(Some(false)),
                _ => Err(format!("`{pair}`: {key} is true or false")),
            };
            match key {
                "state" => filter.provision_states.push(text()),
                "trait" => filter.traits.push(text()),
                "driver" => filter.driver = text(),
                "resource_class" => filter.resource_class = text(),
                "conductor_group" => filter.conductor_group = text(),
                "conductor" => filter.conductor = text(),
                "owner" => filter.owner = text(),
                "lessee" => filter.lessee = text(),
                "shard" => filter.shard = text(),
                "parent_node" => filter.parent_node = text(),
                "fault" => filter.fault = text(),
                "maintenance" => filter.maintenance = flag()?,
                "protected" => filter.protected = flag()?,
                "retired" => filter.retired = flag()?,
                _ => {
                    return Err(format!(
                        "`{key}` is none of: state, driver, resource_class, trait, conductor_group, conductor, owner, \
                         lessee, shard, parent_node, fault, maintenance, protected, retired"
                    ));
                }
            }
        }
        Ok(Self(filter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_a_filter() {
        let Selector(filter) =
            "state=available,state=active,trait=CUSTOM_GPU,maintenance=false,owner="
                .parse()
                .unwrap();
        assert_eq!(filter.provision_states, ["available", "active"]);
        assert_eq!(filter.traits, ["CUSTOM_GPU"]);
        assert_eq!(filter.maintenance, Some(false));
        let cases = [
            ("state", "KEY=VALUE"),
            ("", "KEY=VALUE"),
            ("colour=red", "`colour` is none of: state"),
            ("retired=maybe", "retired is true or false"),
        ];
        for (text, wrong) in cases {
            let said = text.parse::<Selector>().unwrap_err();
            assert!(said.contains(wrong), "{text}: {said}");
        }
    }
}
