//! Backups: all of history and the state it leads to, in one file that explains and checks itself.
//!
//! A backup is text, so that `head`, `jq` and `sha256sum` can read it too. Line by line:
//!
//! 1. the [`Header`], JSON: whose history it is, and where it ends;
//! 2. one line for each event, from revision 1: its hash in hexadecimal, a space, its record as it is stored;
//! 3. the state at the last event, JSON;
//! 4. `{"sha256":"…"}`: the digest of all lines before this one, their ends included.

mod read;
mod restore;
mod write;

use bessemer_domain::ids::{ClusterId, RestorationId};
use bessemer_domain::{EventHash, Revision, Timestamp};
use serde::{Deserialize, Serialize};

pub use self::read::{Damage, DamagedBackup, verify};
pub use self::restore::{RestoreError, Restored, SoleMember, restore};
pub(crate) use self::write::write;
use crate::{MemberAddress, MemberId};

/// What the first line calls itself.
const FORMAT: &str = "bessemer-backup";

/// Version of the form above.
const VERSION: u32 = 1;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    format: String,
    version: u32,
    /// Whose history it is.
    pub cluster_id: ClusterId,
    /// Which restoration the history goes through, if any.
    pub restoration: Option<RestorationId>,
    /// The newest event in it.
    pub revision: Revision,
    /// Hash of that event.
    #[serde(with = "hash")]
    pub hash: EventHash,
    /// When the newest command in it was taken; what came later is not in it.
    pub at: Timestamp,
    /// The member that made it.
    pub member_id: MemberId,
    /// Who was in the group.
    pub members: Vec<(MemberId, MemberAddress)>,
    /// The version of the software that made it.
    pub software: String,
}

/// The last line.
#[derive(Debug, Serialize, Deserialize)]
struct Trailer {
    sha256: String,
}

/// A hash as hexadecimal text.
mod hash {
    use bessemer_domain::EventHash;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(hash: &EventHash, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(hash)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<EventHash, D::Error> {
        let text = String::deserialize(from)?;
        super::parse_hash(text.as_bytes())
            .ok_or_else(|| serde::de::Error::custom("a hash must have 64 hexadecimal digits"))
    }
}

fn parse_hash(text: &[u8]) -> Option<EventHash> {
    let mut hash = EventHash::default();
    hex::decode_to_slice(text, &mut hash.0).ok().map(|()| hash)
}
