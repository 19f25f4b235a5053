//! The sled tree: events, their index by subject, and the record of the newest snapshot.
//!
//! | key | value |
//! |---|---|
//! | `e` revision | a block of events from that revision on, or its first part |
//! | `p` revision part | a further part of a long block |
//! | `s` subject, a zero byte, sequence | revisions of the subject's events from that sequence on |
//! | `indexed` | the revision that the `s` keys reach |
//! | `format`, `snapshot` | version of this layout; the newest snapshot |
//!
//! Numbers are big endian, so that order of keys is order of history. Values stay under [`PART_BYTES_MAX`]: sled moves
//! larger pages into files of their own, which it does not sync.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bessemer_domain::{EventRecord, Revision, Subject, Tip};
use bytes::BufMut;
use sled::{Batch, Db, IVec};

use super::index::{Gathered, Run};
use super::recent::NewEvent;
use super::{READ_BYTES_MAX, StoredEvent, block};
use crate::StoreError;

/// Version of the layout above.
const FORMAT: u8 = 3;

const FORMAT_KEY: &[u8] = b"format";
const SNAPSHOT_KEY: &[u8] = b"snapshot";
const INDEXED_KEY: &[u8] = b"indexed";

/// How long sled's threads may hold its files after the last use.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A sled leaf holds 16 values, and is moved to a file from 128 KiB on.
const PART_BYTES_MAX: usize = 5 << 10;

/// What is on disk, or on its way there.
#[derive(Debug)]
pub(super) struct Tree {
    dir: PathBuf,
    db: Db,
    /// The part of the index that is not in `db` yet.
    gathered: Mutex<Gathered>,
}

/// Waits when it is dropped, after the tree was, until the files are free: sled's own threads let go of them a moment
/// later, and the directory may be opened again at once.
#[derive(Debug)]
pub(super) struct Released {
    locked: PathBuf,
}

impl Released {
    pub(super) fn of(dir: &Path) -> Self {
        Self { locked: dir.join("events").join("db") }
    }
}

