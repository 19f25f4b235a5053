//! Which nodes a list is to hold: a table of Ironic's parameters.

use bessemer_domain::node::{Node, ProvisionState};

use super::interfaces::driver;
use crate::rest::fault::Fault;
use crate::rest::query::{Query, flag};
use crate::rest::resource::Context;

/// Whether a node is wanted.
type Test = Box<dyn Fn(&Node, &Context<'_>) -> bool + Send>;

/// Makes a test of the parameter's name and value.
type Make = fn(&str, String) -> Result<Test, Fault>;

/// Name, the version of the API that it came with, and the test that it makes.
const PARAMETERS: &[(&str, u16, Make)] = &[
    ("associated", 1, |name, text| {
        let wanted = flag(name, &text)?;
        Ok(Box::new(move |node, _| node.allocation.is_some() == wanted))
    }),
    ("chassis_uuid", 1, |_, _| Ok(Box::new(|_, _| false))),
    ("instance_uuid", 1, |_, text| {
        Ok(Box::new(move |node, _| node.allocation.is_some_and(|it| it.to_string() == text)))
    }),
    ("maintenance", 1, |name, text| {
        let wanted = flag(name, &text)?;
        Ok(Box::new(move |node, _| node.maintenance.is_some() == wanted))
    }),
    ("provision_state", 9, |_, text| {
        let wanted: ProvisionState = text.parse()?;
        Ok(Box::new(move |node, _| node.provision.state == wanted))
    }),
    ("driver", 16, |_, text| {
        let wanted = driver(&text).to_owned();
        Ok(Box::new(move |node, _| node.spec.driver == wanted))
    }),
    ("resource_class", 21, |_, text| Ok(Box::new(move |node, _| node.spec.resource_class == text))),
    ("fault", 42, |_, text| {
        Ok(Box::new(move |node, _| node.fault.is_some_and(|fault| fault.as_str() == text)))
    }),
    ("conductor_group", 46, |_, text| {
        // Stored as it was given; Ironic makes it lower case.
        Ok(Box::new(move |node, _| node.spec.conductor_group.eq_ignore_ascii_case(&text)))
    }),
    ("conductor", 49, |_, text| {
        Ok(Box::new(move |node, context| {
            context.state.owner(node).is_some_and(|owner| owner.as_str() == text)
        }))
    }),
    ("owner", 50, |_, text| Ok(Box::new(move |node, _| node.spec.owner == text))),
    ("description_contains", 51, |_, text| {
        let wanted = text.to_lowercase();
        Ok(Box::new(move |node, _| node.spec.description.to_lowercase().contains(&wanted)))
    }),
    ("retired", 61, |name, text| {
        let wanted = flag(name, &text)?;
        Ok(Box::new(move |node, _| node.spec.retired.is_some() == wanted))
    }),
    ("lessee", 65, |_, text| Ok(Box::new(move |node, _| node.spec.lessee == text))),
    ("shard", 82, |_, text| {
        Ok(Box::new(move |node, _| text.split(',').any(|shard| node.spec.shard == shard)))
    }),
    ("sharded", 82, |name, text| {
        let wanted = flag(name, &text)?;
        Ok(Box::new(move |node, _| node.spec.shard.is_empty() != wanted))
    }),
    ("parent_node", 83, |_, text| {
        Ok(Box::new(move |node, _| node.spec.parent_node.is_some_and(|it| it.to_string() == text)))
    }),
];

/// Whether nodes that are parts of others are wanted, too.
const CHILDREN: &str = "include_children";
const CHILDREN_SINCE: u16 = 83;

/// All tests that a query asks for.
pub(super) struct Filter(Vec<Test>);

impl Filter {
    pub(super) fn try_new(query: &mut Query, version: u16) -> Result<Self, Fault> {
        let (mut tests, mut has_parent) = (Vec::<Test>::new(), false);
        for (name, since, make) in PARAMETERS {
            let Some(text) = query.take(name) else { continue };
            if *since > version {
                return Err(Fault::since(&format!("parameter `{name}`"), *since));
            }
            tests.push(make(name, text)?);
            has_parent |= *name == "parent_node";
        }
        // Parts of other nodes are in a list only where they are asked for.
        let with_children = match query.take(CHILDREN) {
            Some(_) if version < CHILDREN_SINCE => {
                return Err(Fault::since(&format!("parameter `{CHILDREN}`"), CHILDREN_SINCE));
            }
            Some(text) => flag(CHILDREN, &text)?,
            None => has_parent || version < CHILDREN_SINCE,
        };
        if !with_children {
            tests.push(Box::new(|node, _| node.spec.parent_node.is_none()));
        }
        Ok(Self(tests))
    }

    pub(super) fn matches(&self, node: &Node, context: &Context<'_>) -> bool {
        self.0.iter().all(|test| test(node, context))
    }
}
