//! `bessemer doctor`: looks at everything that answers, and says what is wrong and what to do about it.

mod examine;

use std::time::{Duration, SystemTime};

use bessemer_proto::v1::{
    GetStatusRequest, ListConductorsRequest, ListImagesRequest, ListMembersRequest, Member,
    NodeFilter,
};
use console::style;
use futures::future::join_all;

use self::examine::{Finding, Said, Seen, SeenMember, Severity, examine};
use crate::failure::Failure;
use crate::node;
use crate::output::print;
use crate::session::Session;

/// How long each member may take.
const MEMBER_DEADLINE: Duration = Duration::from_secs(2);

/// `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {}

impl Doctor {
    /// Looks, and prints what was found. A problem is a failure.
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        let findings = examine(&look(session).await?);
        if session.format.is_data() {
            session.format.data(&findings)?;
        } else {
            print(&findings.iter().map(lines).collect::<String>())?;
        }
        match findings.iter().filter(|finding| finding.severity == Severity::Problem).count() {
            0 => Ok(()),
            1 => Err(Failure::failed("there is 1 problem")),
            count => Err(Failure::failed(format!("there are {count} problems"))),
        }
    }
}

async fn look(session: &Session) -> Result<Seen, Failure> {
    let client = &session.client;
    let members = client.list_members(ListMembersRequest {}).await?.members;
    let members = join_all(members.into_iter().map(|member| async {
        let said = ask(session, &member).await;
        SeenMember { member, said }
    }));
    let images = client.clone().with_deadline(MEMBER_DEADLINE);
    let images = images.list_images(ListImagesRequest::default()).await;
    Ok(Seen {
        members: members.await,
        conductors: client.list_conductors(ListConductorsRequest {}).await?.conductors,
        nodes: node::query::all(session, &NodeFilter::default()).await?,
        images: images.map(|list| list.images.len()).map_err(|error| error.to_string()),
        now: SystemTime::now(),
    })
}

/// Asks one member for its own view, whatever the others say.
async fn ask(session: &Session, member: &Member) -> Result<Said, String> {
    let client = session.client_of(&member.address);
    let client = client.map_err(|error| error.to_string())?.with_deadline(MEMBER_DEADLINE);
    let asked = SystemTime::now();
    let status = client.get_status(GetStatusRequest {}).await.map_err(|error| error.to_string())?;
    let took = asked.elapsed().unwrap_or_default();
    let told = status.time.and_then(|time| SystemTime::try_from(time).ok());
    let apart = |told: SystemTime| {
        let here = asked + took / 2;
        let apart = told.duration_since(here).unwrap_or_else(|earlier| earlier.duration());
        apart.saturating_sub(took / 2)
    };
    Ok(Said { skew: told.map(apart).unwrap_or_default(), status })
}

fn lines(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Ok => style("ok     ").green(),
        Severity::Warning => style("warning").yellow(),
        Severity::Problem => style("problem").red(),
    };
    let mut lines = format!("{severity}  {:<10}  {}\n", finding.about, finding.message);
    if !finding.advice.is_empty() {
        lines.push_str(&format!("{:21}{}\n", "", finding.advice));
    }
    lines
}
