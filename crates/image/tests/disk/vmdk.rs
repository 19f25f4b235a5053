//! VMDK.

use std::fs;

use bessemer_image::disk::DiskFault as E;
use bessemer_image::format::{Content, probe};

use crate::sample::{MIB, Sample, assert_reads_like_qemu, refusal, refusal_of_changed, run, text};

#[test]
fn every_kind_of_image_reads_as_qemu_reads_it() {
    for bytes in [512, 1000, 3 * MIB + 512, 40 * MIB] {
        let disk = Sample::new(bytes);
        for options in [
            "subformat=monolithicSparse",
            "subformat=streamOptimized",
            "subformat=monolithicSparse,zeroed_grain=on",
            "subformat=monolithicSparse,compat6=on",
        ] {
            let image = disk.convert("vmdk", &["-o", options]);
            assert_reads_like_qemu(&disk, "vmdk", &image, &format!("{bytes} {options}"));
        }
    }
}

#[test]
fn images_with_a_history_read_as_qemu_reads_them() {
    let disk = Sample::new(8 * MIB);
    let image = disk.convert("vmdk", &["-o", "zeroed_grain=on"]);
    let writes = ["write -P 7 1M 3k", "write -z 2M 128k", "write -P 9 7M 64k"];
    let mut arguments = vec!["-f", "vmdk"];
    arguments.extend(writes.iter().flat_map(|&write| ["-c", write]));
    arguments.push(text(&image));
    run("qemu-io", &arguments);
    assert_reads_like_qemu(&disk, "vmdk", &image, "written");
}

#[test]
fn what_is_not_one_file_is_refused_by_name() {
    let disk = Sample::new(MIB);
    let split = disk.convert("vmdk", &["-o", "subformat=twoGbMaxExtentSparse"]);
    let descriptor = fs::read(&split).unwrap();
    assert!(matches!(probe(&descriptor), Content::Foreign(name) if name.contains("other files")));
    let extent = disk.path("image-s001.vmdk");
    let extent = if extent.exists() { extent } else { disk.path("image-s001") };
    assert!(matches!(refusal("vmdk", &extent), E::Kind { .. }));

    let base = disk.convert("vmdk", &[]);
    let overlay = disk.path("overlay");
    run(
        "qemu-img",
        &["create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", text(&base), text(&overlay)],
    );
    let E::BackingFile { name } = refusal("vmdk", &overlay) else { panic!() };
    assert!(name.ends_with("image"), "{name}");
}

#[test]
fn every_rule_of_the_header_is_checked() {
    let disk = Sample::new(MIB);
    let valid = fs::read(disk.convert("vmdk", &[])).unwrap();
    let changed = |at, bytes: &[u8]| refusal_of_changed("vmdk", &valid, at, bytes).unwrap();
    assert!(matches!(changed(0, b"X"), E::NoMark));
    assert!(matches!(changed(4, &[9]), E::Version { version: 9, .. }));
    assert!(matches!(changed(8, &[8]), E::UnknownFeatures { bits: 8 }));
    assert!(matches!(changed(10, &[1]), E::UnknownCompression { .. } | E::Malformed { .. }));
    assert!(matches!(changed(20, &[3]), E::Malformed { what: "grainSize", .. }));
    assert!(matches!(changed(44, &[1]), E::Malformed { what: "numGTEsPerGT", .. }));
    assert!(matches!(changed(73, b" "), E::Malformed { what: "newline test", .. }));
    assert!(matches!(changed(56, &[0, 0, 0, 0, 1]), E::Truncated { what: "grain directory", .. }));
    assert!(matches!(changed(12, &[0xff; 8]), E::Malformed { what: "capacity", .. }));
    assert!(matches!(changed(36, &[0xff; 8]), E::Malformed { what: "descriptorSize", .. }));
}
