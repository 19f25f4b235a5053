//! Reads a backup and checks all of it: the digest, every event's place in the hash chain, and the state's.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use bessemer_domain::{ChainVerifier, Revision, State, Tip};
use sha2::{Digest, Sha256};

use super::{FORMAT, Header, Trailer, VERSION, parse_hash};
use crate::store::StoredEvent;

/// Read at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Events that are handed on at a time.
const EVENTS_AT_ONCE_MAX: usize = 1024;

/// Hexadecimal digits of a hash.
const HASH_DIGITS: usize = 64;

/// A backup that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {damage}", path.display())]
pub struct DamagedBackup {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub damage: Damage,
}

/// What can be wrong with a backup.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is something else, or of a newer form.
    #[error("line 1 is not the header of a backup: {reason}")]
    Header {
        /// Why.
        reason: String,
    },
    /// It was cut off.
    #[error("it ends before {missing}; it was not written to its end, or cut off")]
    Short {
        /// What does not come.
        missing: String,
    },
    /// An event is not as it was stored.
    #[error("event {revision} (line {line}) is damaged: {reason}")]
    Event {
        /// Which.
        revision: Revision,
        /// Where it stands.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The state does not belong to the events.
    #[error("the state (line {line}) is damaged: {reason}")]
    State {
        /// Where it stands.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The whole is not what was written.
    #[error("its SHA-256 is {found}, and {expected} was written into it")]
    Digest {
        /// What the last line says.
        expected: String,
        /// What the lines before it give.
        found: String,
    },
    /// Something follows the end.
    #[error("something follows its last line")]
    Trailing,
}

/// Reads a backup from beginning to end and checks everything. Blocks for as long as that takes.
///
/// # Errors
/// What is damaged, by name.
pub fn verify(path: &Path) -> Result<Header, DamagedBackup> {
    read(path, |_| Ok::<_, DamagedBackup>(())).map(|(header, _)| header)
}

/// The same, handing on the events, in order. What was handed on is only known to be whole when this returns.
pub(super) fn read<E: From<DamagedBackup>>(
    path: &Path,
    mut take: impl FnMut(Vec<StoredEvent>) -> Result<(), E>,
) -> Result<(Header, State), E> {
    let damaged = |damage| DamagedBackup { path: path.to_owned(), damage };
    let file = File::open(path).map_err(|error| damaged(error.into()))?;
    let mut lines = Lines::new(BufReader::with_capacity(BUFFER_BYTES, file));
    let header = lines.header().map_err(damaged)?;
    let mut chain = ChainVerifier::default();
    while chain.tip().revision < header.revision {
        let mut events = Vec::new();
        while chain.tip().revision < header.revision && events.len() < EVENTS_AT_ONCE_MAX {
            events.push(lines.event(&mut chain).map_err(damaged)?);
        }
        take(events)?;
    }
    let tip = Tip { revision: header.revision, hash: header.hash };
    if chain.tip() != tip {
        let reason = format!("its hash is not {}, as the header says", header.hash);
        let (revision, line) = (header.revision, lines.line);
        return Err(damaged(Damage::Event { revision, line, reason }).into());
    }
    let state = lines.state(tip).map_err(damaged)?;
    lines.end().map_err(damaged)?;
    Ok((header, state))
}

/// The lines of a backup, digested as they are read.
struct Lines<R> {
    from: R,
    sha256: Sha256,
    /// Number of the line that was read last, from 1.
    line: u64,
}

impl<R: BufRead> Lines<R> {
    fn new(from: R) -> Self {
        Self { from, sha256: Sha256::new(), line: 0 }
    }

    /// The next line without its end.
    fn next(&mut self, missing: impl FnOnce() -> String) -> Result<Vec<u8>, Damage> {
        let mut line = Vec::new();
        self.from.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(Damage::Short { missing: missing() });
        }
        self.line += 1;
        Ok(line)
    }

    fn digest(&mut self, line: &[u8]) {
        self.sha256.update(line);
        self.sha256.update(b"\n");
    }

    fn header(&mut self) -> Result<Header, Damage> {
        let refuse = |reason: String| Damage::Header { reason };
        let line = self.next(|| "the end of its first line".to_owned())?;
        self.digest(&line);
        let header: Header =
            serde_json::from_slice(&line).map_err(|error| refuse(error.to_string()))?;
        if header.format != FORMAT {
            return Err(refuse(format!("its format is `{}`, not `{FORMAT}`", header.format)));
        }
        if header.version != VERSION {
            let version = header.version;
            return Err(refuse(format!(
                "version {version} is unknown, {VERSION} is known; use the version of Bessemer that wrote it"
            )));
        }
        Ok(header)
    }

    fn event(&mut self, chain: &mut ChainVerifier) -> Result<StoredEvent, Damage> {
        let revision = chain.tip().revision.next();
        let line = self.next(|| format!("event {revision}"))?;
        self.digest(&line);
        let refuse = |reason: String| Damage::Event { revision, line: self.line, reason };
        let (hash, record) = line
            .split_at_checked(HASH_DIGITS)
            .and_then(|(hash, rest)| Some((parse_hash(hash)?, rest.strip_prefix(b" ")?)))
            .ok_or_else(|| refuse("it is not a hash and a record".to_owned()))?;
        let record = bytes::Bytes::copy_from_slice(record);
        chain.take(&record, hash).map_err(|error| refuse(error.to_string()))?;
        Ok(StoredEvent { revision, record, hash })
    }

    fn state(&mut self, tip: Tip) -> Result<State, Damage> {
        let line = self.next(|| "the state".to_owned())?;
        self.digest(&line);
        let refuse = |reason: String| Damage::State { line: self.line, reason };
        let state: State =
            serde_json::from_slice(&line).map_err(|error| refuse(error.to_string()))?;
        if state.tip() != tip {
            return Err(refuse("it is the state at another event".to_owned()));
        }
        Ok(state)
    }

    fn end(&mut self) -> Result<(), Damage> {
        let missing = || "its digest".to_owned();
        let line = self.next(missing)?;
        let trailer: Trailer =
            serde_json::from_slice(&line).map_err(|_| Damage::Short { missing: missing() })?;
        let found = hex::encode(self.sha256.clone().finalize());
        if trailer.sha256 != found {
            return Err(Damage::Digest { expected: trailer.sha256, found });
        }
        if self.from.fill_buf()?.is_empty() { Ok(()) } else { Err(Damage::Trailing) }
    }
}
