//! Disks of 1 TiB with next to nothing on them: read in seconds, from little.

use bessemer_image::pack::{RawBytes, RawSource as _};

use crate::sample::{MIB, Sample, open, run, text};

const TIB: u64 = 1 << 40;

/// What a guest wrote: a byte, where, and how often.
const WRITES: [(u8, u64, u64); 4] =
    [(1, 0, 512), (2, TIB / 2 - 512, 1024), (3, TIB - (70 << 10), 3 << 10), (4, TIB - 512, 512)];

fn expected(chunk_start: u64) -> Option<Vec<u8>> {
    let mut chunk = vec![0; MIB];
    for (byte, start, length) in WRITES {
        for at in start..start + length {
            if let Some(at) = at.checked_sub(chunk_start).filter(|&at| at < MIB as u64) {
                chunk[at as usize] = byte;
            }
        }
    }
    chunk.iter().any(|&byte| byte != 0).then_some(chunk)
}

#[test]
fn huge_disks_are_read_as_sparse_as_they_are() {
    for (format, options) in [
        ("qcow2", "cluster_size=64k"),
        ("qcow2", "cluster_size=64k,extended_l2=on"),
        ("vmdk", "subformat=monolithicSparse"),
        ("vhdx", "block_size=32M"),
        ("vdi", "static=off"),
        ("vpc", "force_size=on"),
    ] {
        let disk = Sample::new(0);
        let image = disk.path("image");
        run("qemu-img", &["create", "-q", "-f", format, "-o", options, text(&image), "1T"]);
        let writes = WRITES.map(|(byte, at, length)| format!("write -P {byte} {at} {length}"));
        let mut arguments = vec!["-f", format];
        arguments.extend(writes.iter().flat_map(|write| ["-c", write]));
        arguments.push(text(&image));
        run("qemu-io", &arguments);

        let image = open(format, &image).unwrap();
        assert_eq!(image.virtual_bytes(), TIB, "{format}");
        let mut chunk = vec![0; MIB];
        let mut data_chunks = 0;
        for start in (0..TIB).step_by(MIB) {
            if image.read(start, &mut chunk).unwrap() == RawBytes::Zero {
                assert!(WRITES.iter().all(|(_, at, _)| at / MIB as u64 != start / MIB as u64));
                continue;
            }
            data_chunks += 1;
            let expected = expected(start).unwrap_or_else(|| vec![0; MIB]);
            assert!(chunk == expected, "{format} at {start}");
        }
        // A format's own blocks may be larger than a chunk.
        assert!((4..=128).contains(&data_chunks), "{format}: {data_chunks}");
    }
}
