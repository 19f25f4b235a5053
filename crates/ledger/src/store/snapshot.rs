//! Snapshots: the state as a file, and its record in the store.
//!
//! A snapshot counts from the moment its record is on disk; the file is complete and synced before that. The log before
//! it may be dropped then, because the same sync put every event up to it on disk.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use bessemer_domain::{State, Tip};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Store;
use crate::StoreError;
use crate::raft::SnapshotMeta;

/// Version of the record and of the file.
const FORMAT: u8 = 1;

/// What is written at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// All snapshot files begin so.
const FILE_PREFIX: &str = "snapshot";

/// What the store knows of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    format: u8,
    /// Name in the data directory.
    file: String,
    /// What the log has given up to it.
    pub(crate) meta: SnapshotMeta,
    /// The newest event up to it.
    pub(crate) tip: Tip,
    /// Length of the file.
    pub(crate) size_bytes: u64,
    /// SHA-256 of the file, hexadecimal.
    sha256: String,
}

/// A complete snapshot on disk.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    pub(crate) record: SnapshotRecord,
    path: PathBuf,
}

impl SnapshotFile {
    /// Opens it for sending. It stays readable when a newer one takes its place.
    pub(crate) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

impl Store {
    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        self.tree.dir()
    }

    /// The newest snapshot.
    pub(crate) fn snapshot(&self) -> Result<Option<SnapshotFile>, StoreError> {
        let Some(bytes) = self.tree.snapshot()? else { return Ok(None) };
        let refuse = |reason: String| self.tree.corrupt("the snapshot record", reason);
        let record: SnapshotRecord =
            serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        if record.format != FORMAT {
            return Err(refuse(format!(
                "format {} is unknown, {FORMAT} is known; upgrade this member",
                record.format
            )));
        }
        let path = self.tree.dir().join(&record.file);
        Ok(Some(SnapshotFile { record, path }))
    }

    /// Reads a snapshot's state and checks that it is what was written.
    pub(crate) fn read_snapshot(&self, snapshot: &SnapshotFile) -> Result<State, StoreError> {
        let refuse = |reason: String| {
            self.tree.corrupt(format!("snapshot {}", snapshot.path.display()), reason)
        };
        let bytes = fs::read(&snapshot.path).map_err(|error| refuse(error.to_string()))?;
        if hex::encode(Sha256::digest(&bytes)) != snapshot.record.sha256 {
            return Err(refuse("its digest is not the recorded one".to_owned()));
        }
        let state: State =
            serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
        if state.tip() != snapshot.record.tip {
            return Err(refuse("it ends at another event than recorded".to_owned()));
        }
        Ok(state)
    }

    /// Writes a state as the newest snapshot. Takes long; other work goes on meanwhile.
    pub(crate) fn write_snapshot(
        &self,
        state: &State,
        meta: SnapshotMeta,
    ) -> Result<SnapshotFile, StoreError> {
        let path = self.temporary("building");
        let write = || -> io::Result<(u64, String)> {
            let digesting = Digesting::new(File::create(&path)?);
            let mut writer = BufWriter::with_capacity(BUFFER_BYTES, digesting);
            serde_json::to_writer(&mut writer, state)?;
            let digesting = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
            digesting.file.sync_all()?;
            Ok((digesting.bytes, hex::encode(digesting.sha256.finalize())))
        };
        let (size_bytes, sha256) =
            write().map_err(|error| self.tree.io("cannot write a snapshot", &error))?;
        let file = file_name(&meta);
        let record =
            SnapshotRecord { format: FORMAT, file, meta, tip: state.tip(), size_bytes, sha256 };
        self.adopt(&path, record)
    }

