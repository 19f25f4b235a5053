//! Makes a data directory from a backup: that of the only member of the cluster, which others then join.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bessemer_domain::ids::RestorationId;
use bessemer_domain::{Revision, Timestamp};
use openraft::Membership;
use uuid::Uuid;

use super::Header;
use super::read::{DamagedBackup, read, verify};
use crate::change::check_address;
use crate::raft::{LogId, SnapshotMeta, StoredMembership};
use crate::standing::{Seat, history_of};
use crate::store::Store;
use crate::{ChangeError, MemberAddress, MemberId, OpenError, StoreError};

/// Where the snapshot stands in the new log. No other log has an entry there: terms begin with 1, and the entry that
/// forms a cluster has index 0.
const LOG_TERM: u64 = 0;
const LOG_INDEX: u64 = 1;

/// Memory for the event store while it is filled.
const CACHE_BYTES: u64 = 64 << 20;

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup says of itself.
    pub backup: Header,
    /// Identity of this restoration: histories that went different ways since the backup have different ones.
    pub restoration: RestorationId,
    /// The event that says so, and the newest one now.
    pub revision: Revision,
}

/// Nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be used.
    #[error(transparent)]
    Damaged(#[from] DamagedBackup),
    /// The directory holds something.
    #[error("{} is not empty ({found} is in it); give a new directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// The member's address is not one.
    #[error(transparent)]
    Address(#[from] ChangeError),
    /// The disk refused.
    #[error("cannot write {}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The event store refused.
    #[error("cannot fill the event store")]
    Store(#[from] StoreError),
    /// The member's record could not be written.
    #[error("cannot open the new directory")]
    Open(#[from] OpenError),
}

/// The only member of a cluster that goes on with a backup's history.
#[derive(Debug, Clone, Copy)]
pub struct SoleMember<'a> {
    /// Its id.
    pub id: MemberId,
    /// `host:port`, as members that join will reach it.
    pub address: &'a str,
}

/// Makes `dir` the data directory of a cluster's only member, with the backup's history. The directory appears complete
/// or not at all. Blocks for as long as that takes. `actor` is who asked for it.
///
/// # Errors
/// When the backup is damaged, the directory is not empty, or the disk refuses.
pub fn restore(
    backup: &Path,
    dir: &Path,
    member: SoleMember<'_>,
    actor: &str,
) -> Result<Restored, RestoreError> {
    check_address(member.address)?;
    expect_empty(dir)?;
    // All of it, before anything is written.
    verify(backup)?;
    let building = beside(dir);
    let io_at = |path: &Path| {
        let path = path.to_owned();
        move |source| RestoreError::Io { path, source }
    };
    if building.exists() {
        // A restoration before this one was cut off.
        fs::remove_dir_all(&building).map_err(io_at(&building))?;
    }
    fs::create_dir_all(&building).map_err(io_at(&building))?;
    let restored = fill(backup, &building, member, actor)?;
    fs::rename(&building, dir)
        .and_then(|()| match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => File::open(parent)?.sync_all(),
            None => File::open(".")?.sync_all(),
        })
        .map_err(io_at(dir))?;
    Ok(restored)
}

fn expect_empty(dir: &Path) -> Result<(), RestoreError> {
    let io = |source| RestoreError::Io { path: dir.to_owned(), source };
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    match entries.next() {
        None => Ok(()),
        Some(entry) => {
            let found = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
            Err(RestoreError::NotEmpty { path: dir.to_owned(), found })
        }
    }
}

/// `DIR.restoring`, on the same file system.
fn beside(dir: &Path) -> PathBuf {
    let mut name = dir.file_name().map_or_else(|| OsString::from("data"), OsString::from);
    name.push(".restoring");
    dir.with_file_name(name)
}

fn fill(
    backup: &Path,
    dir: &Path,
    member: SoleMember<'_>,
    actor: &str,
) -> Result<Restored, RestoreError> {
    let store = Store::open(dir, CACHE_BYTES)?;
    let (header, mut state) =
        read(backup, |events| store.add_received(&events).map_err(RestoreError::from))?;
    let restoration = RestorationId::new(Uuid::new_v4());
    let event = state.mark_restored(restoration, now(), actor);
    store.add(vec![event])?;
    let log_id = LogId::new(LOG_TERM.into(), LOG_INDEX);
    let address = MemberAddress { address: member.address.to_owned() };
    let membership = Membership::from(BTreeMap::from([(member.id, address)]));
    let last_membership = StoredMembership::new(Some(log_id), membership);
    // Its sync covers the events as well.
    store.write_snapshot(&state, SnapshotMeta { last_log_id: Some(log_id), last_membership })?;
    drop(store);
    let seat = Seat::open(dir, member.id)?;
    let history = history_of(&state).unwrap_or_default();
    seat.belongs_to(&history)
        .map_err(|source| RestoreError::Io { path: dir.to_owned(), source })?;
    Ok(Restored { backup: header, restoration, revision: state.tip().revision })
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
