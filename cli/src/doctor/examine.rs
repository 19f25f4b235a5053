//! What is wrong, from what was seen. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use bessemer_proto::v1::{ClusterStatus, Conductor, Member, Node};
use serde::Serialize;

use crate::node;
use crate::output::quantity;

/// Clocks that differ by more give wrong times in history, and deadlines that come early or late.
const SKEW_MAX: Duration = Duration::from_secs(1);

/// A member that is further behind than so many log entries takes a while to catch up.
const LAG_MAX: u64 = 10_000;

/// Names that are given as examples.
const EXAMPLES_MAX: usize = 3;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// As it should be.
    Ok,
    /// It works, and might not for long.
    Warning,
    /// Something does not work.
    Problem,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) about: &'static str,
    pub(super) message: String,
    /// What to do about it; empty when nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) advice: String,
}

/// A member, and what it said of itself.
pub(super) struct SeenMember {
    pub(super) member: Member,
    pub(super) said: Result<Said, String>,
}

/// A member's answer.
pub(super) struct Said {
    pub(super) status: ClusterStatus,
    /// How far its clock is from this computer's, either way; the time that the answer took is taken off.
    pub(super) skew: Duration,
}

/// What was seen of a cluster.
pub(super) struct Seen {
    pub(super) members: Vec<SeenMember>,
    pub(super) conductors: Vec<Conductor>,
    pub(super) nodes: Vec<Node>,
    /// How many images there are, or why that is not known.
    pub(super) images: Result<usize, String>,
    pub(super) now: SystemTime,
}

/// Everything there is to say, the worst of each subject first.
pub(super) fn examine(seen: &Seen) -> Vec<Finding> {
    let subjects = [members(seen), conductors(seen), images(seen), nodes(seen)];
    let mut findings = Vec::new();
    for mut subject in subjects {
        subject.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings.extend(subject);
    }
    findings
}

