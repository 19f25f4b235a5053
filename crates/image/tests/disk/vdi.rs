//! VDI.

use std::fs;

use bessemer_image::disk::DiskFault as E;

use crate::sample::{MIB, Sample, assert_reads_like_qemu, refusal_of_changed, run, text};

#[test]
fn every_kind_of_image_reads_as_qemu_reads_it() {
    for bytes in [0, 512, 1000, 3 * MIB + 512, 9 * MIB] {
        let disk = Sample::new(bytes);
        for options in [&[] as &[&str], &["-o", "static=on"], &["-S", "0"]] {
            let image = disk.convert("vdi", options);
            assert_reads_like_qemu(&disk, "vdi", &image, &format!("{bytes} {options:?}"));
        }
    }
}

#[test]
fn images_with_a_history_read_as_qemu_reads_them() {
    let disk = Sample::new(8 * MIB);
    let image = disk.convert("vdi", &[]);
    run(
        "qemu-io",
        &["-f", "vdi", "-c", "write -P 7 1M 3k", "-c", "write -P 9 7M 64k", text(&image)],
    );
    assert_reads_like_qemu(&disk, "vdi", &image, "written");
}

#[test]
fn every_rule_of_the_header_is_checked() {
    let disk = Sample::new(MIB);
    let valid = fs::read(disk.convert("vdi", &[])).unwrap();
    let changed = |at, bytes: &[u8]| refusal_of_changed("vdi", &valid, at, bytes).unwrap();
    assert!(matches!(changed(0x40, b"X"), E::NoMark));
    assert!(matches!(changed(0x44, &[2]), E::Version { .. }));
    assert!(matches!(changed(0x4c, &[4]), E::BackingFile { .. }));
    assert!(matches!(changed(0x1b8, &[4]), E::BackingFile { .. }));
    assert!(matches!(changed(0x4c, &[9]), E::Malformed { what: "image_type", .. }));
    assert!(matches!(changed(0x178, &[1]), E::Malformed { what: "block_size", .. }));
    assert!(matches!(changed(0x17c, &[1]), E::Malformed { what: "block_extra", .. }));
    assert!(matches!(changed(0x180, &[0]), E::Malformed { what: "blocks_in_image", .. }));
    assert!(matches!(changed(0x181, &[0xff; 3]), E::Truncated { what: "block map", .. }));
    assert!(matches!(changed(0x170, &[0xff; 8]), E::Malformed { what: "blocks_in_image", .. }));
}
