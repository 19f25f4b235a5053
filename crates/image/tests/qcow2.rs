//! The qcow2 reader against `qemu-img`, and against images that it must refuse.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bessemer_image::SourceFile;
use bessemer_image::pack::{RawBytes, RawSource};
use bessemer_image::qcow2::{Qcow2, Qcow2Error};
use proptest::prelude::*;
use tempfile::TempDir;

const MIB: usize = 1 << 20;
const LIMIT_BYTES: u64 = 1 << 40;

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A directory with a raw disk to convert.
struct Disk {
    directory: TempDir,
}

impl Disk {
    /// A sparse disk of `bytes` with noise, text and single sectors here and there.
    fn new(bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let raw = File::create(directory.path().join("raw")).unwrap();
        raw.set_len(bytes as u64).unwrap();
        let mut state = 1_u64;
        for (number, start) in (0..bytes).step_by(300 << 10).enumerate() {
            let length = [70_000, 512, 200_000, 1][number % 4].min(bytes - start);
            let part: Vec<u8> = (0..length)
                .map(|at| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    if number % 3 == 0 { (state >> 56) as u8 } else { (at / 64) as u8 | 1 }
                })
                .collect();
            raw.write_all_at(&part, start as u64).unwrap();
        }
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn convert(&self, options: &[&str]) -> PathBuf {
        let (raw, image) = (self.path("raw"), self.path("image.qcow2"));
        let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2"];
        arguments.extend_from_slice(options);
        arguments.extend([text(&raw), text(&image)]);
        run("qemu-img", &arguments);
        image
    }

    /// What `qemu-img` says that the guest sees.
    fn oracle(&self, image: &Path) -> Vec<u8> {
        let raw = self.path("oracle");
        run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", text(image), text(&raw)]);
        fs::read(raw).unwrap()
    }
}

fn open(image: &Path) -> Result<Qcow2<SourceFile>, Qcow2Error> {
    Qcow2::open(SourceFile::new(File::open(image).unwrap()).unwrap(), LIMIT_BYTES)
}

/// Reads the guest in pieces of `step` bytes.
fn guest(image: &Qcow2<SourceFile>, step: usize) -> Result<Vec<u8>, Qcow2Error> {
    // What the reader calls zero it must not have touched, so the buffer starts as zeros.
    let mut guest = vec![0; image.raw_bytes() as usize];
    for (number, piece) in guest.chunks_mut(step).enumerate() {
        let zero = image.read((number * step) as u64, piece)? == RawBytes::Zero;
        assert!(!zero || piece.iter().all(|&byte| byte == 0));
    }
    Ok(guest)
}

fn assert_reads_like_qemu(disk: &Disk, image: &Path, what: &str) {
    let oracle = disk.oracle(image);
    let image = open(image).unwrap();
    // A chunk, and a size that falls across everything.
    for step in [MIB, 77_777] {
        assert!(guest(&image, step).unwrap() == oracle, "{what}, read by {step}");
    }
}

#[test]
fn every_kind_of_image_reads_as_qemu_reads_it() {
    let disk = Disk::new(9 * MIB + 512 * 3);
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
        assert_reads_like_qemu(&disk, &disk.convert(options), &format!("{options:?}"));
    }
}

#[test]
fn every_cluster_size_reads_as_qemu_reads_it() {
    let disk = Disk::new(5 * MIB);
    for bits in 9..=21 {
        let size = format!("cluster_size={}", 1 << bits);
        for options in [
            &["-o", &size] as &[&str],
            &["-c", "-o", &size],
            &["-c", "-o", &format!("{size},compression_type=zstd")],
        ] {
            assert_reads_like_qemu(&disk, &disk.convert(options), &format!("{options:?}"));
        }
    }
}

#[test]
fn odd_sizes_and_empty_images_read_as_qemu_reads_them() {
    for bytes in [0, 512, 65_536 - 512, 65_536 + 512, 3 * MIB + 5 * 512, 1000] {
        let disk = Disk::new(bytes);
        for options in [&[] as &[&str], &["-c"], &["-o", "extended_l2=on"]] {
            assert_reads_like_qemu(&disk, &disk.convert(options), &format!("{bytes} {options:?}"));
        }
    }
    let disk = Disk::new(0);
    let image = disk.path("empty.qcow2");
    run("qemu-img", &["create", "-f", "qcow2", text(&image), "40M"]);
    assert_reads_like_qemu(&disk, &image, "created");
}

/// Written by a guest, not by a conversion: subclusters, zero clusters and a snapshot that shares
/// and hides clusters.
#[test]
fn images_with_a_history_read_as_qemu_reads_them() {
    for extended in ["off", "on"] {
        let disk = Disk::new(8 * MIB);
        let image = disk.convert(&["-o", &format!("extended_l2={extended}")]);
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
        assert_reads_like_qemu(&disk, &image, extended);
    }
}

