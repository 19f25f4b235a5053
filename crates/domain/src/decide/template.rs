//! Deploy templates and runbooks. What runs already has its steps, whatever becomes of the list that they were from.

use super::Decision;
use crate::event::{Event, Subject};
use crate::ids::TemplateId;
use crate::template::{Template, TemplateSpec};
use crate::{Invalid, Rejection, State};

pub(super) fn create(state: &State, id: TemplateId, spec: &TemplateSpec) -> Decision {
    if state.template(id).is_some() || state.deleted_templates.contains_key(&id) {
        return Err(taken("id", id.to_string(), "a template; ids are not reused".to_owned()));
    }
    check(state, id, spec)?;
    Ok(vec![(Subject::Template(id), Event::TemplateCreated { spec: Box::new(spec.clone()) })])
}

pub(super) fn update(
    state: &State,
    id: TemplateId,
    expected: Option<u64>,
    spec: &TemplateSpec,
) -> Decision {
    let template = known(state, id)?;
    if let Some(expected) = expected.filter(|expected| *expected != template.version) {
        let (node, current) = (template.spec.name.to_string(), template.version);
        return Err(Rejection::VersionConflict { node, expected, current });
    }
    if template.spec.kind != spec.kind {
        let reason = format!("cannot be changed: it is a {}", template.spec.kind);
        return Err(Invalid::new("spec.kind", spec.kind.as_str(), reason).into());
    }
    check(state, id, spec)?;
    if template.spec == *spec {
        return Ok(Vec::new());
    }
    Ok(vec![(Subject::Template(id), Event::TemplateUpdated { spec: Box::new(spec.clone()) })])
}

pub(super) fn delete(state: &State, id: TemplateId) -> Decision {
    known(state, id)?;
    Ok(vec![(Subject::Template(id), Event::TemplateDeleted {})])
}

fn known(state: &State, id: TemplateId) -> Result<&Template, Rejection> {
    state.template(id).ok_or_else(|| Rejection::NotFound {
        kind: "template".to_owned(),
        reference: id.to_string(),
    })
}

fn check(state: &State, id: TemplateId, spec: &TemplateSpec) -> Result<(), Rejection> {
    spec.check()?;
    match state.template_by_name(spec.kind, &spec.name).filter(|other| other.id != id) {
        Some(other) => {
            Err(taken("name", spec.name.to_string(), format!("{} {}", spec.kind, other.id)))
        }
        None => Ok(()),
    }
}

fn taken(field: &str, value: String, holder: String) -> Rejection {
    Rejection::AlreadyExists { field: field.to_owned(), value, holder }
}
