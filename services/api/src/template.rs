//! Deploy templates and runbooks.

use bessemer_domain::ids::{NodeId, TemplateId};
use bessemer_domain::node::{DeploymentSpec, RequestedStep, Trait};
use bessemer_domain::template::{Template, TemplateKind, add_steps};
use bessemer_domain::{CommandBody, Invalid, State, Subject};
use bessemer_proto::v1;
use bessemer_proto::v1::template_service_server::TemplateService;
use bessemer_wire::{Failure, template};
use tonic::{Request, Response, Status};

use crate::api::{Api, Freshness};
use crate::caller::{Caller, identify};
use crate::page;
use crate::reference::new_id;

#[tonic::async_trait]
impl TemplateService for Api {
    async fn create_template(
        &self,
        request: Request<v1::CreateTemplateRequest>,
    ) -> Result<Response<v1::Template>, Status> {
        let (caller, request) = identify("create_template", request).map_err(Failure::from)?;
        let new = TemplateId::new(new_id(&request.id).map_err(Failure::Invalid)?);
        let spec = template::spec_from_proto(request.spec.as_ref()).map_err(Failure::Invalid)?;
        let spec = Box::new(spec);
        let body = CommandBody::CreateTemplate { template: new, spec };
        let accepted = self.propose(caller, body).await?;
        let created = match accepted.subject {
            Some(Subject::Template(first)) => first,
            Some(_) | None => new,
        };
        Ok(Response::new(self.committed_template(created)?))
    }

    async fn get_template(
        &self,
        request: Request<v1::GetTemplateRequest>,
    ) -> Result<Response<v1::Template>, Status> {
        let request = request.into_inner();
        let freshness = Freshness::unless_stale_ok(request.stale_ok);
        let look =
            |state: &State| find(state, &request.template, &request.kind).map(template::to_proto);
        Ok(Response::new(self.look(freshness, look).await??))
    }

    async fn list_templates(
        &self,
        request: Request<v1::ListTemplatesRequest>,
    ) -> Result<Response<v1::ListTemplatesResponse>, Status> {
        Ok(Response::new(self.template_page(request.into_inner()).await?))
    }

    async fn update_template(
        &self,
        request: Request<v1::UpdateTemplateRequest>,
    ) -> Result<Response<v1::Template>, Status> {
        let (caller, request) = identify("update_template", request).map_err(Failure::from)?;
        let spec = template::spec_from_proto(request.spec.as_ref()).map_err(Failure::Invalid)?;
        let kind = spec.kind;
        let look = |state: &State| find(state, &request.template, kind.as_str()).map(|it| it.id);
        let template = self.look(Freshness::Latest, look).await??;
        let expected_version = Some(request.version).filter(|version| *version != 0);
        let spec = Box::new(spec);
        let body = CommandBody::UpdateTemplate { template, expected_version, spec };
        self.propose(caller, body).await?;
        Ok(Response::new(self.committed_template(template)?))
    }

    async fn delete_template(
        &self,
        request: Request<v1::DeleteTemplateRequest>,
    ) -> Result<Response<v1::DeleteTemplateResponse>, Status> {
        let (caller, request) = identify("delete_template", request).map_err(Failure::from)?;
        self.remove_template(caller, &request).await?;
        Ok(Response::new(v1::DeleteTemplateResponse {}))
    }
}

impl Api {
    fn committed_template(&self, id: TemplateId) -> Result<v1::Template, Failure> {
        self.ledger.look(|state| find(state, &id.to_string(), "").map(template::to_proto))
    }

    async fn remove_template(
        &self,
        caller: Caller,
        request: &v1::DeleteTemplateRequest,
    ) -> Result<(), Failure> {
        let body = self.look(Freshness::Latest, |state| {
            // Once it is gone, its name means nothing, or another one.
            if let Some(first) = state.first_outcome(caller.command_id, caller.fingerprint) {
                first?;
                return Ok(None);
            }
            let template = find(state, &request.template, &request.kind)?.id;
            Ok::<_, Failure>(Some(CommandBody::DeleteTemplate { template }))
        });
        if let Some(body) = body.await?? {
            self.propose(caller, body).await?;
        }
        Ok(())
    }

