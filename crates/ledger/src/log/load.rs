//! Reads the log when a member starts.

use std::collections::BTreeMap;
use std::io;

use super::disk::Disk;
use super::index::{Index, Slot};
use super::record::{Record, records};
use super::segment::{self, Found, Segment};
use super::wal::damaged;

/// What the files hold.
pub(super) struct Loaded {
    pub(super) index: Index,
    /// All files but the newest.
    pub(super) closed: BTreeMap<u64, Segment>,
    /// The newest, and where it ends; none in a new directory.
    pub(super) last: Option<(Segment, u64)>,
    /// Where the file before the newest ends, if the newest does not say so yet.
    pub(super) unsaid_end: Option<u64>,
}

/// Reads all files. A last batch that was cut by a crash is dropped; damage anywhere else is an error.
pub(super) fn load(disk: &dyn Disk, cache_bytes: usize) -> io::Result<Loaded> {
    let mut loaded = Loaded {
        index: Index::new(cache_bytes),
        closed: BTreeMap::new(),
        last: None,
        unsaid_end: None,
    };
    for number in numbers(disk)? {
        let Some(found) = Segment::open(disk, number)? else {
            // Its making was cut by a crash: nothing was ever in it.
            disk.remove(&segment::name(number))?;
            continue;
        };
        if loaded.last.as_ref().is_some_and(|(before, _)| before.number + 1 != number) {
            loaded.drop_leftovers(disk, cache_bytes)?;
        }
        let before_end = loaded.last.as_ref().map(|(_, end)| *end);
        replay(&found, before_end, &mut loaded.index)?;
        loaded.unsaid_end = before_end.filter(|_| found.batches.is_empty());
        if let Some((before, _)) = loaded.last.replace((found.segment, found.end_bytes)) {
            loaded.closed.insert(before.number, before);
        }
    }
    loaded.check_beginning()?;
    Ok(loaded)
}

impl Loaded {
    /// Drops the files so far: they were dropped before, and came back because that was not durable.
    fn drop_leftovers(&mut self, disk: &dyn Disk, cache_bytes: usize) -> io::Result<()> {
        let closed = std::mem::take(&mut self.closed).into_keys();
        let last = self.last.take().map(|(last, _)| last.number);
        closed.chain(last).try_for_each(|number| disk.remove(&segment::name(number)))?;
        self.index = Index::new(cache_bytes);
        Ok(())
    }

    /// Refuses a log whose first entries are missing, though they were not dropped.
    fn check_beginning(&self) -> io::Result<()> {
        let last = self.last.as_ref().map(|(last, _)| last.number);
        let first_file = self.closed.keys().next().copied().or(last);
        let first = self.index.range(0, u64::MAX).next().map(|slot| slot.id.index);
        match (self.index.purged, first) {
            (Some(purged), Some(first)) if first > purged.index + 1 => {
                Err(damaged(format!("entries {} to {} are missing", purged.index + 1, first - 1)))
            }
            (None, _) if first_file.is_some_and(|first_file| first_file > 1) => {
                Err(damaged("its first file is missing"))
            }
            _ => Ok(()),
        }
    }
}

/// The numbers of all files, in order.
fn numbers(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for name in disk.list()? {
        let number = segment::number(&name)
            .ok_or_else(|| damaged(format!("`{name}` is none of its files")))?;
        numbers.push(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Takes what a file holds into the index. `before_end`: where the file before ends, if it is there.
fn replay(found: &Found, before_end: Option<u64>, index: &mut Index) -> io::Result<()> {
    let number = found.segment.number;
    for batch in &found.batches {
        for record in records(&found.content[batch.clone()]) {
            match record.map_err(|error| damaged(format!("{}: {error}", segment::name(number))))? {
                Record::Vote(vote) => index.vote = Some(vote),
                Record::Truncate { from } => index.truncate(from),
                Record::Purge { upto } => index.purge(upto),
                Record::Commit { upto } => index.committed = Some(upto),
                Record::Follows { end_bytes } => {
                    if before_end.is_some_and(|before_end| before_end != end_bytes) {
                        let before = segment::name(number - 1);
                        return Err(damaged(format!("{before} does not end at byte {end_bytes}")));
                    }
                }
                Record::Entry { id, mut stored } => {
                    let start = batch.start + stored.offset_bytes as usize;
                    let bytes = &found.content[start..start + stored.length_bytes as usize];
                    let payload = Some(stored.decode(bytes.to_vec())?);
                    stored.offset_bytes = start as u64;
                    index.push_stored(Slot { id, segment: number, stored, payload })?;
                }
            }
        }
    }
    index.shrink(number);
    Ok(())
}