#[test]
fn what_is_not_self_contained_is_refused_by_name() {
    let disk = Disk::new(MIB);
    let raw = disk.path("raw");
    let image = disk.path("image.qcow2");
    run("qemu-img", &["create", "-q", "-f", "qcow2", "-F", "raw", "-b", text(&raw), text(&image)]);
    let Err(Qcow2Error::BackingFile { name }) = open(&image) else { panic!() };
    assert_eq!(name, text(&raw));

    let external = format!("data_file={}", text(&disk.path("data")));
    disk.convert(&["-o", &external]);
    assert!(matches!(open(&image), Err(Qcow2Error::ExternalDataFile)));

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
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
            text(&image),
            "1M",
        ],
    );
    assert!(matches!(open(&image), Err(Qcow2Error::Encrypted { method: 2 })));
}

/// A valid image with one field of the header changed.
#[test]
fn every_rule_of_the_header_is_checked() {
    let disk = Disk::new(MIB);
    let valid = fs::read(disk.convert(&[])).unwrap();
    let changed = |at: usize, bytes: &[u8]| {
        let mut image = valid.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        Qcow2::open(image.as_slice(), LIMIT_BYTES).unwrap_err()
    };
    use Qcow2Error as E;
    assert!(matches!(changed(0, b"X"), E::NotQcow2));
    assert!(matches!(changed(7, &[4]), E::Version { version: 4 }));
    assert!(matches!(changed(79, &[1]), E::Dirty));
    assert!(matches!(changed(79, &[2]), E::Corrupt));
    assert!(matches!(changed(79, &[4]), E::ExternalDataFile));
    assert!(matches!(changed(79, &[8]), E::Malformed { what: "compression_type", .. }));
    assert!(matches!(changed(79, &[32]), E::UnknownFeatures { bits: 32 }));
    assert!(matches!(changed(104, &[1]), E::Malformed { what: "compression_type", .. }));
    assert!(matches!(changed(104, &[2]), E::UnknownCompression { compression_type: 2 }));
    assert!(matches!(changed(23, &[8]), E::Malformed { what: "cluster_bits", .. }));
    assert!(matches!(changed(23, &[22]), E::Malformed { what: "cluster_bits", .. }));
    assert!(matches!(changed(24, &[1]), E::TooLarge { limit_bytes: LIMIT_BYTES, .. }));
    assert!(matches!(changed(35, &[1]), E::Encrypted { method: 1 }));
    assert!(matches!(changed(36, &[0; 4]), E::Malformed { what: "l1_size", .. }));
    assert!(matches!(changed(36, &[0xff; 4]), E::Malformed { what: "l1_size", .. }));
    assert!(matches!(changed(47, &[1]), E::Malformed { what: "l1_table_offset", .. }));
    assert!(matches!(changed(41, &[1]), E::Truncated { what: "L1 table", .. }));
    assert!(matches!(changed(100, &[0; 4]), E::Malformed { what: "header_length", .. }));
    for cut in [0, 3, 60, 90] {
        assert!(Qcow2::open(&valid[..cut], LIMIT_BYTES).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_truncated_image_names_the_offset_and_the_length_of_the_file() {
    let disk = Disk::new(6 * MIB);
    for options in [&[] as &[&str], &["-c"], &["-c", "-o", "compression_type=zstd"]] {
        let path = disk.convert(options);
        let whole = fs::metadata(&path).unwrap().len();
        File::options().write(true).open(&path).unwrap().set_len(whole - 70_000).unwrap();
        let error = guest(&open(&path).unwrap(), MIB).unwrap_err();
        let Qcow2Error::Truncated { source_bytes, .. } = error else { panic!("{error}") };
        assert_eq!(source_bytes, whole - 70_000);
        assert!(error.to_string().contains(&source_bytes.to_string()), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever stands in the header and the tables, reading ends, with bytes or an error.
    #[test]
    fn damaged_images_never_panic(
        kind in 0_usize..4,
        damage in prop::collection::vec((0_usize..0x50_000, any::<u8>()), 1..8),
        header in prop::collection::vec((4_usize..112, any::<u8>()), 0..2),
        cut in 0_usize..0x80_000,
    ) {
        use std::sync::LazyLock;
        static IMAGES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
            let disk = Disk::new(MIB);
            [
                &["-o", "cluster_size=4k"] as &[&str],
                &["-c"],
                &["-c", "-o", "compression_type=zstd,cluster_size=512"],
                &["-o", "extended_l2=on"],
            ]
            .map(|options| fs::read(disk.convert(options)).unwrap())
            .to_vec()
        });
        let mut image = IMAGES[kind].clone();
        for (at, byte) in damage.into_iter().chain(header) {
            let at = at % image.len();
            image[at] = byte;
        }
        if cut < image.len() && cut % 3 == 0 {
            image.truncate(cut);
        }
        if let Ok(image) = Qcow2::open(image.as_slice(), 64 << 20) {
            let mut piece = vec![0; MIB];
            for offset in (0..image.raw_bytes()).step_by(MIB).take(4) {
                let bytes = (image.raw_bytes() - offset).min(MIB as u64) as usize;
                let _ = image.read(offset, &mut piece[..bytes]);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_behind_the_magic_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut image = b"QFI\xfb\0\0\0\x03".to_vec();
        image.extend(bytes);
        let _ = Qcow2::open(image.as_slice(), LIMIT_BYTES);
    }
}
