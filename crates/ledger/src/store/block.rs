//! How stored events are laid out: several that follow each other as one value, so that a tree has few keys to keep in
//! order. Pure.
//!
//! A block is a format byte, then for each event its hash (32 bytes), the length of its record (u32, big endian) and the
//! record.

use bessemer_domain::{EventHash, Revision};
use bytes::{Buf, BufMut, Bytes};

use super::StoredEvent;

/// Version of the layout above.
const FORMAT: u8 = 1;

/// Length from which a block takes no further event.
const BLOCK_BYTES_TARGET: usize = 4 << 10;

/// Packs events that follow each other into as few blocks as their lengths allow, each with its first revision.
pub(super) fn pack<'a>(events: impl Iterator<Item = &'a StoredEvent>) -> Vec<(Revision, Vec<u8>)> {
    let mut blocks: Vec<(Revision, Vec<u8>)> = Vec::new();
    for event in events {
        let length = u32::try_from(event.record.len());
        let length = length.expect("proposals are bounded far below 4 GiB");
        let full = blocks.last().is_none_or(|(_, block)| {
            block.len() + event.record.len() + event.hash.0.len() + 4 > BLOCK_BYTES_TARGET
        });
        if full {
            blocks.push((event.revision, vec![FORMAT]));
        }
        let Some((_, block)) = blocks.last_mut() else { continue };
        block.put_slice(&event.hash.0);
        block.put_u32(length);
        block.put_slice(&event.record);
    }
    blocks
}

/// The events of a block that begins with `first`; none when it is not what [`pack`] made.
pub(super) fn unpack(first: Revision, block: &Bytes) -> Option<Vec<StoredEvent>> {
    let mut rest = block.clone();
    if rest.try_get_u8().ok()? != FORMAT {
        return None;
    }
    let mut events = Vec::new();
    let mut revision = first;
    while rest.has_remaining() {
        let mut hash = EventHash::default();
        rest.try_copy_to_slice(&mut hash.0).ok()?;
        let length = rest.try_get_u32().ok()? as usize;
        if length > rest.len() {
            return None;
        }
        events.push(StoredEvent { revision, record: rest.split_to(length), hash });
        revision = revision.next();
    }
    (!events.is_empty()).then_some(events)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(first: u64, lengths: &[usize]) -> Vec<StoredEvent> {
        let event = |(revision, length): (u64, &usize)| StoredEvent {
            revision: Revision(revision),
            record: vec![revision as u8; *length].into(),
            hash: EventHash([revision as u8; 32]),
        };
        (first..).zip(lengths).map(event).collect()
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(
            first in 1_u64..1 << 40,
            lengths in prop::collection::vec(0_usize..9000, 1..40),
        ) {
            let events = events(first, &lengths);
            let blocks = pack(events.iter());
            let mut unpacked = Vec::new();
            for (first, block) in blocks {
                let inside = unpack(first, &block.clone().into()).unwrap();
                prop_assert!(block.len() <= BLOCK_BYTES_TARGET || inside.len() == 1);
                unpacked.extend(inside);
            }
            prop_assert_eq!(unpacked, events);
        }

        #[test]
        fn a_block_that_was_cut_is_refused(lengths in prop::collection::vec(1_usize..300, 1..5), cut in 1_usize..300) {
            let (first, mut block) = pack(events(1, &lengths).iter()).remove(0);
            let whole = unpack(first, &block.clone().into()).unwrap();
            block.truncate(block.len().saturating_sub(cut));
            let left = unpack(first, &block.into());
            prop_assert!(left.is_none_or(|left| left.len() < whole.len()));
        }
    }
}
