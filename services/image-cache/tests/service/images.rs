//! Disks and images to prepare.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use sha2::Digest as _;

/// A disk with a boot sector, a few MiB of noise and text, and holes; no multiple of a chunk long.
pub(crate) fn disk(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut disk = vec![0; (9 << 20) + 512 * 7];
    for start in [0, 3 << 20, (5 << 20) + 700, 9 << 20] {
        for (at, byte) in disk[start..].iter_mut().take(600_000).enumerate() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = if at % 3 == 0 { (state >> 56) as u8 } else { (at / 97) as u8 };
        }
    }
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

/// The disk as a qcow2, made by `qemu-img convert` with more options.
pub(crate) fn qcow2(disk: &[u8], options: &[&str]) -> Vec<u8> {
    converted(disk, "qcow2", options)
}

/// The disk as an image of a format, in QEMU's name for it.
pub(crate) fn converted(disk: &[u8], format: &str, options: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let (raw, image) = (directory.path().join("raw"), directory.path().join("image"));
    std::fs::write(&raw, disk).unwrap();
    let files = [text(&raw), text(&image)];
    qemu_img(&[&["convert", "-f", "raw", "-O", format], options, &files].concat());
    std::fs::read(image).unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "qemu-img {arguments:?}: {errors}");
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(sha2::Sha256::digest(bytes))
}
