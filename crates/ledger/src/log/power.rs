//! The log on a disk whose power fails, at each of its operations in turn. What was acknowledged must be there afterwards;
//! what was not may be there whole, or not at all.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::disk::{Disk, DiskFile};
use super::wal::{Sizes, Wal, Writer};
use crate::MemberId;
use crate::entry::Batch;
use crate::raft::{Entry, EntryPayload, LogId, Vote};

/// The unit that a disk writes whole or not at all.
const SECTOR_BYTES: usize = 512;

/// Small, so that a few operations fill several files.
const SIZES: Sizes = Sizes { segment_bytes: 4096, reserve_bytes: 1024, cache_bytes: 2048 };

/// A disk in memory. What was written and not synced is lost with the power, sector by sector at random.
#[derive(Debug, Clone, Default)]
struct FailingDisk(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    files: BTreeMap<String, FileContent>,
    /// What was removed since the directory was synced.
    removed: BTreeMap<String, FileContent>,
    operations: u64,
    /// The operation at which the power fails.
    fails_at: Option<u64>,
    /// What fails is not the power: there is no room for writes of more than this.
    room_bytes: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct FileContent {
    /// What a reader sees.
    seen: Vec<u8>,
    durable: Vec<u8>,
    is_name_durable: bool,
}

impl Content {
    fn operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.fails_at {
            Some(at) if self.operations > at => Err(io::Error::other("the power is off")),
            _ => Ok(()),
        }
    }
}

impl FailingDisk {
    fn lock(&self) -> std::sync::MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    /// The disk as it is found when the power is back.
    fn after_power_cut(&self, random: &mut fastrand::Rng) -> Self {
        let content = self.lock();
        let mut files = BTreeMap::new();
        let removed = content.removed.iter().filter(|_| random.bool()).collect::<Vec<_>>();
        for (name, file) in content.files.iter().chain(removed) {
            if !file.is_name_durable && random.bool() {
                continue;
            }
            let mut found = file.durable.clone();
            // The new length may be there and its content not.
            if file.seen.len() > found.len() && random.bool() {
                found.resize(file.seen.len(), 0);
            }
            for (at, sector) in file.seen.chunks(SECTOR_BYTES).enumerate() {
                let start = at * SECTOR_BYTES;
                if start + sector.len() <= found.len() && random.bool() {
                    found[start..start + sector.len()].copy_from_slice(sector);
                }
            }
            let durable =
                FileContent { seen: found.clone(), durable: found, is_name_durable: true };
            files.insert(name.clone(), durable);
        }
        Self(Arc::new(Mutex::new(Content { files, ..Content::default() })))
    }

    /// The disk as the next process finds it when only the process died: all that was written is seen.
    fn after_kill(&self) -> Self {
        let Content { files, removed, .. } = &*self.lock();
        let (files, removed) = (files.clone(), removed.clone());
        Self(Arc::new(Mutex::new(Content { files, removed, ..Content::default() })))
    }
}

