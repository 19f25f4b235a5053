//! Packs made, read, damaged, and read by zstd itself.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::fs::File;
use std::io::{self, Cursor, Write};
use std::num::NonZeroUsize;
use std::process::Command;

use bessemer_image::SourceFile;
use bessemer_image::digest::{Algorithm, Hasher};
use bessemer_image::disk::Disk;
use bessemer_image::format::DiskFormat;
use bessemer_image::pack::{
    CHUNK_BYTES, ChunkDecoder, ChunkEncoder, ChunkIndex, Manifest, PackOptions, Packed, Refusal,
    SequentialSource, WritePackError, write_pack,
};

const LEVEL: i32 = 1;

fn options(workers: usize) -> PackOptions {
    let workers = NonZeroUsize::new(workers).unwrap();
    PackOptions { level: LEVEL, raw_algorithm: Algorithm::Sha256, workers }
}

/// `chunks` chunks and 1000 bytes: noise, text and zeros in turn.
fn raw_image(chunks: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut raw = vec![0; chunks * CHUNK_BYTES + 1000];
    for (number, chunk) in raw.chunks_mut(CHUNK_BYTES).enumerate() {
        match number % 3 {
            0 => chunk.iter_mut().for_each(|byte| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                *byte = state as u8;
            }),
            1 => chunk.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at / 100) as u8),
            _ => {}
        }
    }
    raw
}

fn pack(raw: &[u8], workers: usize) -> (Packed, Vec<u8>) {
    let mut pack = Vec::new();
    let source = SequentialSource::new(raw, Some(raw.len() as u64));
    let packed = write_pack(&source, &mut pack, &options(workers), |_| {}).unwrap();
    (packed, pack)
}

fn frame<'a>(manifest: &Manifest, pack: &'a [u8], index: ChunkIndex) -> &'a [u8] {
    let chunk = manifest.chunk(index).unwrap();
    &pack[chunk.frame_offset_bytes as usize..][..chunk.frame_bytes]
}

#[test]
fn decoding_every_chunk_gives_the_raw_image() {
    for chunks in [0, 1, 7] {
        let raw = raw_image(chunks);
        let (Packed { manifest, raw_digest }, pack) = pack(&raw, 3);
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&raw);
        assert_eq!(raw_digest, hasher.finish());
        assert_eq!(manifest.pack_bytes(), pack.len() as u64);
        let mut decoder = ChunkDecoder::new().unwrap();
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut decoded = Vec::new();
        for chunk in manifest.chunks() {
            let frame = frame(&manifest, &pack, chunk.index);
            manifest.verify_frame(chunk.index, frame).unwrap();
            decoded.extend_from_slice(
                decoder.decode(&manifest, chunk.index, frame, &mut buffer).unwrap(),
            );
        }
        assert!(decoded == raw);
        assert_eq!(manifest.zero_chunk_count(), (chunks as u64 + 1) / 3);
    }
}

#[test]
fn an_empty_image_is_a_pack_of_no_chunks() {
    let (packed, pack) = pack(&[], 1);
    assert_eq!(packed.manifest.chunk_count(), 0);
    assert_eq!(packed.manifest.pack_bytes(), pack.len() as u64);
    assert_eq!(packed.manifest.extents_from(ChunkIndex(0)).count(), 0);
}

/// Healing and replicas rely on it.
#[test]
fn the_same_image_gives_the_same_pack_whatever_the_number_of_workers() {
    let raw = raw_image(9);
    let (first, first_pack) = pack(&raw, 1);
    let (second, second_pack) = pack(&raw, 4);
    assert_eq!(first.manifest.digest(), second.manifest.digest());
    assert!(first_pack == second_pack);
    let mut encoder = ChunkEncoder::new(LEVEL).unwrap();
    for chunk in first.manifest.chunks() {
        let at = chunk.index.raw_offset_bytes() as usize;
        let again = encoder.encode_again(&chunk, &raw[at..at + chunk.raw_bytes]).unwrap();
        assert_eq!(again.as_deref(), Some(frame(&first.manifest, &first_pack, chunk.index)));
    }
    let chunk = first.manifest.chunk(ChunkIndex(1)).unwrap();
    assert_eq!(encoder.encode_again(&chunk, &raw[..CHUNK_BYTES]).unwrap(), None);
}

#[test]
fn the_zstd_tool_yields_the_raw_image() {
    let raw = raw_image(5);
    let (_, pack) = pack(&raw, 2);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&pack).unwrap();
    let zstd = Command::new("zstd").arg("-dc").arg(file.path()).output().unwrap();
    assert!(zstd.status.success(), "{}", String::from_utf8_lossy(&zstd.stderr));
    assert!(zstd.stdout == raw);
}

