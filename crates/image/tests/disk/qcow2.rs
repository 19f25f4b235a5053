//! qcow2.

use std::fs::{self, File};

use bessemer_image::disk::{Disk, DiskFault};
use bessemer_image::format::DiskFormat;

use crate::sample::{
    LIMIT_BYTES, MIB, Sample, assert_reads_like_qemu, guest, open, refusal, refusal_of_changed,
    run, text,
};

#[test]
fn every_kind_of_image_reads_as_qemu_reads_it() {
    let disk = Sample::new(9 * MIB + 512 * 3);
    for options in [
        &["-o", "compat=1.1"] as &[&str],
        &["-o", "compat=0.10"],
        &["-c"],
        &["-c", "-o", "compat=0.10"],
        &["-c", "-o", "compression_type=zstd"],
        &["-o", "extended_l2=on"],
        &["-o", "extended_l2=on,cluster_size=16k"],
        &["-o", "extended_l2=on,cluster_size=2M"],
        &["-c", "-o", "extended_l2=on,compression_type=zstd"],
        &["-o", "lazy_refcounts=on"],
        &["-o", "preallocation=metadata"],
        &["-S", "0"],
    ] {
        assert_reads_like_qemu(
            &disk,
            "qcow2",
            &disk.convert("qcow2", options),
            &format!("{options:?}"),
        );
    }
}

#[test]
fn every_cluster_size_reads_as_qemu_reads_it() {
    let disk = Sample::new(5 * MIB);
    for bits in 9..=21 {
        let size = format!("cluster_size={}", 1 << bits);
        for options in [
            &["-o", &size] as &[&str],
            &["-c", "-o", &size],
            &["-c", "-o", &format!("{size},compression_type=zstd")],
        ] {
            assert_reads_like_qemu(
                &disk,
                "qcow2",
                &disk.convert("qcow2", options),
                &format!("{options:?}"),
            );
        }
    }
}

#[test]
fn odd_sizes_and_empty_images_read_as_qemu_reads_them() {
    for bytes in [0, 512, 65_536 - 512, 65_536 + 512, 3 * MIB + 5 * 512, 1000] {
        let disk = Sample::new(bytes);
        for options in [&[] as &[&str], &["-c"], &["-o", "extended_l2=on"]] {
            assert_reads_like_qemu(
                &disk,
                "qcow2",
                &disk.convert("qcow2", options),
                &format!("{bytes} {options:?}"),
            );
        }
    }
    let disk = Sample::new(0);
    let image = disk.path("empty.qcow2");
    run("qemu-img", &["create", "-f", "qcow2", text(&image), "40M"]);
    assert_reads_like_qemu(&disk, "qcow2", &image, "created");
}

/// Written by a guest, not by a conversion: subclusters, zero clusters and a snapshot that shares
/// and hides clusters.
#[test]
fn images_with_a_history_read_as_qemu_reads_them() {
    for extended in ["off", "on"] {
        let disk = Sample::new(8 * MIB);
        let image = disk.convert("qcow2", &["-o", &format!("extended_l2={extended}")]);
        let writes = |commands: &[&str]| {
            let mut arguments: Vec<&str> = commands.iter().flat_map(|&c| ["-c", c]).collect();
            arguments.push(text(&image));
            run("qemu-io", &arguments);
        };
        writes(&["write -P 7 1M 3k", "write -z 2M 128k", "write -P 9 2100k 1k"]);
        run("qemu-img", &["snapshot", "-c", "before", text(&image)]);
        writes(&[
            "write -P 5 1M 64k",
            "write -z -u 3M 1M",
            "discard 5M 256k",
            "write -P 1 8191k 1k",
        ]);
        assert_reads_like_qemu(&disk, "qcow2", &image, extended);
    }
}

