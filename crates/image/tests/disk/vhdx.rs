//! VHDX.

use std::fs;

use bessemer_image::disk::DiskFault as E;

use crate::sample::{MIB, Sample, assert_reads_like_qemu, refusal_of_changed, run, text};

#[test]
fn every_kind_of_image_reads_as_qemu_reads_it() {
    for bytes in [512, 3 * MIB + 512, 40 * MIB] {
        let disk = Sample::new(bytes);
        for options in [
            "subformat=dynamic",
            "subformat=fixed",
            "subformat=dynamic,block_size=1M",
            "subformat=dynamic,block_size=32M",
            "subformat=dynamic,block_state_zero=off",
        ] {
            let image = disk.convert("vhdx", &["-o", options]);
            assert_reads_like_qemu(&disk, "vhdx", &image, &format!("{bytes} {options}"));
        }
    }
}

/// Past the blocks of the first sector bitmap (4 GiB in blocks of 1 MiB): its entry in the table
/// has to be skipped.
#[test]
fn images_with_a_history_read_as_qemu_reads_them() {
    let disk = Sample::new(0);
    let image = disk.path("image");
    let options = "block_size=1M,subformat=dynamic";
    run("qemu-img", &["create", "-q", "-f", "vhdx", "-o", options, text(&image), "4200M"]);
    let writes =
        ["write -P 7 1M 3k", "write -P 9 4095M 1M", "write -P 5 4096M 5k", "write -P 6 4198M 1M"];
    let mut arguments = vec!["-f", "vhdx"];
    arguments.extend(writes.iter().flat_map(|&write| ["-c", write]));
    arguments.push(text(&image));
    run("qemu-io", &arguments);
    let image = crate::sample::open("vhdx", &image).unwrap();
    assert_eq!(image.virtual_bytes(), 4200 << 20);
    for (mib, expected) in [(1, 7), (4095, 9), (4096, 5), (4097, 0), (4198, 6)] {
        use bessemer_image::pack::{RawBytes, RawSource as _};
        let mut piece = [0; 3 << 10];
        let read = image.read(mib << 20, &mut piece).unwrap();
        assert_eq!(read == RawBytes::Zero, expected == 0, "{mib}");
        assert!(piece.iter().all(|&byte| byte == expected), "{mib}");
    }
}

#[test]
fn every_rule_of_the_headers_is_checked() {
    let disk = Sample::new(MIB);
    let valid = fs::read(disk.convert("vhdx", &[])).unwrap();
    let changed = |at, bytes: &[u8]| refusal_of_changed("vhdx", &valid, at, bytes);
    assert!(matches!(changed(0, b"X"), Some(E::NoMark)));
    // One header or one region table may be damaged, both may not.
    assert!(changed(64 << 10, &[0; 64 << 10]).is_none());
    assert!(changed(192 << 10, &[0; 64 << 10]).is_none());
    let both = changed(64 << 10, &[0; 128 << 10]).unwrap();
    assert!(matches!(both, E::Malformed { what: "checksum of both headers", .. }), "{both}");
    let both = changed(192 << 10, &[0; 128 << 10]).unwrap();
    assert!(matches!(both, E::Malformed { what: "checksum of both region tables", .. }), "{both}");
}

/// As a machine leaves it that lost its power: QEMU would have to replay the log.
#[test]
fn an_image_with_a_log_is_refused_as_dirty() {
    let disk = Sample::new(MIB);
    let mut image = fs::read(disk.convert("vhdx", &[])).unwrap();
    for at in [64 << 10, 128 << 10] {
        let header = &mut image[at..at + 4096];
        header[48] = 1;
        header[4..8].fill(0);
        let checksum = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(header);
        header[4..8].copy_from_slice(&checksum.to_le_bytes());
    }
    assert!(matches!(refusal_of_changed("vhdx", &image, 0, &[]), Some(E::Dirty)));
}
