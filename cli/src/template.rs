//! `bessemer deploy-template` and `bessemer runbook`: named lists of steps.

use bessemer_proto::v1::{
    CreateTemplateRequest, DeleteTemplateRequest, GetTemplateRequest, ListTemplatesRequest,
    Template, TemplateSpec, UpdateTemplateRequest,
};
use clap::Subcommand;

use crate::arguments::{KeyValue, Mutation, Version, object};
use crate::failure::Failure;
use crate::output::{Column, View, print, quantity};
use crate::session::Session;
use crate::step_argument::RequestedSteps;

/// Templates asked for at once; the API's limit.
const PAGE_SIZE: u32 = 1000;

const TEMPLATES: View<Template> = View {
    columns: &[
        Column { title: "NAME", wide: false, cell: |it, _| spec(it).name },
        Column { title: "STEPS", wide: false, cell: |it, _| names(it) },
        Column { title: "DESCRIPTION", wide: true, cell: |it, _| spec(it).description },
        Column { title: "OWNER", wide: true, cell: |it, _| spec(it).owner },
        Column { title: "ID", wide: true, cell: |it, _| id(it) },
        Column {
            title: "AGE",
            wide: false,
            cell: |it, now| {
                quantity::age(it.metadata.as_ref().and_then(|data| data.created_at.as_ref()), now)
            },
        },
    ],
    name: |it| spec(it).name,
    fields: |it, _| {
        vec![
            ("Name", spec(it).name),
            ("ID", id(it)),
            ("Description", spec(it).description),
            ("Steps", names(it)),
            ("For nodes with", spec(it).traits.join(" or ")),
            ("Owner", spec(it).owner),
            ("Version", it.version.to_string()),
        ]
    },
};

fn spec(template: &Template) -> TemplateSpec {
    template.spec.clone().unwrap_or_default()
}

fn id(template: &Template) -> String {
    template.metadata.as_ref().map(|metadata| metadata.id.clone()).unwrap_or_default()
}

/// `burn_in 90, reboot 50`.
fn names(template: &Template) -> String {
    let steps = spec(template).steps.into_iter();
    let named = steps.map(|step| format!("{} {}", step.step, step.priority.unwrap_or_default()));
    named.collect::<Vec<_>>().join(", ")
}

/// Which of the two kinds is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// For deployments.
    DeployTemplate,
    /// For cleanings and services.
    Runbook,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::DeployTemplate => "deploy_template",
            Self::Runbook => "runbook",
        }
    }
}

/// What can be asked of named lists of steps.
#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Make one
    Create(Create),
    /// List them
    List,
    /// Show one
    Show {
        /// Name or id
        name: String,
    },
    /// Replace one; what is not given is empty afterwards
    Replace(Replace),
    /// Forget one; what runs already has its steps
    Delete(Delete),
}

/// What is said of one.
#[derive(Debug, clap::Args)]
pub(crate) struct Fields {
    /// A trait, such as `CUSTOM_BURN_IN`
    name: String,
    /// A list of {step, args, priority, limit_seconds} as JSON or YAML, or a file with it
    #[arg(long, value_name = "FILE|JSON")]
    steps: RequestedSteps,
    /// In your words
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    /// Of a runbook: for nodes with this trait; repeatable. Its name is one, when none is given
    #[arg(long = "trait", value_name = "TRAIT")]
    traits: Vec<String>,
    /// The project that it belongs to
    #[arg(long, default_value = "", hide_default_value = true)]
    owner: String,
    /// Free for you; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    extra: Vec<KeyValue>,
}

/// `create`.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    mutation: Mutation,
}

/// `replace`.
#[derive(Debug, clap::Args)]
pub(crate) struct Replace {
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    version: Version,
    #[command(flatten)]
    mutation: Mutation,
}

/// `delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Name or id
    name: String,
    #[command(flatten)]
    mutation: Mutation,
}

impl Fields {
    fn spec(self, kind: Kind) -> TemplateSpec {
        TemplateSpec {
            kind: kind.as_str().to_owned(),
            name: self.name,
            description: self.description,
            steps: self.steps.0,
            traits: self.traits,
            owner: self.owner,
            extra: object(&self.extra),
        }
    }
}

impl TemplateCommand {
    /// Does it.
    pub(crate) async fn run(self, session: &Session, kind: Kind) -> Result<(), Failure> {
        let kind_name = kind.as_str().to_owned();
        let template = match self {
            Self::List => return list(session, kind_name).await,
            Self::Delete(Delete { name, mutation }) => {
                let sentence = format!("{} {name} deleted\n", kind_name.replace('_', " "));
                let command_id = mutation.command_id();
                let request = DeleteTemplateRequest { command_id, template: name, kind: kind_name };
                session.client.delete_template(request).await?;
                return if session.format.is_data() { Ok(()) } else { print(&sentence) };
            }
            Self::Show { name } => {
                let request =
                    GetTemplateRequest { template: name, kind: kind_name, stale_ok: false };
                session.client.get_template(request).await?
            }
            Self::Create(Create { fields, mutation }) => {
                let request = CreateTemplateRequest {
                    command_id: mutation.command_id(),
                    id: String::new(),
                    spec: Some(fields.spec(kind)),
                };
                session.client.create_template(request).await?
            }
            Self::Replace(Replace { fields, version, mutation }) => {
                let request = UpdateTemplateRequest {
                    command_id: mutation.command_id(),
                    template: fields.name.clone(),
                    version: version.version,
                    spec: Some(fields.spec(kind)),
                };
                session.client.update_template(request).await?
            }
        };
        session.format.show(&template, &TEMPLATES)
    }
}

async fn list(session: &Session, kind: String) -> Result<(), Failure> {
    let mut templates = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListTemplatesRequest {
            page_size: PAGE_SIZE,
            page_token,
            kind: kind.clone(),
            stale_ok: false,
        };
        let page = session.client.list_templates(request).await?;
        templates.extend(page.templates);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return session.format.list(&templates, &TEMPLATES);
        }
    }
}