impl Drop for Released {
    #[expect(
        clippy::disallowed_methods,
        reason = "what is dropped cannot await; there is a deadline"
    )]
    fn drop(&mut self) {
        let Ok(file) = File::open(&self.locked) else { return };
        let deadline = Instant::now() + RELEASE_LIMIT;
        while matches!(file.try_lock(), Err(TryLockError::WouldBlock)) && Instant::now() < deadline
        {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Tree {
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let db = sled::Config::new()
            .path(dir.join("events"))
            .cache_capacity(cache_bytes)
            // Synced when a snapshot is taken; until then the log can rebuild everything.
            .flush_every_ms(None)
            .open()
            .map_err(|error| io(dir, "cannot open the event store", &error))?;
        let tree = Self { dir: dir.to_owned(), db, gathered: Mutex::default() };
        tree.check_format()?;
        tree.gather()?;
        Ok(tree)
    }

    fn check_format(&self) -> Result<(), StoreError> {
        match self.get(FORMAT_KEY)? {
            Some(format) if format.as_ref() == [FORMAT] => Ok(()),
            Some(format) => Err(self.corrupt(
                "the format record",
                format!("layout {format:?} is unknown, {FORMAT} is known; upgrade this member"),
            )),
            None => {
                let inserted = self.db.insert(FORMAT_KEY, &[FORMAT]);
                inserted.map_err(|error| self.io("cannot write", &error)).map(drop)
            }
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn io(&self, action: &'static str, error: &dyn std::error::Error) -> StoreError {
        io(&self.dir, action, error)
    }

    pub(super) fn corrupt(&self, record: impl Into<String>, reason: String) -> StoreError {
        StoreError::Corrupt { path: self.dir.clone(), record: record.into(), reason }
    }

    /// Notes again what was gathered when the store was last used.
    fn gather(&self) -> Result<(), StoreError> {
        let indexed = match self.get(INDEXED_KEY)? {
            Some(value) => read_u64(&value).ok_or_else(|| self.malformed(INDEXED_KEY))?,
            None => 0,
        };
        let (mut after, tip) = (Revision(indexed), self.tip()?.revision);
        let mut gathered = self.gathered();
        while after < tip {
            let events = self.events(after, tip, usize::MAX)?;
            after = events.last().ok_or_else(|| self.malformed(&event_key(tip)))?.revision;
            for event in events {
                let record = EventRecord::decode(&event.record).map_err(|error| {
                    self.corrupt(format!("event {}", event.revision), error.to_string())
                })?;
                gathered.note(&record.subject, record.sequence, event.revision);
            }
        }
        Ok(())
    }

    /// Notes are complete or not there: a panic leaves no half one.
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest event.
    pub(super) fn tip(&self) -> Result<Tip, StoreError> {
        let Some(last) = self.db.scan_prefix(b"e").next_back() else { return Ok(Tip::default()) };
        let events = self.block(last)?;
        let last = events.last().map(|last| Tip { revision: last.revision, hash: last.hash });
        Ok(last.unwrap_or_default())
    }

    /// Adds events, all or none.
    pub(super) fn write<'a>(
        &self,
        events: impl Iterator<Item = &'a NewEvent> + Clone,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let blocks = block::pack(events.clone().map(|event| &event.stored));
        for (first, block) in blocks.map_err(|error| self.io("cannot compress", &error))? {
            let mut parts = block.chunks(PART_BYTES_MAX);
            batch.insert(&event_key(first), parts.next().unwrap_or_default());
            for (part, bytes) in (0..).zip(parts) {
                batch.insert(&part_key(first, part), bytes);
            }
        }
        self.apply(batch)?;
        let mut gathered = self.gathered();
        let mut last = Revision(0);
        for NewEvent { subject, sequence, stored } in events {
            gathered.note(subject, *sequence, stored.revision);
            last = stored.revision;
        }
        if gathered.is_full() {
            self.write_index(&gathered, last)?;
            *gathered = Gathered::default();
        }
        Ok(())
    }

    fn write_index(&self, gathered: &Gathered, upto: Revision) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (subject, Run { first_sequence, revisions }) in gathered.runs() {
            let mut value = Vec::with_capacity(revisions.len() * size_of::<u64>());
            revisions.iter().for_each(|revision| value.put_u64(revision.0));
            batch.insert(subject_key(subject, first_sequence), value);
        }
        batch.insert(INDEXED_KEY, &upto.0.to_be_bytes());
        self.apply(batch)
    }

    fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.db.apply_batch(batch).map_err(|error| self.io("cannot write", &error))
    }

    /// One event, which must be there.
    pub(super) fn event(&self, revision: Revision) -> Result<StoredEvent, StoreError> {
        let before = Revision(revision.0.saturating_sub(1));
        let events = self.events(before, revision, 1)?;
        events.into_iter().next().ok_or_else(|| self.malformed(&event_key(revision)))
    }

    /// Up to `limit` events after `after` and not after `upto`; fewer, but at least one, when they are large.
    pub(super) fn events(
        &self,
        after: Revision,
        upto: Revision,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let mut events = Vec::new();
        if after >= upto {
            return Ok(events);
        }
        let wanted = event_key(after.next());
        let block_with_first = self.db.range(event_key(Revision(0))..=wanted).next_back();
        let later_blocks = self.db.range(after_key(&wanted)..=event_key(upto).to_vec());
        let mut bytes = 0;
        for pair in block_with_first.into_iter().chain(later_blocks) {
            for event in self.block(pair)? {
                if event.revision <= after {
                    continue;
                }
                if event.revision > upto || events.len() >= limit || bytes >= READ_BYTES_MAX {
                    return Ok(events);
                }
                bytes += event.record.len();
                events.push(event);
            }
        }
        Ok(events)
    }

    /// Up to `limit` revisions of a subject's events from its `sequence` on, with their sequences.
    pub(super) fn index(
        &self,
        subject: &Subject,
        sequence: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Revision)>, StoreError> {
        // Gathered ones first: what is written meanwhile is found twice, and the second time left out.
        let gathered = self.gathered().of(subject).cloned();
        let wanted = subject_key(subject, sequence);
        let run_with_first = self.db.range(subject_key(subject, 0)..=wanted.clone()).next_back();
        let later_runs = self.db.range(after_key(&wanted)..=subject_key(subject, u64::MAX));
        let mut found: Vec<(u64, Revision)> = Vec::new();
        for pair in run_with_first.into_iter().chain(later_runs) {
            if found.len() >= limit {
                break;
            }
            found.extend(self.run(pair)?.from(sequence));
        }
        let next = found.last().map_or(sequence, |(last, _)| last + 1);
        found.extend(gathered.iter().flat_map(|run| run.from(next)));
        found.truncate(limit);
        Ok(found)
    }

    /// The record of the newest snapshot.
    pub(super) fn snapshot(&self) -> Result<Option<IVec>, StoreError> {
        self.get(SNAPSHOT_KEY)
    }

    pub(super) fn set_snapshot(&self, record: Vec<u8>) -> Result<(), StoreError> {
        let inserted = self.db.insert(SNAPSHOT_KEY, record);
        inserted.map_err(|error| self.io("cannot write", &error)).map(drop)
    }

    /// Returns when everything written so far is on the disk. sled's own flush only hands pages to the kernel.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| self.io("cannot flush", &error))?;
        let file = self.dir.join("events").join("db");
        std::fs::File::open(&file)
            .and_then(|file| file.sync_data())
            .map_err(|error| self.io("cannot sync", &error))
    }

    fn get(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.db.get(key).map_err(|error| self.io("cannot read", &error))
    }

    fn malformed(&self, key: &[u8]) -> StoreError {
        let reason = "it is absent or not of a known form".to_owned();
        self.corrupt(format!("key {}", hex::encode(key)), reason)
    }

    /// The events of a block, with its further parts.
    fn block(&self, pair: sled::Result<(IVec, IVec)>) -> Result<Vec<StoredEvent>, StoreError> {
        let (key, value) = pair.map_err(|error| self.io("cannot read", &error))?;
        let malformed = || self.malformed(&key);
        let first = Revision(key.get(1..).and_then(read_u64).ok_or_else(malformed)?);
        let mut bytes = value.to_vec();
        if value.len() == PART_BYTES_MAX {
            for part in self.db.scan_prefix(&part_key(first, 0)[..9]) {
                let (_, part) = part.map_err(|error| self.io("cannot read", &error))?;
                bytes.extend_from_slice(&part);
            }
        }
        block::unpack(first, &bytes).ok_or_else(malformed)
    }

    fn run(&self, pair: sled::Result<(IVec, IVec)>) -> Result<Run, StoreError> {
        let (key, value) = pair.map_err(|error| self.io("cannot read", &error))?;
        let first_sequence = key.last_chunk().map(|sequence| u64::from_be_bytes(*sequence));
        let revisions = value.chunks(size_of::<u64>()).map(|bytes| read_u64(bytes).map(Revision));
        let run = first_sequence.zip(revisions.collect());
        let (first_sequence, revisions) = run.ok_or_else(|| self.malformed(&key))?;
        Ok(Run { first_sequence, revisions })
    }
}

fn io(dir: &Path, action: &'static str, error: &dyn std::error::Error) -> StoreError {
    StoreError::Io { action, path: dir.to_owned(), reason: error.to_string() }
}

fn event_key(revision: Revision) -> [u8; 9] {
    let mut key = *b"e\0\0\0\0\0\0\0\0";
    key[1..].copy_from_slice(&revision.0.to_be_bytes());
    key
}

fn part_key(revision: Revision, part: u32) -> [u8; 13] {
    let mut key = *b"p\0\0\0\0\0\0\0\0\0\0\0\0";
    key[1..9].copy_from_slice(&revision.0.to_be_bytes());
    key[9..].copy_from_slice(&part.to_be_bytes());
    key
}

/// The least key after `key`.
fn after_key(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Names hold no zero byte, so no subject's keys lie among another's.
fn subject_key(subject: &Subject, sequence: u64) -> Vec<u8> {
    let mut key = format!("s{subject}\0").into_bytes();
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

fn read_u64(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}