/// Findings about one subject.
struct Subject(&'static str, Vec<Finding>);

impl Subject {
    fn note(&mut self, severity: Severity, message: String, advice: impl Into<String>) {
        self.1.push(Finding { severity, about: self.0, message, advice: advice.into() });
    }

    fn warn(&mut self, message: String, advice: impl Into<String>) {
        self.note(Severity::Warning, message, advice);
    }

    fn problem(&mut self, message: String, advice: impl Into<String>) {
        self.note(Severity::Problem, message, advice);
    }

    /// The findings; when there are none, that all is well.
    fn or_well(mut self, well: impl FnOnce() -> String) -> Vec<Finding> {
        if self.1.is_empty() {
            self.note(Severity::Ok, well(), "");
        }
        self.1
    }
}

fn members(seen: &Seen) -> Vec<Finding> {
    let mut subject = Subject("members", Vec::new());
    for SeenMember { member, said } in &seen.members {
        one_member(&mut subject, member, said);
    }
    let voters: Vec<_> = seen.members.iter().filter(|seen| seen.member.voter).collect();
    let answering = voters.iter().filter(|seen| seen.said.is_ok()).count();
    let (count, majority) = (voters.len(), voters.len() / 2 + 1);
    if answering < majority {
        let message = format!(
            "{answering} of {count} voters answer, and {majority} are needed: nothing is accepted"
        );
        subject.problem(
            message,
            "start the others; docs: Disaster recovery, if they are lost for good",
        );
    } else if count == 1 {
        let message = "there is one voter: while it is down, nothing is accepted".to_owned();
        subject.warn(message, "`bessemer cluster add` and `promote` make it three");
    } else if answering == majority {
        let message = format!(
            "{answering} of {count} voters answer: one more that is lost stops the cluster"
        );
        subject.warn(
            message,
            if answering == count { "an odd number of voters bears more" } else { "" },
        );
    }
    let said = || seen.members.iter().filter_map(|seen| seen.said.as_ref().ok());
    let leaders: BTreeSet<_> =
        said().map(|said| said.status.leader_id).filter(|id| *id > 0).collect();
    if leaders.len() > 1 {
        let message = format!("members name different leaders: {}", listed(&leaders));
        subject.warn(
            message,
            "ask again: an election takes a second; if it stays so, the network is cut",
        );
    }
    let versions: BTreeSet<_> = said().map(|said| &said.status.version).collect();
    if versions.len() > 1 {
        subject.warn(format!("members run versions {}", listed(&versions)), "finish the upgrade");
    }
    subject.or_well(|| {
        let term = said().map(|said| said.status.term).max().unwrap_or_default();
        format!(
            "all {} answer; member {} leads in term {term}",
            seen.members.len(),
            listed(&leaders)
        )
    })
}

fn one_member(subject: &mut Subject, member: &Member, said: &Result<Said, String>) {
    let Member { id, address, .. } = member;
    let said = match said {
        Ok(said) => said,
        Err(reason) => {
            let advice = format!(
                "start it; if its computer is gone for good, `bessemer cluster remove {id}` and add another one"
            );
            return subject
                .problem(format!("member {id} at {address} does not answer: {reason}"), advice);
        }
    };
    if !said.status.waits_for.is_empty() {
        let message = format!("member {id} takes no part: it waits for {}", said.status.waits_for);
        subject.problem(message, "");
    } else if said.status.leader_id == 0 {
        subject.problem(
            format!("member {id} knows no leader"),
            "see whether it reaches the other members",
        );
    }
    if let Some(lag) = member.lag.filter(|lag| *lag > LAG_MAX) {
        subject.warn(format!("member {id} is {lag} log entries behind"), "");
    }
    if said.skew > SKEW_MAX {
        let skew = quantity::duration(said.skew);
        let message = format!("the clock of member {id} is {skew} from this computer's");
        subject.warn(message, "see to NTP on both");
    }
}

fn conductors(seen: &Seen) -> Vec<Finding> {
    let mut subject = Subject("conductors", Vec::new());
    let online: Vec<_> = seen.conductors.iter().filter(|conductor| conductor.online).collect();
    if online.is_empty() {
        subject.problem("none is online: no machine is driven".to_owned(), "start one");
    }
    for lost in seen.conductors.iter().filter(|conductor| !conductor.online && !conductor.draining)
    {
        let age = quantity::age(lost.since.as_ref(), seen.now);
        let advice = "its nodes went to others; start it again, or drain it for good";
        subject.warn(format!("{} has been gone for {age}", lost.id), advice);
    }
    let mut kinds = BTreeMap::<(&str, &str), usize>::new();
    for node in &seen.nodes {
        let spec = node.spec.as_ref();
        let kind = spec.map(|spec| (spec.driver.as_str(), spec.conductor_group.as_str()));
        *kinds.entry(kind.unwrap_or_default()).or_default() += 1;
    }
    for ((driver, group), count) in kinds {
        let drives = |conductor: &&&Conductor| {
            let has = conductor.hardware_types.iter().any(|it| it == driver);
            has && conductor.conductor_group == group && !conductor.draining
        };
        let of_group = match group {
            "" => String::new(),
            group => format!(" of group `{group}`"),
        };
        let nodes = if count == 1 { "the node".to_owned() } else { format!("the {count} nodes") };
        match online.iter().filter(drives).count() {
            0 => subject.problem(
                format!("no conductor drives {nodes} with driver `{driver}`{of_group}"),
                format!("start one{of_group} that has the hardware type `{driver}`"),
            ),
            1 => subject.warn(
                format!("one conductor drives {nodes} with driver `{driver}`{of_group}: nobody takes over from it"),
                "start a second one",
            ),
            _ => {}
        }
    }
    subject.or_well(|| format!("{} online", online.len()))
}

fn images(seen: &Seen) -> Vec<Finding> {
    let mut subject = Subject("images", Vec::new());
    if let Err(reason) = &seen.images {
        let advice = "start an image cache, and name it in `image_caches` of every member";
        subject.problem(format!("no image cache answers: {reason}"), advice);
    }
    subject.or_well(|| format!("{} prepared", seen.images.as_ref().unwrap_or(&0)))
}

fn nodes(seen: &Seen) -> Vec<Finding> {
    let mut subject = Subject("nodes", Vec::new());
    let mut groups = BTreeMap::<(Severity, String, String), Vec<&str>>::new();
    for node in &seen.nodes {
        let Some(status) = &node.status else { continue };
        let label = node::label(node);
        let mut group = |severity, what: String, advice: String| {
            groups.entry((severity, what, advice)).or_default().push(label);
        };
        let waiting = status.waiting_on.as_ref();
        let is_late =
            waiting.and_then(|it| it.until).and_then(|until| SystemTime::try_from(until).ok());
        if let Some(waiting) = waiting.filter(|_| is_late.is_some_and(|until| until < seen.now)) {
            let what = format!("past the deadline, waiting for {}", waiting.what);
            group(Severity::Problem, what, "`bessemer node show` tells more".to_owned());
        }
        let state = &status.provision_state;
        if state.ends_with("failed") || state == "error" {
            let advice = format!("`bessemer node list --state \"{state}\" -o wide` tells why");
            group(Severity::Warning, format!("`{state}`"), advice);
        } else if !status.fault.is_empty() {
            let advice =
                format!("`bessemer node list --fault \"{}\" -o wide` tells why", status.fault);
            group(Severity::Warning, format!("with fault `{}`", status.fault), advice);
        }
    }
    for ((severity, what, advice), labels) in groups {
        let examples = labels.iter().take(EXAMPLES_MAX);
        let more = if labels.len() > EXAMPLES_MAX { ", …" } else { "" };
        let message = format!("{} {what}: {}{more}", labels.len(), listed(examples));
        subject.note(severity, message, advice);
    }
    subject.or_well(|| format!("{}, none of them failed or late", seen.nodes.len()))
}

fn listed<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use bessemer_proto::v1::{Metadata, NodeSpec, NodeStatus, WaitingOn};

    use super::*;

    fn member(id: u64, leader_id: u64) -> SeenMember {
        let status = ClusterStatus { leader_id, version: "1".into(), ..ClusterStatus::default() };
        let member = Member { id, address: format!("h{id}:1"), voter: true, ..Member::default() };
        SeenMember { member, said: Ok(Said { status, skew: Duration::ZERO }) }
    }

    fn conductor(id: &str) -> Conductor {
        Conductor {
            id: id.into(),
            online: true,
            hardware_types: vec!["fake".into()],
            ..Conductor::default()
        }
    }

    fn node(name: &str, state: &str) -> Node {
        Node {
            metadata: Some(Metadata { name: name.into(), ..Metadata::default() }),
            spec: Some(NodeSpec { driver: "fake".into(), ..NodeSpec::default() }),
            status: Some(NodeStatus { provision_state: state.into(), ..NodeStatus::default() }),
            ..Node::default()
        }
    }

    fn well() -> Seen {
        Seen {
            members: vec![member(1, 2), member(2, 2), member(3, 2)],
            conductors: vec![conductor("c1"), conductor("c2")],
            nodes: vec![node("n1", "active")],
            images: Ok(4),
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1000),
        }
    }

    /// What is said beyond that all is well.
    fn complaints(change: impl FnOnce(&mut Seen)) -> Vec<(Severity, String)> {
        let mut seen = well();
        change(&mut seen);
        let findings = examine(&seen).into_iter().filter(|it| it.severity != Severity::Ok);
        findings.map(|finding| (finding.severity, finding.message)).collect()
    }

    #[test]
    fn a_cluster_that_is_well_is_told_so() {
        let findings = examine(&well());
        let messages: Vec<_> = findings.iter().map(|finding| finding.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "all 3 answer; member 2 leads in term 0",
                "2 online",
                "4 prepared",
                "1, none of them failed or late"
            ]
        );
        assert!(findings.iter().all(|finding| finding.severity == Severity::Ok));
    }

    #[test]
    fn what_is_wrong_is_told_by_how_bad_it_is() {
        use Severity::{Problem, Warning};
        type Case = (fn(&mut Seen), Vec<(Severity, &'static str)>);
        let cases: Vec<Case> = vec![
            (
                |seen| seen.members[2].said = Err("refused".into()),
                vec![
                    (Problem, "member 3 at h3:1 does not answer: refused"),
                    (Warning, "2 of 3 voters"),
                ],
            ),
            (|seen| seen.members.truncate(1), vec![(Warning, "there is one voter")]),
            (|seen| seen.members.truncate(2), vec![(Warning, "2 of 2 voters answer")]),
            (
                |seen| {
                    for at in [1, 2] {
                        seen.members[at].said = Err("refused".into());
                    }
                },
                vec![
                    (Problem, "member 2"),
                    (Problem, "member 3"),
                    (Problem, "1 of 3 voters answer, and 2"),
                ],
            ),
            (|seen| seen.members[0] = member(1, 3), vec![(Warning, "different leaders: 2, 3")]),
            (|seen| seen.members[0] = member(1, 0), vec![(Problem, "member 1 knows no leader")]),
            (
                |seen| seen.members[1].said.as_mut().unwrap().skew = Duration::from_secs(7),
                vec![(Warning, "the clock of member 2 is 7.0s from")],
            ),
            (
                |seen| seen.members[1].said.as_mut().unwrap().status.version = "2".into(),
                vec![(Warning, "members run versions 1, 2")],
            ),
            (
                |seen| seen.conductors.truncate(1),
                vec![(Warning, "one conductor drives the node with")],
            ),
            (
                |seen| seen.conductors.clear(),
                vec![(Problem, "none is online"), (Problem, "no conductor drives the node with")],
            ),
            (
                |seen| seen.images = Err("none".into()),
                vec![(Problem, "no image cache answers: none")],
            ),
            (
                |seen| {
                    seen.nodes = (1..=5).map(|n| node(&format!("n{n}"), "deploy failed")).collect()
                },
                vec![(Warning, "5 `deploy failed`: n1, n2, n3, …")],
            ),
            (
                |seen| {
                    let until = Some(prost_types::Timestamp { seconds: 999, nanos: 0 });
                    let what = "the agent".to_owned();
                    let waiting = WaitingOn { what, until, ..WaitingOn::default() };
                    seen.nodes[0].status.as_mut().unwrap().waiting_on = Some(waiting);
                },
                vec![(Problem, "1 past the deadline, waiting for the agent: n1")],
            ),
        ];
        for (number, (change, wanted)) in cases.into_iter().enumerate() {
            let found = complaints(change);
            let is_right = found.len() == wanted.len()
                && found
                    .iter()
                    .zip(&wanted)
                    .all(|(found, wanted)| found.0 == wanted.0 && found.1.contains(wanted.1));
            assert!(is_right, "case {number}: {found:?} instead of {wanted:?}");
        }
    }
}