impl Disk for FailingDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().files.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut content = self.lock();
        content.operation()?;
        let before = content.files.insert(name.to_owned(), FileContent::default());
        assert!(before.is_none(), "{name} is made twice");
        Ok(Box::new(FailingFile { disk: self.clone(), name: name.to_owned() }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        assert!(self.lock().files.contains_key(name), "{name}");
        Ok(Box::new(FailingFile { disk: self.clone(), name: name.to_owned() }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut content = self.lock();
        content.operation()?;
        let file = content.files.remove(name).unwrap();
        content.removed.insert(name.to_owned(), file);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut content = self.lock();
        content.operation()?;
        content.removed.clear();
        content.files.values_mut().for_each(|file| file.is_name_durable = true);
        Ok(())
    }
}

#[derive(Debug)]
struct FailingFile {
    disk: FailingDisk,
    name: String,
}

impl FailingFile {
    fn with<T>(&self, work: impl FnOnce(&mut FileContent) -> T) -> T {
        work(self.disk.lock().files.get_mut(&self.name).unwrap())
    }
}

impl DiskFile for FailingFile {
    fn length_bytes(&self) -> io::Result<u64> {
        Ok(self.with(|file| file.seen.len() as u64))
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.with(|file| {
            let found = file.seen.get(offset as usize..).and_then(|rest| rest.get(..buffer.len()));
            buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let outcome = self.disk.lock().operation();
        if self.disk.lock().room_bytes.is_some_and(|room| offset + bytes.len() as u64 > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // A write that the power cuts may have begun.
        self.with(|file| {
            let end = offset as usize + bytes.len();
            file.seen.resize(file.seen.len().max(end), 0);
            file.seen[offset as usize..end].copy_from_slice(bytes);
        });
        outcome
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().operation()?;
        self.with(|file| file.durable = file.seen.clone());
        Ok(())
    }
}

/// What the log was asked for, and what of it was acknowledged.
#[derive(Default)]
struct Expected {
    /// All that may be there: the entries that were asked for, by index.
    asked: BTreeMap<u64, (LogId, Vec<u8>)>,
    /// The last one that must be there.
    durable_last: u64,
    asked_vote: u64,
    durable_vote: u64,
    asked_purge: u64,
    durable_purge: u64,
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(term.into(), index)
}

fn entry(term: u64, index: u64, body: &[u8]) -> Entry {
    let payload = EntryPayload::Normal(Batch::from_bytes(body.to_vec().into()));
    Entry { log_id: id(term, index), payload }
}

/// Asks a log for this and that until it fails or has had enough; answers what is to be expected of it.
fn use_log(wal: &Wal, writer: &mut Writer, expected: &mut Expected, seed: u64) -> io::Result<()> {
    let mut random = fastrand::Rng::with_seed(seed);
    let ok = Arc::new(Mutex::new(true));
    let told = || {
        let ok = Arc::clone(&ok);
        Box::new(move |outcome: io::Result<()>| *ok.lock().unwrap() &= outcome.is_ok())
    };
    let mut term = expected.asked_vote;
    for _ in 0..40 {
        let last = expected.asked.keys().next_back().copied().unwrap_or(expected.asked_purge);
        match random.u32(0..10) {
            0 => {
                term += 1;
                expected.asked_vote = term;
                wal.vote(Vote::new(term, MemberId(1)), told())?;
            }
            1 if last > expected.asked_purge + 1 => {
                let from = random.u64(expected.asked_purge + 1..=last);
                expected.asked.split_off(&from);
                // Until that is durable, what is there of them is what was there before.
                expected.durable_last = expected.durable_last.min(from - 1);
                wal.truncate(from)?;
            }
            2 if last > expected.asked_purge + 3 => {
                let upto = random.u64(expected.asked_purge + 1..last);
                let found = expected.asked.get(&upto).unwrap().0;
                expected.asked_purge = upto;
                wal.purge(found)?;
            }
            3 => wal.commit(id(term, last.max(1)))?,
            _ => {
                let count = random.u64(1..5);
                let entries: Vec<_> = (last + 1..=last + count)
                    .map(|index| {
                        let body: Vec<_> =
                            (0..random.usize(0..700)).map(|_| random.u8(..)).collect();
                        expected.asked.insert(index, (id(term, index), body.clone()));
                        entry(term, index, &body)
                    })
                    .collect();
                wal.append(entries.into_iter(), told())?;
            }
        }
        if random.bool() {
            writer.flush();
            if !*ok.lock().unwrap() {
                return Err(io::Error::other("not acknowledged"));
            }
            // Whoever asks for anything after a failure hears of it.
            wal.commit(id(0, 0))?;
            expected.durable_last = expected.asked.keys().next_back().copied().unwrap_or(0);
            expected.durable_vote = expected.asked_vote;
            expected.durable_purge = expected.asked_purge;
        }
    }
    Ok(())
}

/// What a log holds is what was acknowledged, and of the rest a beginning. It is what is expected from now on.
fn check(wal: &Wal, expected: &mut Expected, context: &str) {
    let vote = wal.look(|index| index.vote.map_or(0, |vote| vote.leader_id.term));
    assert!(
        (expected.durable_vote..=expected.asked_vote).contains(&vote),
        "{context}: vote {vote}"
    );
    let purged = wal.look(|index| index.purged.map_or(0, |id| id.index));
    assert!(
        (expected.durable_purge..=expected.asked_purge).contains(&purged),
        "{context}: purged {purged}, {} was durable",
        expected.durable_purge
    );
    let entries = wal.read(0, u64::MAX, usize::MAX).unwrap();
    for (place, found) in entries.iter().enumerate() {
        assert_eq!(found.log_id.index, purged + 1 + place as u64, "{context}");
        if found.log_id.index > expected.durable_last {
            continue;
        }
        let (id, body) = &expected.asked[&found.log_id.index];
        let EntryPayload::Normal(batch) = &found.payload else { panic!("{context}") };
        assert!(found.log_id == *id && batch.as_bytes() == body.as_slice(), "{context}: {id:?}");
    }
    let last = entries.last().map_or(purged, |entry| entry.log_id.index);
    let durable = expected.durable_last;
    assert!(last >= durable, "{context}: ends at {last}, {durable} was durable");
    let found = entries.into_iter().map(|entry| {
        let EntryPayload::Normal(batch) = &entry.payload else { panic!("{context}") };
        (entry.log_id.index, (entry.log_id, batch.as_bytes().to_vec()))
    });
    *expected = Expected {
        asked: found.collect(),
        durable_last: last,
        asked_vote: vote,
        durable_vote: vote,
        asked_purge: purged,
        durable_purge: purged,
    };
}

fn open(disk: &FailingDisk, context: &str) -> (Arc<Wal>, Writer) {
    Wal::open(Box::new(disk.clone()), SIZES).unwrap_or_else(|error| panic!("{context}: {error}"))
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_fails() {
    for seed in 0..40 {
        let disk = FailingDisk::default();
        let (wal, mut writer) = open(&disk, "new");
        use_log(&wal, &mut writer, &mut Expected::default(), seed).unwrap();
        let operations = disk.lock().operations;
        assert!(operations > 40, "{operations}");
        for fails_at in 0..operations {
            let context = format!("seed {seed}, power fails at operation {fails_at}");
            let disk = FailingDisk::default();
            disk.lock().fails_at = Some(fails_at);
            let mut expected = Expected::default();
            if let Ok((wal, mut writer)) = Wal::open(Box::new(disk.clone()), SIZES) {
                use_log(&wal, &mut writer, &mut expected, seed).unwrap_err();
            }
            // And once more, in the middle of what comes after.
            let mut random = fastrand::Rng::with_seed(seed ^ fails_at << 8);
            let mut disk = disk.after_power_cut(&mut random);
            for round in 0..2 {
                let context = format!("{context}, round {round}");
                let (wal, mut writer) = open(&disk, &context);
                check(&wal, &mut expected, &context);
                disk.lock().fails_at = Some(random.u64(0..operations));
                use_log(&wal, &mut writer, &mut expected, random.u64(..)).ok();
                disk = disk.after_power_cut(&mut random);
            }
            let (wal, _) = open(&disk, &context);
            check(&wal, &mut expected, &context);
        }
    }
}

/// What a process that was killed had written, and not synced, counts once another one has read it.
#[test]
fn what_was_read_after_a_kill_is_not_lost_with_the_power() {
    for seed in 0..300 {
        let context = format!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = FailingDisk::default();
        disk.lock().fails_at = Some(random.u64(5..60));
        let mut expected = Expected::default();
        if let Ok((wal, mut writer)) = Wal::open(Box::new(disk.clone()), SIZES) {
            use_log(&wal, &mut writer, &mut expected, seed).ok();
        }
        let disk = disk.after_kill();
        let (wal, _) = open(&disk, &context);
        check(&wal, &mut expected, &context);
        let disk = disk.after_power_cut(&mut random);
        let (wal, _) = open(&disk, &context);
        check(&wal, &mut expected, &context);
    }
}

#[test]
fn a_damaged_byte_of_what_came_before_is_found() {
    let disk = FailingDisk::default();
    let (wal, mut writer) = open(&disk, "new");
    let mut expected = Expected::default();
    for index in 1..=40 {
        wal.append([entry(1, index, &[index as u8; 300])].into_iter(), Box::new(|_| {})).unwrap();
        writer.flush();
        expected.asked.insert(index, (id(1, index), vec![index as u8; 300]));
    }
    let files: Vec<_> = disk.lock().files.keys().cloned().collect();
    assert!(files.len() > 2);
    let last = files.last().unwrap().clone();
    let mut random = fastrand::Rng::with_seed(7);
    for name in files {
        for _ in 0..60 {
            let disk = disk.after_kill();
            let place = {
                let mut content = disk.lock();
                let seen = &mut content.files.get_mut(&name).unwrap().seen;
                let written = seen.iter().rposition(|byte| *byte != 0).unwrap();
                let place = random.usize(..=written);
                seen[place] ^= 1 << random.u32(0..8);
                place
            };
            match Wal::open(Box::new(disk), SIZES) {
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}"),
                // Only the end of the newest file may be taken for a batch that a crash has cut.
                Ok((wal, _)) => {
                    assert_eq!(name, last, "byte {place}");
                    for found in wal.read(0, u64::MAX, usize::MAX).unwrap() {
                        let EntryPayload::Normal(batch) = &found.payload else { panic!() };
                        assert!(
                            batch.as_bytes() == expected.asked[&found.log_id.index].1.as_slice()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_is_acknowledged_after_it() {
    let disk = FailingDisk::default();
    let (wal, mut writer) = open(&disk, "new");
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let append = |index| {
        let outcomes = Arc::clone(&outcomes);
        let told = Box::new(move |outcome: io::Result<()>| {
            outcomes.lock().unwrap().push(outcome.map_err(|error| error.kind()));
        });
        wal.append([entry(1, index, &[1; 300])].into_iter(), told)
    };
    append(1).unwrap();
    writer.flush();
    disk.lock().room_bytes = Some(400);
    append(2).unwrap();
    append(3).unwrap();
    writer.flush();
    disk.lock().room_bytes = None;
    assert_eq!(append(4).unwrap_err().kind(), io::ErrorKind::StorageFull);
    let full = Err(io::ErrorKind::StorageFull);
    assert_eq!(*outcomes.lock().unwrap(), [Ok(()), full, full]);
    // With room again, the next process goes on behind what was acknowledged.
    let (wal, _) = open(&disk.after_kill(), "again");
    assert_eq!(wal.look(|index| index.last()), Some(id(1, 1)));
}

#[test]
fn without_its_writer_the_log_keeps_nobody_waiting() {
    let (wal, writer) = open(&FailingDisk::default(), "new");
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let told = {
        let outcomes = Arc::clone(&outcomes);
        Box::new(move |outcome: io::Result<()>| outcomes.lock().unwrap().push(outcome.is_ok()))
    };
    wal.append([entry(1, 1, b"never written")].into_iter(), told).unwrap();
    drop(writer);
    assert_eq!(*outcomes.lock().unwrap(), [false]);
    let refused = wal.vote(Vote::new(1, MemberId(1)), Box::new(|_| {})).unwrap_err();
    assert!(refused.to_string().contains("the writer has stopped"), "{refused}");
}
