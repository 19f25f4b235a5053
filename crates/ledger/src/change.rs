//! Changes of who takes part: what can be asked, and the rules that need nothing but the group as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::MemberId;

/// A change of who takes part. Asked again, it finds done what was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Change {
    /// A new member gets the log and does not vote.
    AddLearner {
        /// Its id.
        id: MemberId,
        /// `host:port` of its listener.
        address: String,
    },
    /// A learner that holds the log votes from now on.
    Promote {
        /// Which.
        id: MemberId,
    },
    /// A member takes part no more. A leader hands over first.
    Remove {
        /// Which.
        id: MemberId,
        /// Also if too few of the others are known to be up.
        force: bool,
    },
    /// Another voter leads.
    TransferLeader {
        /// Which.
        id: MemberId,
    },
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Whether anything had to be done.
    pub changed: bool,
    /// The log entry that holds it, if this call wrote one.
    pub log_index: Option<u64>,
}

impl Changed {
    pub(crate) const NOTHING: Self = Self { changed: false, log_index: None };
}

/// A change was refused, or did not come about in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ChangeError {
    /// No such member.
    #[error("no member {id}; the members are {}", list(members))]
    Unknown {
        /// Which was named.
        id: MemberId,
        /// Those there are.
        members: Vec<MemberId>,
    },
    /// The address is not one.
    #[error("member address `{address}` is not of the form HOST:PORT")]
    Address {
        /// As given.
        address: String,
    },
    /// The id or the address belongs to a member already.
    #[error(
        "member {holder} has address {held}, {given} was given; \
         remove member {holder} first, or add the new one under another id and address"
    )]
    Taken {
        /// Whose it is.
        holder: MemberId,
        /// The address it has.
        held: String,
        /// The member and address that were to be added.
        given: String,
    },
    /// A learner cannot do what was asked.
    #[error("member {id} is a learner; promote it first")]
    Learner {
        /// Which.
        id: MemberId,
    },
    /// The member does not hold the log yet.
    #[error(
        "member {id} is not ready after {waited:?}: {}; repeat when it has caught up",
        behind(*up, *lag)
    )]
    Behind {
        /// Which.
        id: MemberId,
        /// Whether it answers the leader.
        up: bool,
        /// Log entries that it lacks, if anything is known of it.
        lag: Option<u64>,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Without it there is no cluster.
    #[error("member {id} is the last voter; a cluster without voters is none")]
    LastVoter {
        /// Which.
        id: MemberId,
    },
    /// The voters after the change could not decide anything.
    #[error(
        "of the voters after the change, {}, {needed} are needed and only {} answer; \
         start {} again, or remove those that are gone first",
        list(voters),
        count(up),
        list(down)
    )]
    Quorum {
        /// The voters after the change.
        voters: Vec<MemberId>,
        /// Those of them that answer the leader.
        up: Vec<MemberId>,
        /// Those of them that do not.
        down: Vec<MemberId>,
        /// How many are needed.
        needed: usize,
    },
    /// It may still come about; a repeat is safe.
    #[error(
        "not done within {waited:?}: waiting for {waits_for}; it may still be done, a repeat is safe"
    )]
    TimedOut {
        /// How long it was tried.
        waited: Duration,
        /// What it waited for last.
        waits_for: String,
    },
    /// The member that was asked has stopped.
    #[error("this member has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

fn list(members: &[MemberId]) -> String {
    members.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn count(members: &[MemberId]) -> String {
    match members {
        [] => "none".to_owned(),
        some => format!("{} ({})", some.len(), list(some)),
    }
}

fn behind(up: bool, lag: Option<u64>) -> String {
    match (up, lag) {
        (false, _) => "it does not answer the leader".to_owned(),
        (true, None) => "it holds nothing of the log yet".to_owned(),
        (true, Some(lag)) => format!("it lacks {lag} log entries"),
    }
}

/// Who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Group {
    pub(crate) voters: BTreeSet<MemberId>,
    /// Voters and learners.
    pub(crate) addresses: BTreeMap<MemberId, String>,
}

impl Group {
    /// The group after a change of it; none when it is so already.
    pub(crate) fn after(&self, change: &Change) -> Result<Option<Self>, ChangeError> {
        let mut group = self.clone();
        match change {
            Change::AddLearner { id, address } => {
                check_address(address)?;
                let holder =
                    self.addresses.iter().find(|(other, held)| *other == id || *held == address);
                match holder {
                    Some((holder, held)) if holder == id && held == address => return Ok(None),
                    Some((holder, held)) => {
                        return Err(ChangeError::Taken {
                            holder: *holder,
                            held: held.clone(),
                            given: format!("member {id} at {address}"),
                        });
                    }
                    None => group.addresses.insert(*id, address.clone()),
                };
            }
            Change::Promote { id } => {
                self.known(*id)?;
                group.voters.insert(*id);
            }
            Change::Remove { id, .. } => {
                group.voters.remove(id);
                group.addresses.remove(id);
                if group.voters.is_empty() {
                    return Err(ChangeError::LastVoter { id: *id });
                }
            }
            Change::TransferLeader { id } => {
                self.known(*id)?;
                if !self.voters.contains(id) {
                    return Err(ChangeError::Learner { id: *id });
                }
            }
        }
        Ok((group != *self).then_some(group))
    }