    /// Makes a complete file in the data directory the newest snapshot, and drops the one before. If a newer one is
    /// there already, that one stays and is returned.
    fn adopt(&self, from: &Path, record: SnapshotRecord) -> Result<SnapshotFile, StoreError> {
        let tree = &self.tree;
        let _adopting = self.adopting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.snapshot()?;
        if let Some(newer) = before
            .as_ref()
            .filter(|before| before.record.meta.last_log_id > record.meta.last_log_id)
        {
            fs::remove_file(from)
                .map_err(|error| tree.io("cannot remove a snapshot that came late", &error))?;
            return Ok(newer.clone());
        }
        let path = self.tree.dir().join(&record.file);
        fs::rename(from, &path)
            .and_then(|()| File::open(self.tree.dir())?.sync_all())
            .map_err(|error| tree.io("cannot name a snapshot", &error))?;
        let bytes = serde_json::to_vec(&record)
            .map_err(|error| tree.io("cannot encode a snapshot's record", &error))?;
        self.recent.all_written()?;
        tree.set_snapshot(bytes)?;
        tree.sync()?;
        if let Some(before) = before {
            fs::remove_file(&before.path)
                .map_err(|error| tree.io("cannot remove the older snapshot", &error))?;
        }
        Ok(SnapshotFile { record, path })
    }

    /// Drops what a crash left of snapshots that were never recorded.
    pub(super) fn remove_unrecorded_snapshots(&self) -> Result<(), StoreError> {
        let recorded = self.snapshot()?.map(|snapshot| snapshot.path);
        let remove = || -> io::Result<()> {
            for entry in fs::read_dir(self.tree.dir())? {
                let entry = entry?;
                let ours = entry.file_name().to_string_lossy().starts_with(FILE_PREFIX);
                if ours && Some(entry.path()) != recorded {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        remove().map_err(|error| self.tree.io("cannot remove an unrecorded snapshot", &error))
    }

    fn temporary(&self, doing: &str) -> PathBuf {
        self.tree.dir().join(format!("{FILE_PREFIX}.{doing}"))
    }

    /// Starts to take a snapshot from another member. One at a time.
    pub(crate) fn receive_snapshot(
        &self,
        record: SnapshotRecord,
    ) -> Result<IncomingSnapshot, StoreError> {
        let path = self.temporary("receiving");
        let file =
            File::create(&path).map_err(|error| self.tree.io("cannot write a snapshot", &error))?;
        Ok(IncomingSnapshot { record, path, file, received_bytes: 0 })
    }

    /// Makes a received snapshot this member's newest.
    pub(crate) fn install_snapshot(
        &self,
        snapshot: &SnapshotFile,
        meta: &SnapshotMeta,
    ) -> Result<(), StoreError> {
        let mut record = snapshot.record.clone();
        record.meta = meta.clone();
        record.file = file_name(meta);
        self.adopt(&snapshot.path, record).map(drop)
    }
}

/// Never a name that was used before: the recorded file must stay as it is until the next record is on disk.
fn file_name(meta: &SnapshotMeta) -> String {
    let index = meta.last_log_id.map_or(0, |id| id.index);
    format!("{FILE_PREFIX}-{index}-{}.json", Uuid::new_v4().simple())
}

/// A snapshot that is being received.
#[derive(Debug)]
pub(crate) struct IncomingSnapshot {
    record: SnapshotRecord,
    path: PathBuf,
    file: File,
    received_bytes: u64,
}

impl IncomingSnapshot {
    /// Appends a slice; refuses more than was announced.
    pub(crate) fn write(&mut self, slice: &[u8]) -> io::Result<()> {
        self.received_bytes += slice.len() as u64;
        if self.received_bytes > self.record.size_bytes {
            let reason = format!("more than the announced {} bytes came", self.record.size_bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        self.file.write_all(slice)
    }

    /// The complete file. Its digest is checked where it is read.
    pub(crate) fn finish(self) -> io::Result<SnapshotFile> {
        if self.received_bytes != self.record.size_bytes {
            let reason = format!(
                "{} of the announced {} bytes came",
                self.received_bytes, self.record.size_bytes
            );
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        self.file.sync_all()?;
        Ok(SnapshotFile { record: self.record, path: self.path })
    }
}

/// Digests and counts what is written.
struct Digesting {
    file: File,
    sha256: Sha256,
    bytes: u64,
}

impl Digesting {
    fn new(file: File) -> Self {
        Self { file, sha256: Sha256::new(), bytes: 0 }
    }
}

impl Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