#[test]
fn a_damaged_frame_is_refused_by_both_checks() {
    let raw = raw_image(2);
    let (Packed { manifest, .. }, pack) = pack(&raw, 1);
    let mut decoder = ChunkDecoder::new().unwrap();
    let mut buffer = vec![0; CHUNK_BYTES];
    for chunk in manifest.chunks() {
        let good = frame(&manifest, &pack, chunk.index);
        for at in (0..good.len()).step_by(good.len() / 7 + 1) {
            let mut bad = good.to_vec();
            bad[at] ^= 0x10;
            let served = manifest.verify_frame(chunk.index, &bad).unwrap_err();
            assert_eq!((served.index, served.refusal), (chunk.index, Refusal::FrameCheck));
            let written = decoder.decode(&manifest, chunk.index, &bad, &mut buffer).unwrap_err();
            assert_eq!(written.index, chunk.index);
        }
        let cut = decoder.decode(&manifest, chunk.index, &good[1..], &mut buffer).unwrap_err();
        assert!(matches!(cut.refusal, Refusal::FrameLength { .. }));
    }
}

/// A valid frame of other bytes, longer ones included, is refused and never overruns the buffer.
#[test]
fn a_frame_of_other_bytes_is_refused() {
    let raw = raw_image(3);
    let (Packed { manifest, .. }, pack) = pack(&raw, 1);
    let mut decoder = ChunkDecoder::new().unwrap();
    let mut buffer = vec![0; CHUNK_BYTES];
    let last = ChunkIndex(3);
    let long = frame(&manifest, &pack, ChunkIndex(2));
    let refused = decoder.decode(&manifest, last, long, &mut buffer).unwrap_err();
    assert!(matches!(refused.refusal, Refusal::FrameLength { .. }));
    assert!(manifest.verify_raw(last, &raw[..1000]).is_err());
    assert!(manifest.verify_raw(last, &raw[3 * CHUNK_BYTES..]).is_ok());
    let beyond = manifest.verify_raw(ChunkIndex(4), &[]).unwrap_err();
    assert_eq!(beyond.refusal, Refusal::NoSuchChunk { chunk_count: 4 });
}

/// Takes `left` bytes, then says that the disk is full.
struct FullDisk {
    left: usize,
}

impl Write for FullDisk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.left);
        self.left -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_ends_the_work_with_that_error() {
    let raw = raw_image(30);
    let source = SequentialSource::new(raw.as_slice(), Some(raw.len() as u64));
    let mut disk = FullDisk { left: CHUNK_BYTES * 3 };
    let error = write_pack(&source, &mut disk, &options(4), |_| {}).unwrap_err();
    let WritePackError::Write { source, .. } = error else { panic!("{error}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
}

/// A stream whose length nobody knows ends where it ends: within a chunk, at its end, or at once.
#[test]
fn a_stream_of_unknown_length_becomes_the_same_pack() {
    let raw = raw_image(9);
    for bytes in [raw.len(), 9 * CHUNK_BYTES, 5 * CHUNK_BYTES, 1, 0] {
        for workers in [1, 4] {
            let (known, known_pack) = pack(&raw[..bytes], workers);
            let source = SequentialSource::new(&raw[..bytes], None);
            let (mut pack, mut seen) = (Vec::new(), Vec::new());
            let packed =
                write_pack(&source, &mut pack, &options(workers), |done| seen.push(done)).unwrap();
            assert_eq!(packed.manifest.digest(), known.manifest.digest(), "{bytes}");
            assert_eq!(packed.raw_digest, known.raw_digest, "{bytes}");
            assert!(pack == known_pack, "{bytes}");
            assert_eq!(seen.last().copied().unwrap_or_default(), bytes as u64);
        }
    }
}

#[test]
fn a_stream_that_ends_early_is_the_error_of_the_first_missing_byte() {
    let raw = raw_image(10);
    let source = SequentialSource::new(&raw[..4 * CHUNK_BYTES + 5], Some(raw.len() as u64));
    let error = write_pack(&source, &mut Vec::new(), &options(4), |_| {}).unwrap_err();
    let WritePackError::Read { offset_bytes, source } = error else { panic!("{error}") };
    assert_eq!(offset_bytes, 4 * CHUNK_BYTES as u64);
    assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_file_is_a_source_and_progress_reaches_its_length() {
    let raw = raw_image(4);
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&path, &raw).unwrap();
    let mut seen = Vec::new();
    let mut written = Cursor::new(Vec::new());
    let file = SourceFile::new(File::open(&path).unwrap()).unwrap();
    let disk = Disk::open(DiskFormat::Raw, file, u64::MAX).unwrap();
    let packed = write_pack(&disk, &mut written, &options(2), |done| seen.push(done)).unwrap();
    assert_eq!(seen.len(), 5);
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&(raw.len() as u64)));
    assert_eq!(packed.manifest.digest(), pack(&raw, 1).0.manifest.digest());
}
