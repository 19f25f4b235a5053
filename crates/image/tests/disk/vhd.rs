//! VHD.

use std::fs;

use bessemer_image::disk::DiskFault as E;

use crate::sample::{MIB, Sample, assert_reads_like_qemu, refusal, refusal_of_changed, run, text};

#[test]
fn every_kind_of_image_reads_as_qemu_reads_it() {
    for bytes in [512, 3 * MIB + 512, 9 * MIB, 40 * MIB + 512 * 77] {
        let disk = Sample::new(bytes);
        for options in [
            "subformat=dynamic",
            "subformat=fixed",
            "subformat=dynamic,force_size=on",
            "subformat=fixed,force_size=on",
        ] {
            let image = disk.convert("vpc", &["-o", options]);
            assert_reads_like_qemu(&disk, "vpc", &image, &format!("{bytes} {options}"));
        }
    }
}

#[test]
fn images_with_a_history_read_as_qemu_reads_them() {
    let disk = Sample::new(8 * MIB);
    let image = disk.convert("vpc", &[]);
    run(
        "qemu-io",
        &["-f", "vpc", "-c", "write -P 7 1M 3k", "-c", "write -P 9 7M 64k", text(&image)],
    );
    assert_reads_like_qemu(&disk, "vpc", &image, "written");
}

#[test]
fn what_has_no_footer_is_refused() {
    let disk = Sample::new(MIB);
    assert!(matches!(refusal("vpc", &disk.path("raw")), E::NoMark));
    let disk = Sample::new(0);
    assert!(matches!(refusal("vpc", &disk.path("raw")), E::NoMark));
}

#[test]
fn a_truncated_fixed_image_is_refused() {
    let disk = Sample::new(3 * MIB);
    let options = "subformat=fixed,force_size=on";
    let whole = fs::read(disk.convert("vpc", &["-o", options])).unwrap();
    let cut = [&whole[..MIB], &whole[whole.len() - 512..]].concat();
    let refused = refusal_of_changed("vpc", &cut, 0, &[]).unwrap();
    assert!(matches!(refused, E::Truncated { what: "disk", .. }), "{refused}");
}

/// The checksum is mended after each change but the first.
#[test]
fn every_rule_of_the_headers_is_checked() {
    let disk = Sample::new(MIB);
    let valid = fs::read(disk.convert("vpc", &["-o", "subformat=dynamic"])).unwrap();
    let raw = refusal_of_changed("vpc", &valid, 60, &[1]).unwrap();
    assert!(matches!(raw, E::Malformed { what: "footer's checksum", .. }), "{raw}");
    let mended = |header: std::ops::Range<usize>, checksum: usize, at: usize, bytes: &[u8]| {
        let mut image = valid.clone();
        image[header.start + at..header.start + at + bytes.len()].copy_from_slice(bytes);
        let header = &mut image[header];
        header[checksum..checksum + 4].fill(0);
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[checksum..checksum + 4].copy_from_slice(&(!sum).to_be_bytes());
        refusal_of_changed("vpc", &image, 0, &[]).unwrap()
    };
    let footer = |at, bytes: &[u8]| mended(0..512, 64, at, bytes);
    assert!(matches!(footer(13, &[2]), E::Version { .. }));
    assert!(matches!(footer(63, &[4]), E::BackingFile { .. }));
    assert!(matches!(footer(63, &[9]), E::Malformed { what: "disk type", .. }));
    assert!(matches!(footer(48, &[1]), E::Malformed { what: "number of table entries", .. }));
    let header = |at, bytes: &[u8]| mended(512..1536, 36, at, bytes);
    assert!(matches!(header(0, b"X"), E::Malformed { what: "dynamic header's mark", .. }));
    assert!(matches!(header(32, &[0, 0, 0, 3]), E::Malformed { what: "block size", .. }));
    assert!(matches!(header(16, &[1]), E::Truncated { what: "block table", .. }));
}
