//! Disks to convert with `qemu-img`, which is the oracle too.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bessemer_image::SourceFile;
use bessemer_image::disk::{Disk, DiskError, DiskFault};
use bessemer_image::pack::{RawBytes, RawSource};
use tempfile::TempDir;

pub(crate) const MIB: usize = 1 << 20;
pub(crate) const LIMIT_BYTES: u64 = 1 << 42;

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A directory with a raw disk to convert.
pub(crate) struct Sample {
    directory: TempDir,
}

impl Sample {
    /// A sparse disk of `bytes` with noise, text and single sectors here and there.
    pub(crate) fn new(bytes: usize) -> Self {
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The disk as an image of a format, in QEMU's name for it.
    pub(crate) fn convert(&self, format: &str, options: &[&str]) -> PathBuf {
        let (raw, image) = (self.path("raw"), self.path("image"));
        let mut arguments = vec!["convert", "-f", "raw", "-O", format];
        arguments.extend_from_slice(options);
        arguments.extend([text(&raw), text(&image)]);
        run("qemu-img", &arguments);
        image
    }

    /// What `qemu-img` says that the guest sees.
    fn oracle(&self, format: &str, image: &Path) -> Vec<u8> {
        let raw = self.path("oracle");
        run("qemu-img", &["convert", "-f", format, "-O", "raw", text(image), text(&raw)]);
        fs::read(raw).unwrap()
    }
}

/// Opens an image, by QEMU's name of its format.
pub(crate) fn open(format: &str, image: &Path) -> Result<Disk<SourceFile>, DiskError> {
    let source = SourceFile::new(File::open(image).unwrap()).unwrap();
    Disk::open(format.parse().unwrap(), source, LIMIT_BYTES)
}

/// Why an image is refused.
pub(crate) fn refusal(format: &str, image: &Path) -> DiskFault {
    open(format, image).unwrap_err().fault
}

/// Reads the guest in pieces of `step` bytes.
pub(crate) fn guest(image: &Disk<SourceFile>, step: usize) -> Result<Vec<u8>, DiskError> {
    // What the reader calls zero it must not have touched, so the buffer starts as zeros.
    let mut guest = vec![0; image.virtual_bytes() as usize];
    for (number, piece) in guest.chunks_mut(step).enumerate() {
        let zero = image.read((number * step) as u64, piece)? == RawBytes::Zero;
        assert!(!zero || piece.iter().all(|&byte| byte == 0));
    }
    Ok(guest)
}

pub(crate) fn assert_reads_like_qemu(sample: &Sample, format: &str, image: &Path, what: &str) {
    let oracle = sample.oracle(format, image);
    let image = open(format, image).unwrap();
    // A chunk, and a size that falls across everything.
    for step in [MIB, 77_777] {
        assert!(guest(&image, step).unwrap() == oracle, "{format} {what}, read by {step}");
    }
}

/// What a valid image is refused for with some bytes changed.
pub(crate) fn refusal_of_changed(
    format: &str,
    valid: &[u8],
    at: usize,
    bytes: &[u8],
) -> Option<DiskFault> {
    let mut image = valid.to_vec();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    let opened = Disk::open(format.parse().unwrap(), image.as_slice(), LIMIT_BYTES);
    opened.err().map(|error| error.fault)
}