    async fn template_page(
        &self,
        request: v1::ListTemplatesRequest,
    ) -> Result<v1::ListTemplatesResponse, Failure> {
        let size = page::size(request.page_size);
        let after = page::after(&request.page_token)?.map(TemplateId::new);
        let kind = match request.kind.as_str() {
            "" => None,
            kind => Some(kind.parse::<TemplateKind>()?),
        };
        let state = self.state(Freshness::unless_stale_ok(request.stale_ok)).await?;
        let mut templates: Vec<_> = state
            .templates_after(after)
            .filter(|it| kind.is_none_or(|kind| it.spec.kind == kind))
            .take(size + 1)
            .collect();
        let next_page_token = page::cut(&mut templates, size, |it| it.id.as_uuid());
        let templates = templates.into_iter().map(template::to_proto).collect();
        Ok(v1::ListTemplatesResponse { templates, next_page_token })
    }
}

/// A list of steps by its id, or by kind and name.
fn find<'a>(state: &'a State, reference: &str, kind: &str) -> Result<&'a Template, Failure> {
    let found = match reference.parse::<TemplateId>() {
        Ok(id) => state.template(id),
        Err(_) => {
            let name: Trait = reference
                .parse()
                .map_err(|invalid: Invalid| Invalid { field: "template".to_owned(), ..invalid })?;
            state.template_by_name(kind.parse()?, &name)
        }
    };
    found.ok_or_else(|| Failure::not_found("template", reference))
}

/// The steps of a runbook that is to be done on a node.
pub(crate) fn steps_of_runbook(
    state: &State,
    node: NodeId,
    reference: &str,
    has_steps: bool,
) -> Result<Vec<RequestedStep>, Failure> {
    let refuse = |reason: String| Err(Invalid::new("runbook", reference, reason).into());
    if has_steps {
        return refuse("is given together with steps: name one of them".to_owned());
    }
    let runbook = &find(state, reference, TemplateKind::Runbook.as_str())?.spec;
    if runbook.kind != TemplateKind::Runbook {
        return refuse(format!("is a {}", runbook.kind));
    }
    let node = state.node(node).ok_or_else(|| Failure::not_found("node", &node.to_string()))?;
    if !runbook.suits(&node.spec.traits) {
        let wanted: Vec<_> = runbook.traits.iter().map(Trait::as_str).collect();
        let wanted = if wanted.is_empty() { runbook.name.to_string() } else { wanted.join(" or ") };
        return refuse(format!("is not for node {}, which has not trait {wanted}", node.label()));
    }
    Ok(runbook.steps.clone())
}

/// Adds the steps of the deploy templates that a deployment's traits mean: those of the request, or else of the node's
/// allocation.
pub(crate) fn add_template_steps(
    state: &State,
    node: NodeId,
    traits: &[String],
    spec: &mut DeploymentSpec,
) -> Result<(), Invalid> {
    let of_allocation = || {
        let allocation = state.allocation(state.node(node)?.allocation?)?;
        Some(allocation.spec.traits.iter().cloned().collect::<Vec<_>>())
    };
    let traits = if traits.is_empty() {
        of_allocation().unwrap_or_default()
    } else {
        let named =
            traits.iter().map(|name| name.parse().map_err(|it: Invalid| it.under("deployment")));
        named.collect::<Result<_, _>>()?
    };
    let templates = traits
        .iter()
        .filter_map(|name| state.template_by_name(TemplateKind::DeployTemplate, name))
        .map(|template| &template.spec);
    add_steps(&mut spec.deploy_steps, templates);
    spec.check().map_err(|invalid| invalid.under("deployment"))
}
