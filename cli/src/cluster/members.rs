//! Who takes part in the Raft group, and how a change of that is shown.

use std::time::{Duration, Instant, SystemTime};

use bessemer_proto::v1::{ChangeMembersResponse, Member, PromoteMemberRequest};

use crate::failure::{Exit, Failure};
use crate::output::{Column, Format, View, json as message_json, print};
use crate::session::Session;

/// Pause between two looks at a member that catches up; the cluster itself waits a while before it refuses.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub(super) const MEMBERS: View<Member> = View {
    columns: &[
        Column { title: "MEMBER", wide: false, cell: |member, _| member.id.to_string() },
        Column { title: "ADDRESS", wide: false, cell: |member, _| member.address.clone() },
        Column {
            title: "ROLE",
            wide: false,
            cell: |member, _| {
                match (member.leader, member.voter) {
                    (true, _) => "leader",
                    (false, true) => "voter",
                    (false, false) => "learner",
                }
                .to_owned()
            },
        },
        Column {
            title: "UP",
            wide: false,
            cell: |member, _| member.up.map_or("", |up| if up { "yes" } else { "no" }).to_owned(),
        },
        Column {
            title: "LOG",
            wide: false,
            cell: |member, _| {
                member.matched_index.map(|index| index.to_string()).unwrap_or_default()
            },
        },
        Column {
            title: "LAG",
            wide: false,
            cell: |member, _| member.lag.map(|lag| lag.to_string()).unwrap_or_default(),
        },
    ],
    name: |member| member.id.to_string(),
    fields: |_, _| Vec::new(),
};

/// Promotes a member, and asks again while it catches up if that is wanted.
pub(super) async fn promote(
    session: &Session,
    id: u64,
    wait: bool,
    timeout: Option<Duration>,
) -> Result<ChangeMembersResponse, Failure> {
    let started = Instant::now();
    loop {
        let error = match session.client.promote_member(PromoteMemberRequest { id }).await {
            Ok(answer) => return Ok(answer),
            Err(error) if wait && error.reason() == Some("MEMBER_NOT_READY") => error,
            Err(error) => return Err(error.into()),
        };
        if timeout.is_some_and(|timeout| started.elapsed() >= timeout) {
            return Err(Failure::new(Exit::TimedOut, error.to_string()));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The members after a change, and what was done.
pub(super) fn show(
    session: &Session,
    answer: &ChangeMembersResponse,
    done: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match session.format {
        Format::Json | Format::Yaml => session.format.data(&message_json(answer)),
        Format::Name => session.format.list(&answer.members, &MEMBERS),
        Format::Table | Format::Wide => {
            let said = if answer.changed { done() } else { "nothing had to be done".to_owned() };
            let members = MEMBERS.table(&answer.members, false, SystemTime::now()).render();
            print(&format!("{said}\n\n{members}"))
        }
    }
}