    fn known(&self, id: MemberId) -> Result<(), ChangeError> {
        if self.addresses.contains_key(&id) {
            return Ok(());
        }
        Err(ChangeError::Unknown { id, members: self.addresses.keys().copied().collect() })
    }

    /// Whether so many of its voters are up that it can decide.
    pub(crate) fn check_quorum(&self, up: &BTreeSet<MemberId>) -> Result<(), ChangeError> {
        let needed = self.voters.len() / 2 + 1;
        let (up, down): (Vec<_>, Vec<_>) = self.voters.iter().partition(|voter| up.contains(voter));
        if up.len() >= needed {
            return Ok(());
        }
        Err(ChangeError::Quorum { voters: self.voters.iter().copied().collect(), up, down, needed })
    }
}

pub(crate) fn check_address(address: &str) -> Result<(), ChangeError> {
    let well_formed = address.rsplit_once(':').is_some_and(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host_fits = match bare {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
            }
        };
        host_fits && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if well_formed { Ok(()) } else { Err(ChangeError::Address { address: address.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<MemberId> {
        ids.iter().copied().map(MemberId).collect()
    }

    /// Voters and learners, each at `hID:1`.
    fn group(voters: &[u64], learners: &[u64]) -> Group {
        let all = voters.iter().chain(learners);
        Group {
            voters: ids(voters),
            addresses: all.map(|id| (MemberId(*id), format!("h{id}:1"))).collect(),
        }
    }

    fn add(id: u64, address: &str) -> Change {
        Change::AddLearner { id: MemberId(id), address: address.to_owned() }
    }

    fn promote(id: u64) -> Change {
        Change::Promote { id: MemberId(id) }
    }

    fn remove(id: u64) -> Change {
        Change::Remove { id: MemberId(id), force: false }
    }

    #[test]
    fn changes_lead_from_group_to_group() {
        let three = group(&[1, 2, 3], &[]);
        let cases = [
            (add(4, "h4:1"), Some(group(&[1, 2, 3], &[4]))),
            (add(2, "h2:1"), None),
            (promote(3), None),
            (remove(3), Some(group(&[1, 2], &[]))),
            (remove(9), None),
            (Change::TransferLeader { id: MemberId(2) }, None),
        ];
        for (change, after) in cases {
            assert_eq!(three.after(&change), Ok(after), "{change:?}");
        }
        let with_learner = group(&[1], &[2]);
        assert_eq!(with_learner.after(&promote(2)), Ok(Some(group(&[1, 2], &[]))));
        assert_eq!(with_learner.after(&remove(2)), Ok(Some(group(&[1], &[]))));
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_name() {
        let group = group(&[1, 2], &[3]);
        let refused = |change: Change| group.after(&change).unwrap_err().to_string();
        assert!(refused(add(2, "h9:1")).contains("member 2 has address h2:1"));
        assert!(refused(add(9, "h2:1")).contains("member 2 has address h2:1"));
        assert_eq!(refused(promote(9)), "no member 9; the members are 1, 2, 3");
        assert!(refused(Change::TransferLeader { id: MemberId(3) }).contains("is a learner"));
        for address in ["", "h", ":1", "h:", "h:0", "h:65536", "http://h:1", "h h:1", "::1:1"] {
            assert!(refused(add(9, address)).contains("HOST:PORT"), "{address}");
        }
        for address in ["h.example:1", "10.0.0.1:6385", "[::1]:6385"] {
            assert!(group.after(&add(9, address)).is_ok(), "{address}");
        }
        let alone = super::tests::group(&[1], &[2]);
        assert_eq!(alone.after(&remove(1)), Err(ChangeError::LastVoter { id: MemberId(1) }));
    }

    #[test]
    fn a_group_can_decide_with_a_majority() {
        let cases: [(&[u64], &[u64], bool); 7] = [
            (&[1], &[1], true),
            (&[1, 2], &[1], false),
            (&[1, 2, 3], &[1, 3], true),
            (&[1, 2, 3], &[3, 9], false),
            (&[1, 2, 3, 4], &[1, 2], false),
            (&[1, 2, 3, 4], &[1, 2, 4], true),
            (&[1, 2, 3, 4, 5], &[1, 2, 4], true),
        ];
        for (voters, up, decides) in cases {
            let checked = group(voters, &[]).check_quorum(&ids(up));
            assert_eq!(checked.is_ok(), decides, "{voters:?} {up:?}");
        }
        let error = group(&[1, 2, 3], &[]).check_quorum(&ids(&[2])).unwrap_err().to_string();
        assert!(error.contains("1, 2, 3, 2 are needed and only 1 (2) answer"), "{error}");
        assert!(error.contains("start 1, 3 again"), "{error}");
    }
}