#[test]
fn what_is_not_self_contained_is_refused_by_name() {
    let disk = Sample::new(MIB);
    let raw = disk.path("raw");
    let image = disk.path("image");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", text(&raw), text(&image)]);
    let DiskFault::BackingFile { name } = refusal("qcow2", &image) else { panic!() };
    assert_eq!(name, text(&raw));

    let external = format!("data_file={}", text(&disk.path("data")));
    disk.convert("qcow2", &["-o", &external]);
    assert!(matches!(refusal("qcow2", &image), DiskFault::ExternalDataFile));

    run(
        "qemu-img",
        &[
            "create",
            "-q",
            "--object",
            "secret,id=s,data=abc",
            "-f",
            "qcow2",
            "-o",
            "encrypt.format=aes,encrypt.key-secret=s",
            text(&image),
            "1M",
        ],
    );
    assert!(matches!(refusal("qcow2", &image), DiskFault::Encrypted { method: 1 }));
}

/// A valid image with one field of the header changed.
#[test]
fn every_rule_of_the_header_is_checked() {
    let disk = Sample::new(MIB);
    let valid = fs::read(disk.convert("qcow2", &[])).unwrap();
    let changed = |at, bytes: &[u8]| refusal_of_changed("qcow2", &valid, at, bytes).unwrap();
    use DiskFault as E;
    assert!(matches!(changed(0, b"X"), E::NoMark));
    assert!(matches!(changed(7, &[4]), E::Version { version: 4, .. }));
    // LUKS.
    assert!(matches!(changed(35, &[2]), E::Encrypted { method: 2 }));
    assert!(matches!(changed(79, &[1]), E::Dirty));
    assert!(matches!(changed(79, &[2]), E::Corrupt));
    assert!(matches!(changed(79, &[4]), E::ExternalDataFile));
    assert!(matches!(changed(79, &[8]), E::Malformed { what: "compression_type", .. }));
    assert!(matches!(changed(79, &[32]), E::UnknownFeatures { bits: 32 }));
    assert!(matches!(changed(104, &[1]), E::Malformed { what: "compression_type", .. }));
    assert!(matches!(changed(104, &[2]), E::UnknownCompression { compression_type: 2 }));
    assert!(matches!(changed(23, &[8]), E::Malformed { what: "cluster_bits", .. }));
    assert!(matches!(changed(23, &[22]), E::Malformed { what: "cluster_bits", .. }));
    assert!(matches!(changed(24, &[1]), E::Malformed { what: "l1_size", .. }));
    assert!(matches!(changed(35, &[1]), E::Encrypted { method: 1 }));
    assert!(matches!(changed(36, &[0; 4]), E::Malformed { what: "l1_size", .. }));
    assert!(matches!(changed(36, &[0xff; 4]), E::Malformed { what: "l1_size", .. }));
    assert!(matches!(changed(47, &[1]), E::Malformed { what: "l1_table_offset", .. }));
    assert!(matches!(changed(41, &[1]), E::Truncated { what: "L1 table", .. }));
    assert!(matches!(changed(100, &[0; 4]), E::Malformed { what: "header_length", .. }));
    for cut in [0, 3, 60, 90] {
        let cut_image = Disk::open(DiskFormat::Qcow2, &valid[..cut], LIMIT_BYTES);
        assert!(cut_image.is_err(), "cut at {cut}");
    }
}

#[test]
fn a_truncated_image_names_the_offset_and_the_length_of_the_file() {
    let disk = Sample::new(6 * MIB);
    for options in [&[] as &[&str], &["-c"], &["-c", "-o", "compression_type=zstd"]] {
        let path = disk.convert("qcow2", options);
        let whole = fs::metadata(&path).unwrap().len();
        File::options().write(true).open(&path).unwrap().set_len(whole - 70_000).unwrap();
        let error = guest(&open("qcow2", &path).unwrap(), MIB).unwrap_err();
        let DiskFault::Truncated { source_bytes, .. } = error.fault else { panic!("{error}") };
        assert_eq!(source_bytes, whole - 70_000);
        assert!(error.to_string().contains(&source_bytes.to_string()), "{error}");
    }
}
