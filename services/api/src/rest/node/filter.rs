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
        // No node has an instance_uuid.
        let wanted = flag(name, &text)?;
        Ok(Box::new(move |_, _| !wanted))
    }),
    ("chassis_uuid", 1, |_, _| Ok(Box::new(|_, _| false))),
    ("instance_uuid", 1, |_, _| Ok(Box::new(|_, _| false))),
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
    ("fault", 42, |_, _| Ok(Box::new(|_, _| false))),
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
        Ok(Box::new(move |_, _| !wanted))
    }),
    ("lessee", 65, |_, _| Ok(Box::new(|_, _| false))),
    ("shard", 82, |_, _| Ok(Box::new(|_, _| false))),
    ("sharded", 82, |name, text| {
        let wanted = flag(name, &text)?;
        Ok(Box::new(move |_, _| !wanted))
    }),
    // There are no nodes below others.
    ("include_children", 83, |name, text| {
        flag(name, &text)?;
        Ok(Box::new(|_, _| true))
    }),
    ("parent_node", 83, |_, _| Ok(Box::new(|_, _| false))),
];

/// All tests that a query asks for.
pub(super) struct Filter(Vec<Test>);

impl Filter {
    pub(super) fn try_new(query: &mut Query, version: u16) -> Result<Self, Fault> {
        let mut tests = Vec::new();
        for (name, since, make) in PARAMETERS {
            let Some(text) = query.take(name) else { continue };
            if *since > version {
                return Err(Fault::since(&format!("parameter `{name}`"), *since));
            }
            tests.push(make(name, text)?);
        }
        Ok(Self(tests))
    }

    pub(super) fn matches(&self, node: &Node, context: &Context<'_>) -> bool {
        self.0.iter().all(|test| test(node, context))
    }
}
