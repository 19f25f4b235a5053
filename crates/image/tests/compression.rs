//! Compressed sources: what every tool writes is read, what is damaged is not.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::io::{self, Read as _, Write as _};

use bessemer_image::compression::Compression;
use bessemer_image::format::{Content, probe};
use bessemer_image::{ReadAt as _, SequentialReader};

const ALL: [Compression; 4] =
    [Compression::Gzip, Compression::Xz, Compression::Zstd, Compression::Bzip2];

fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Xz => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::encode_all(bytes, 1).unwrap(),
        Compression::Bzip2 => {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), Default::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
    }
}

fn decompress(compression: Compression, source: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    compression.decompress(SequentialReader::new(source))?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn sample() -> Vec<u8> {
    (0..700_000_u32).flat_map(|at| (at.wrapping_mul(0x9e37_79b9) >> 13).to_le_bytes()).collect()
}

#[test]
fn what_is_compressed_is_recognised_and_read() {
    for compression in ALL {
        let source = compress(compression, &sample());
        assert_eq!(probe(&source), Content::Compressed(compression));
        assert!(decompress(compression, &source).unwrap() == sample(), "{compression}");
    }
}

/// As `cat a.gz b.gz` and parallel compressors make it.
#[test]
fn several_streams_one_behind_the_other_are_one_source() {
    for compression in ALL {
        let halves = sample();
        let (first, second) = halves.split_at(1_000_003);
        let source = [compress(compression, first), compress(compression, second)].concat();
        assert!(decompress(compression, &source).unwrap() == halves, "{compression}");
    }
}

#[test]
fn a_truncated_or_damaged_source_is_an_error_and_never_a_shorter_image() {
    for compression in ALL {
        let source = compress(compression, &sample());
        for cut in [source.len() - 1, source.len() - 9, source.len() / 2, 20] {
            let error = decompress(compression, &source[..cut]).unwrap_err();
            let kind = error.kind();
            assert!(
                matches!(kind, io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData),
                "{compression} cut at {cut}: {kind:?} {error}"
            );
        }
        let mut damaged = source.clone();
        damaged[source.len() / 2] ^= 0x40;
        let read = decompress(compression, &damaged);
        assert!(compression == Compression::Zstd || read.is_err(), "{compression}");
        assert!(read.is_err() || read.unwrap() != sample(), "{compression}");
    }
}

/// A stream may not demand more memory than is allowed: here 1 GiB of dictionary.
#[test]
fn a_stream_that_demands_too_much_memory_is_refused() {
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(1 << 30);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let check = liblzma::stream::Check::Crc32;
    let mut stream = liblzma::stream::Stream::new_stream_encoder(&filters, check).unwrap();
    let mut source = Vec::with_capacity(1 << 16);
    let status = stream.process_vec(b"x", &mut source, liblzma::stream::Action::Finish).unwrap();
    assert_eq!(status, liblzma::stream::Status::StreamEnd);
    assert!(source.as_slice().source_bytes() < 200);
    assert!(decompress(Compression::Xz, &source).is_err());
}
