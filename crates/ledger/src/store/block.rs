//! How stored events are laid out: several that follow each other as one value, so that a tree has few keys to keep in
//! order. Pure.
//!
//! A block is a format byte, the length of its body (u32, big endian) and the body, compressed by zstd. The body is for each
//! event its hash (32 bytes), the length of its record (u32, big endian) and the record. Records repeat each other's words:
//! compressed, there is less for a tree to write.

use std::io;

use bessemer_domain::{EventHash, Revision};
use bytes::{Buf, BufMut, Bytes};
use zstd::bulk::Compressor;

use super::StoredEvent;

/// Version of the layout above.
const FORMAT: u8 = 2;

/// Length from which a body takes no further event.
const BODY_BYTES_TARGET: usize = 16 << 10;

/// No body is longer: that of one event with the largest config drive.
const BODY_BYTES_MAX: usize = 64 << 20;

/// The fastest that zstd is with a ratio to speak of.
const COMPRESSION_LEVEL: i32 = 1;

/// Packs events that follow each other into as few blocks as their lengths allow, each with its first revision.
///
/// # Errors
/// When zstd has no memory.
pub(super) fn pack<'a>(
    events: impl Iterator<Item = &'a StoredEvent>,
) -> io::Result<Vec<(Revision, Vec<u8>)>> {
    let mut compressor = Compressor::new(COMPRESSION_LEVEL)?;
    let mut block = |(first, body): (Revision, Vec<u8>)| {
        let length = u32::try_from(body.len()).expect("proposals are bounded far below 4 GiB");
        let mut block = vec![FORMAT];
        block.put_u32(length);
        block.extend(compressor.compress(&body)?);
        Ok((first, block))
    };
    bodies(events).into_iter().map(&mut block).collect()
}

fn bodies<'a>(events: impl Iterator<Item = &'a StoredEvent>) -> Vec<(Revision, Vec<u8>)> {
    let mut bodies: Vec<(Revision, Vec<u8>)> = Vec::new();
    for event in events {
        let length = u32::try_from(event.record.len());
        let length = length.expect("proposals are bounded far below 4 GiB");
        let full = bodies.last().is_none_or(|(_, body)| {
            body.len() + event.record.len() + event.hash.0.len() + 4 > BODY_BYTES_TARGET
        });
        if full {
            bodies.push((event.revision, Vec::new()));
        }
        let Some((_, body)) = bodies.last_mut() else { continue };
        body.put_slice(&event.hash.0);
        body.put_u32(length);
        body.put_slice(&event.record);
    }
    bodies
}

/// The events of a block that begins with `first`; none when it is not what [`pack`] made.
pub(super) fn unpack(first: Revision, block: &[u8]) -> Option<Vec<StoredEvent>> {
    let mut block = block;
    if block.try_get_u8().ok()? != FORMAT {
        return None;
    }
    let length = block.try_get_u32().ok()? as usize;
    if length > BODY_BYTES_MAX {
        return None;
    }
    let mut rest = Bytes::from(zstd::bulk::decompress(block, length).ok()?);
    if rest.len() != length {
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

    #[test]
    fn records_that_are_alike_take_little_room() {
        let blocks = pack(events(1, &[700; 1000]).iter()).unwrap();
        let bytes: usize = blocks.iter().map(|(_, block)| block.len()).sum();
        assert!(bytes < 1000 * 700 / 5, "{bytes}");
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(
            first in 1_u64..1 << 40,
            lengths in prop::collection::vec(0_usize..9000, 1..40),
        ) {
            let events = events(first, &lengths);
            let blocks = pack(events.iter()).unwrap();
            let mut unpacked = Vec::new();
            for (first, block) in blocks {
                unpacked.extend(unpack(first, &block).unwrap());
            }
            prop_assert_eq!(unpacked, events);
        }

        #[test]
        fn a_block_that_was_cut_is_refused(lengths in prop::collection::vec(1_usize..300, 1..5), cut in 1_usize..300) {
            let (first, mut block) = pack(events(1, &lengths).iter()).unwrap().remove(0);
            unpack(first, &block).unwrap();
            block.truncate(block.len().saturating_sub(cut));
            prop_assert_eq!(unpack(first, &block), None);
        }

        #[test]
        fn garbage_is_refused(mut block in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(unpack(Revision(1), &block), None);
            if let Some(format) = block.first_mut() {
                *format = FORMAT;
            }
            prop_assert_eq!(unpack(Revision(1), &block), None);
        }
    }
}
