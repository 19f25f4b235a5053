//! Named lists of steps: Ironic's deploy templates, which deployments take by their traits, and runbooks, which cleanings and
//! services run.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::TemplateId;
use crate::node::{JsonMap, RequestedStep, Trait, check_template_steps};
use crate::{Invalid, Timestamp};

/// What a list is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateKind {
    /// Deployments with its trait do its steps, by their priorities.
    DeployTemplate,
    /// A cleaning or a service does its steps, in their order.
    Runbook,
}

impl TemplateKind {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DeployTemplate => "deploy_template",
            Self::Runbook => "runbook",
        }
    }
}

impl fmt::Display for TemplateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TemplateKind {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        [Self::DeployTemplate, Self::Runbook]
            .into_iter()
            .find(|it| it.as_str() == text)
            .ok_or_else(|| Invalid::new("kind", text, "is neither deploy_template nor runbook"))
    }
}

/// What the caller says of a list of steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSpec {
    /// What it is for.
    pub kind: TemplateKind,
    /// Unique among those of its kind.
    pub name: Trait,
    /// In the caller's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The steps.
    pub steps: Vec<RequestedStep>,
    /// Of a runbook: a node must have one of them; its name, when there are none.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub traits: BTreeSet<Trait>,
    /// The project that it belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Free for the caller.
    #[serde(default, skip_serializing_if = "JsonMap::is_empty")]
    pub extra: JsonMap,
}

/// A list of steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Its identity.
    pub id: TemplateId,
    /// Count of its events.
    pub version: u64,
    /// What the caller says of it.
    pub spec: TemplateSpec,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl TemplateSpec {
    /// Checks what needs neither node nor agent.
    ///
    /// # Errors
    /// [`Invalid`] with the field's path from `spec`.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.steps.is_empty() {
            return Err(Invalid::new("spec.steps", "", "is required: at least one step"));
        }
        if self.kind == TemplateKind::DeployTemplate && !self.traits.is_empty() {
            let reason = "are given, but a deploy template is found by its name, which is a trait";
            return Err(Invalid::new("spec.traits", &self.traits.len().to_string(), reason));
        }
        check_template_steps("spec.steps", &self.steps, self.kind == TemplateKind::Runbook)
    }

    /// Whether it is meant for something with these traits.
    #[must_use]
    pub fn suits(&self, traits: &BTreeSet<Trait>) -> bool {
        if self.traits.is_empty() {
            return traits.contains(&self.name);
        }
        self.traits.iter().any(|one| traits.contains(one))
    }
}

/// Adds the steps of templates to those that a request names itself, which win over those of the same name.
pub fn add_steps<'a>(
    asked: &mut Vec<RequestedStep>,
    templates: impl IntoIterator<Item = &'a TemplateSpec>,
) {
    let named: BTreeSet<_> = asked.iter().map(|step| step.step.clone()).collect();
    let steps = templates.into_iter().flat_map(|template| &template.steps);
    asked.extend(steps.filter(|step| !named.contains(&step.step)).cloned());
}
