//! `bessemer cluster`: members, conductors, the whole of the fleet, and backups of it.

mod backup;
mod members;

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bessemer_proto::v1::{
    AddMemberRequest, ClusterStatus, Conductor, GetStatusRequest, ListConductorsRequest,
    ListMembersRequest, Member, RemoveMemberRequest, TakeSnapshotRequest, TransferLeaderRequest,
};
use clap::Subcommand;
use serde_json::json;

use self::members::MEMBERS;
use crate::arguments::duration;
use crate::conductor::CONDUCTORS;
use crate::failure::Failure;
use crate::output::{Format, fields, json as message_json, print};
use crate::session::Session;

/// What can be asked of the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Members, leader, conductors, and how many nodes are in which state
    Status,
    /// Add a new member: it gets the log and does not vote yet
    Add {
        /// Its id, as in its configuration
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// HOST:PORT of its listener, as the other members reach it
        address: String,
    },
    /// Make a member that has caught up a voter
    Promote {
        /// Its id
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// Wait until it has caught up
        #[arg(long, help_heading = "Waiting")]
        wait: bool,
        /// Longest wait: 90, 90s, 10m, 2h. Without it, as long as it takes
        #[arg(long, value_name = "DURATION", value_parser = duration, requires = "wait",
              help_heading = "Waiting")]
        timeout: Option<Duration>,
    },
    /// Remove a member: a dead one, or one that is to be stopped for good. A leader hands over first
    Remove {
        /// Its id
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// Also if too few of the other voters answer: the cluster stands still until enough of them are back
        #[arg(long, help_heading = "Safety")]
        force: bool,
    },
    /// Make another voter lead
    TransferLeader {
        /// Its id
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
    },
    /// Have the member that is asked write its state down, so that it needs less of its log
    Snapshot,
    /// Write all of history and the state to a file, and check it
    Backup {
        /// Where to; replaced once the new one is whole
        file: PathBuf,
    },
    /// Make the data directory of a new cluster of one member from a backup; no server may run on it
    Restore(backup::Restore),
}

impl ClusterCommand {
    /// Does it.
    pub(crate) async fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Status => status(session).await,
            Self::Add { id, address } => {
                let answer = session.client.add_member(AddMemberRequest { id, address }).await?;
                members::show(session, &answer, || {
                    format!(
                        "member {id} is a learner; once it has caught up, `bessemer cluster promote {id}`"
                    )
                })
            }
            Self::Promote { id, wait, timeout } => {
                let answer = members::promote(session, id, wait, timeout).await?;
                members::show(session, &answer, || format!("member {id} votes"))
            }
            Self::Remove { id, force } => {
                let request = RemoveMemberRequest { id, force };
                let answer = session.client.remove_member(request).await?;
                members::show(session, &answer, || {
                    format!("member {id} was removed; its process ends")
                })
            }
            Self::TransferLeader { id } => {
                let answer = session.client.transfer_leader(TransferLeaderRequest { id }).await?;
                members::show(session, &answer, || format!("member {id} leads"))
            }
            Self::Snapshot => snapshot(session).await,
            Self::Backup { file } => backup::write(session, &file).await,
            Self::Restore(restore) => restore.run(session).await,
        }
    }
}

async fn snapshot(session: &Session) -> Result<(), Failure> {
    let taken = session.client.take_snapshot(TakeSnapshotRequest {}).await?;
    if session.format.is_data() {
        return session.format.data(&message_json(&taken));
    }
    let (member, index) = (taken.member_id, taken.log_index);
    print(&format!("member {member} has a snapshot up to log entry {index}\n"))
}

async fn status(session: &Session) -> Result<(), Failure> {
    let client = &session.client;
    let (status, members, conductors) = tokio::try_join!(
        client.get_status(GetStatusRequest {}),
        client.list_members(ListMembersRequest {}),
        client.list_conductors(ListConductorsRequest {}),
    )?;
    let (members, conductors) = (members.members, conductors.conductors);
    match session.format {
        Format::Json | Format::Yaml => session.format.data(&json!({
            "status": message_json(&status),
            "members": members.iter().map(message_json).collect::<Vec<_>>(),
            "conductors": conductors.iter().map(message_json).collect::<Vec<_>>(),
        })),
        Format::Name => session.format.list(&members, &MEMBERS),
        Format::Table | Format::Wide => {
            print(&report(&status, &members, &conductors, SystemTime::now()))
        }
    }
}

fn report(
    status: &ClusterStatus,
    members: &[Member],
    conductors: &[Conductor],
    now: SystemTime,
) -> String {
    let leader = match status.leader_id {
        0 => "none".to_owned(),
        id => format!("member {id}, term {}", status.term),
    };
    let mut states: Vec<_> =
        status.provision_states.iter().filter(|(_, count)| **count > 0).collect();
    states.sort();
    let states: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let nodes = match status.node_count {
        0 => "0".to_owned(),
        count => format!("{count}: {}", states.join(", ")),
    };
    let mut summary = vec![
        ("Cluster", status.cluster_id.clone()),
        ("Leader", leader),
        ("Revision", status.revision.to_string()),
        ("Hash", hex::encode(&status.hash)),
        (
            "Log",
            format!(
                "{} to {}, applied {}, snapshot {} (member {})",
                status.first_log_index,
                status.last_log_index,
                status.applied_index,
                status.snapshot_index,
                status.member_id
            ),
        ),
        ("Version", status.version.clone()),
        ("Nodes", nodes),
    ];
    if !status.waits_for.is_empty() {
        summary.push(("Waits for", status.waits_for.clone()));
    }
    let summary = fields(&summary);
    let members = MEMBERS.table(members, false, now).render();
    let conductors = CONDUCTORS.table(conductors, false, now).render();
    format!("{summary}\n{members}\n{conductors}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_read_from_top_to_bottom() {
        let status = ClusterStatus {
            cluster_id: "c0ffee".into(),
            member_id: 1,
            leader_id: 2,
            term: 3,
            first_log_index: 12,
            last_log_index: 40,
            applied_index: 40,
            snapshot_index: 0,
            revision: 57,
            hash: vec![0xab, 0xcd],
            node_count: 3,
            provision_states: [("active".into(), 2), ("deploying".into(), 1), ("error".into(), 0)]
                .into(),
            version: "0.1.0".into(),
            waits_for: String::new(),
            time: None,
        };
        let member = |id, leader| Member {
            id,
            address: format!("10.0.0.{id}:6385"),
            voter: true,
            leader,
            matched_index: leader.then_some(40),
            lag: leader.then_some(0),
            up: leader.then_some(true),
        };
        let conductor = Conductor {
            id: "c1".into(),
            hardware_types: vec!["fake".into()],
            address: "http://10.0.0.9:6386".into(),
            online: true,
            node_count: 3,
            ..Conductor::default()
        };
        let text =
            report(&status, &[member(1, false), member(2, true)], &[conductor], SystemTime::now());
        let expected = "\
Cluster   c0ffee
Leader    member 2, term 3
Revision  57
Hash      abcd
Log       12 to 40, applied 40, snapshot 0 (member 1)
Version   0.1.0
Nodes     3: 2 active, 1 deploying

MEMBER  ADDRESS        ROLE    UP   LOG  LAG
1       10.0.0.1:6385  voter   -    -    -
2       10.0.0.2:6385  leader  yes  40   0

CONDUCTOR  STATE   FOR  NODES  GROUP  HARDWARE TYPES  ADDRESS
c1         online  -    3      -      fake            http://10.0.0.9:6386
";
        assert_eq!(text, expected);
    }
}
