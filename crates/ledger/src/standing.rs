//! Whether a member may take part, and the file in its data directory that remembers it.
//!
//! A member that lost its disk has forgotten what it voted for and acknowledged: were it to come back under its old id,
//! a majority could be made that knows nothing of committed entries. So a member writes its id down before it takes part
//! for the first time, and one that has no such file asks the others first (`form`).
//!
//! The file also names the history that the member belongs to. After a restart its state knows it only once the log has been
//! applied, and by then it may have voted in a cluster that was restored meanwhile.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bessemer_domain::State;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{MemberId, OpenError};

/// Version of the file.
const FORMAT: u8 = 1;

/// Its name in the data directory.
const FILE: &str = "member";

/// Whether this member may take part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its directory is new; what it waits for.
    Waits(String),
    /// It takes part.
    Admitted,
    /// It must not take part, and why.
    Refused(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    format: u8,
    member_id: MemberId,
    /// None until the cluster has a name.
    history: Option<String>,
}

/// A member's standing, on disk and in memory. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    dir: Arc<Path>,
    member_id: MemberId,
    standing: Arc<watch::Sender<Standing>>,
    history: Arc<watch::Sender<Option<String>>>,
    /// Held while the file is written.
    writing: Arc<Mutex<()>>,
}

/// The cluster, and the restoration that its history went through last: what tells histories apart.
pub(crate) fn history_of(state: &State) -> Option<String> {
    let cluster_id = state.cluster_id()?;
    Some(match state.restored() {
        Some(restored) => format!("{cluster_id}/{}", restored.id),
        None => cluster_id.to_string(),
    })
}

impl Seat {
    /// The seat of `member_id` in its data directory, which must exist.
    pub(crate) fn open(dir: &Path, member_id: MemberId) -> Result<Self, OpenError> {
        let recorded = read(&dir.join(FILE))
            .map_err(|source| OpenError::DataDir { path: dir.to_owned(), source })?;
        if let Some(recorded) = &recorded
            && recorded.member_id != member_id
        {
            return Err(OpenError::Config {
                reason: format!(
                    "member_id is {member_id}, but {} is the directory of member {}",
                    dir.display(),
                    recorded.member_id
                ),
            });
        }
        let standing = match recorded {
            Some(_) => Standing::Admitted,
            None => Standing::Waits("the other members' answer".to_owned()),
        };
        Ok(Self {
            dir: dir.into(),
            member_id,
            standing: Arc::new(watch::Sender::new(standing)),
            history: Arc::new(watch::Sender::new(recorded.and_then(|recorded| recorded.history))),
            writing: Arc::default(),
        })
    }

    /// The history that the member belongs to; none while it knows none.
    pub(crate) fn history(&self) -> watch::Receiver<Option<String>> {
        self.history.subscribe()
    }

    /// Writes down which history the member belongs to.
    pub(crate) fn belongs_to(&self, history: &str) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.history.borrow().as_deref() == Some(history) {
            return Ok(());
        }
        self.write(Some(history.to_owned()))?;
        self.history.send_replace(Some(history.to_owned()));
        Ok(())
    }

    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Lets the member take part, for good: the file is on disk when this returns.
    pub(crate) fn admit(&self) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.write(self.history.borrow().clone())?;
        self.standing.send_if_modified(|standing| match standing {
            Standing::Waits(_) => {
                *standing = Standing::Admitted;
                true
            }
            Standing::Admitted | Standing::Refused(_) => false,
        });
        Ok(())
    }

    /// Says what is waited for.
    pub(crate) fn waits_for(&self, what: String) {
        self.standing.send_if_modified(|standing| match standing {
            Standing::Waits(before) if *before != what => {
                tracing::warn!(member.id = %self.member_id, "not taking part yet: waiting for {what}");
                *before = what;
                true
            }
            Standing::Waits(_) | Standing::Admitted | Standing::Refused(_) => false,
        });
    }

    fn write(&self, history: Option<String>) -> io::Result<()> {
        let identity = Identity { format: FORMAT, member_id: self.member_id, history };
        let temporary: PathBuf = self.dir.join(format!("{FILE}.new"));
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&identity)?)?;
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join(FILE))?;
        File::open(&self.dir)?.sync_all()
    }

    /// Ends taking part.
    pub(crate) fn refuse(&self, reason: String) {
        self.standing.send_replace(Standing::Refused(reason));
    }
}

fn read(path: &Path) -> io::Result<Option<Identity>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let identity: Identity = serde_json::from_slice(&bytes).map_err(io::Error::from)?;
    if identity.format != FORMAT {
        return Err(io::Error::other(format!(
            "format {} of {FILE} is unknown, {FORMAT} is known; upgrade this member",
            identity.format
        )));
    }
    Ok(Some(identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(seat: &Seat) -> Standing {
        seat.standing().borrow().clone()
    }

    #[test]
    fn a_member_that_was_admitted_is_admitted_again() {
        let dir = tempfile::tempdir().unwrap();
        let seat = Seat::open(dir.path(), MemberId(3)).unwrap();
        assert!(matches!(standing(&seat), Standing::Waits(_)));
        seat.admit().unwrap();
        assert_eq!(standing(&seat), Standing::Admitted);
        let seat = Seat::open(dir.path(), MemberId(3)).unwrap();
        assert_eq!(standing(&seat), Standing::Admitted);
    }

    #[test]
    fn a_member_knows_its_history_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let seat = Seat::open(dir.path(), MemberId(3)).unwrap();
        seat.admit().unwrap();
        assert_eq!(*seat.history().borrow(), None);
        seat.belongs_to("cluster").unwrap();
        seat.admit().unwrap();
        let seat = Seat::open(dir.path(), MemberId(3)).unwrap();
        assert_eq!(seat.history().borrow().as_deref(), Some("cluster"));
    }

    #[test]
    fn a_directory_belongs_to_one_member() {
        let dir = tempfile::tempdir().unwrap();
        Seat::open(dir.path(), MemberId(3)).unwrap().admit().unwrap();
        let error = Seat::open(dir.path(), MemberId(4)).unwrap_err().to_string();
        assert!(error.contains("is the directory of member 3"), "{error}");
    }

    #[test]
    fn who_was_refused_stays_refused() {
        let dir = tempfile::tempdir().unwrap();
        let seat = Seat::open(dir.path(), MemberId(3)).unwrap();
        seat.refuse("removed".to_owned());
        seat.admit().unwrap();
        assert_eq!(standing(&seat), Standing::Refused("removed".to_owned()));
    }
}
