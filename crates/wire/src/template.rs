//! Deploy templates and runbooks.

use bessemer_domain::Invalid;
use bessemer_domain::template::{Template, TemplateKind, TemplateSpec};
use bessemer_proto::v1;

use crate::text::{DESCRIPTION_CHARACTERS_MAX, SHORT_CHARACTERS_MAX, bounded};
use crate::{json, spec, step, time};

/// The list of steps as a message.
#[must_use]
pub fn to_proto(template: &Template) -> v1::Template {
    let spec = &template.spec;
    v1::Template {
        metadata: Some(v1::Metadata {
            id: template.id.to_string(),
            name: spec.name.to_string(),
            created_at: Some(time::to_proto(template.created_at)),
            updated_at: Some(time::to_proto(template.updated_at)),
        }),
        spec: Some(v1::TemplateSpec {
            kind: spec.kind.as_str().to_owned(),
            name: spec.name.to_string(),
            description: spec.description.clone(),
            steps: spec.steps.iter().map(step::requested_to_proto).collect(),
            traits: spec.traits.iter().map(ToString::to_string).collect(),
            owner: spec.owner.clone(),
            extra: Some(json::to_proto(&spec.extra)),
        }),
        version: template.version,
    }
}

/// Checks what the caller says of a list of steps.
///
/// # Errors
/// [`Invalid`] with the field's path from the request.
pub fn spec_from_proto(given: Option<&v1::TemplateSpec>) -> Result<TemplateSpec, Invalid> {
    let given = given.ok_or_else(|| Invalid::new("spec", "", "is required"))?;
    let kind: TemplateKind = given.kind.parse().map_err(|it: Invalid| it.under("spec"))?;
    let steps = match kind {
        TemplateKind::DeployTemplate => step::requested_from_proto("spec.steps", &given.steps)?,
        TemplateKind::Runbook => step::ordered_from_proto("spec.steps", &given.steps)?,
    };
    let description = "spec.description";
    let asked = TemplateSpec {
        kind,
        name: given
            .name
            .parse()
            .map_err(|invalid| Invalid { field: "spec.name".to_owned(), ..invalid })?,
        description: bounded(description, &given.description, DESCRIPTION_CHARACTERS_MAX)?,
        steps,
        traits: spec::traits_from_proto(&given.traits)?,
        owner: bounded("spec.owner", &given.owner, SHORT_CHARACTERS_MAX)?,
        extra: json::from_proto("spec.extra", given.extra.as_ref())?,
    };
    asked.check()?;
    Ok(asked)
}
