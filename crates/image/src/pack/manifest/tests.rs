//! The manifest against hostile bytes and against its own encoding.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn entry(raw: &[u8], frame_bytes: u32) -> Entry {
    Entry {
        frame_bytes,
        is_zero: raw.iter().all(|&byte| byte == 0),
        frame_check: [7; 8],
        raw_digest: *blake3::hash(raw).as_bytes(),
    }
}

/// 200 chunks, the last one of 10 bytes; zero where `zero` says so.
fn manifest(zero: impl Fn(u64) -> bool) -> Manifest {
    let full = vec![1; CHUNK_BYTES];
    let entries: Vec<_> = (0..200)
        .map(|number| {
            let raw_bytes = if number == 199 { 10 } else { CHUNK_BYTES };
            let raw = if zero(number) { &ZEROS[..raw_bytes] } else { &full[..raw_bytes] };
            entry(raw, 100 + number as u32)
        })
        .collect();
    Manifest::build(199 * CHUNK_BYTES as u64 + 10, &entries).unwrap()
}

#[test]
fn look_ups_agree_with_the_walk_over_all_chunks() {
    let manifest = manifest(|number| number % 3 == 0);
    let mut expected_offset = 0;
    for chunk in manifest.chunks() {
        assert_eq!(chunk.frame_offset_bytes, expected_offset);
        assert_eq!(manifest.chunk(chunk.index), Some(chunk));
        let last = expected_offset + chunk.frame_bytes as u64 - 1;
        assert_eq!(manifest.chunk_at_pack_offset(expected_offset), Some(chunk));
        assert_eq!(manifest.chunk_at_pack_offset(last), Some(chunk));
        expected_offset = last + 1;
    }
    assert_eq!(manifest.frames_bytes(), expected_offset);
    assert_eq!(manifest.chunk_at_pack_offset(expected_offset), None);
    assert_eq!(manifest.chunk(ChunkIndex(200)), None);
    assert_eq!(manifest.chunk(ChunkIndex(199)).unwrap().raw_bytes, 10);
    assert_eq!(manifest.zero_chunk_count(), 67);
}

#[test]
fn extents_cover_exactly_the_chunks_that_are_not_zero() {
    let manifest = manifest(|number| number < 2 || (50..60).contains(&number) || number == 199);
    let extents: Vec<_> = manifest.extents_from(ChunkIndex(0)).collect();
    let ranges: Vec<_> = extents.iter().map(|e| (e.first.0, e.chunk_count)).collect();
    assert_eq!(ranges, [(2, 48), (60, 139)]);
    for extent in &extents {
        let first = manifest.chunk(extent.first).unwrap();
        let end = manifest.chunk(ChunkIndex(extent.first.0 + extent.chunk_count)).unwrap();
        assert_eq!(extent.pack_offset_bytes, first.frame_offset_bytes);
        assert_eq!(extent.pack_bytes, end.frame_offset_bytes - first.frame_offset_bytes);
    }
    let resumed: Vec<_> = manifest.extents_from(ChunkIndex(70)).map(|e| e.first.0).collect();
    assert_eq!(resumed, [70]);
}

#[test]
fn any_changed_byte_is_another_image_and_refused_under_the_old_id() {
    let manifest = manifest(|_| false);
    let digest = manifest.digest();
    assert_eq!(Manifest::parse(manifest.encoded().to_vec(), Some(&digest)), Ok(manifest.clone()));
    assert_eq!(digest.to_string().parse(), Ok(digest));
    let mut damaged = manifest.encoded().to_vec();
    damaged[100] ^= 1;
    assert!(matches!(
        Manifest::parse(damaged, Some(&digest)),
        Err(InvalidManifest::WrongDigest { .. })
    ));
}

/// Each rule on its own: a valid manifest with one field changed.
#[test]
fn every_rule_is_checked() {
    let valid = manifest(|number| number == 5);
    let change = |at: usize, bytes: &[u8]| {
        let mut encoded = valid.encoded().to_vec();
        encoded[at..at + bytes.len()].copy_from_slice(bytes);
        Manifest::parse(encoded, None).unwrap_err()
    };
    use InvalidManifest as E;
    assert!(matches!(change(0, b"X"), E::WrongMagic { .. }));
    assert_eq!(change(8, &[2]), E::UnknownVersion { found: 2 });
    assert_eq!(change(12, &4096_u32.to_le_bytes()), E::WrongChunkSize { found_bytes: 4096 });
    assert!(matches!(change(16, &u64::MAX.to_le_bytes()), E::TooLarge { .. }));
    assert!(matches!(change(24, &u64::MAX.to_le_bytes()), E::WrongChunkCount { .. }));
    assert!(matches!(change(32, &[0; 4]), E::FrameLength { .. }));
    assert!(matches!(change(32, &[0xff; 4]), E::FrameLength { .. }));
    assert!(matches!(change(36, &[2]), E::UnknownFlags { .. }));
    assert_eq!(change(36, &[1]), E::ZeroFlag { index: ChunkIndex(0) });
    assert_eq!(change(36 + 5 * 48, &[0]), E::ZeroFlag { index: ChunkIndex(5) });
    let cut = valid.encoded()[..valid.encoded().len() - 1].to_vec();
    assert!(matches!(Manifest::parse(cut, None), Err(E::WrongLength { .. })));
    assert!(matches!(Manifest::parse(vec![0; 31], None), Err(E::NoHeader { .. })));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Manifest::parse(bytes, None);
    }

    #[test]
    fn a_damaged_manifest_never_panics(at in 0_usize..9632, byte: u8, cut in 0_usize..9632) {
        static VALID: LazyLock<Manifest> = LazyLock::new(|| manifest(|number| number % 2 == 0));
        let mut encoded = VALID.encoded().to_vec();
        encoded[at] = byte;
        let _ = Manifest::parse(encoded.clone(), None);
        encoded.truncate(cut);
        let _ = Manifest::parse(encoded, None);
    }
}
