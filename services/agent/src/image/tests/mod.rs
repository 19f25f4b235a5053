//! Images from a server that cuts, damages and refuses, onto disks that are files.

mod decoded;
mod origin;
mod pack;
mod partition;
mod raw;

use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bessemer_image::digest::{Algorithm, Digest, Hasher};
use bessemer_image::pack::{
    CHUNK_BYTES, ChunkIndex, Manifest, PackOptions, SequentialSource, write_pack,
};
use bessemer_proto::v1::write_image_task::Source;
use bessemer_proto::v1::{PackSource, RawSource, WriteImageTask, WriteReport};
use clap::Parser;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::write;
use crate::config::Config;
use crate::disk::OpenDisk;
use crate::machine::Machine;
use crate::partition::Table;
use crate::task::{Meter, TaskError};
use origin::{Fault, Origin};

const MIB: usize = 1 << 20;

/// How long a write may take before the test calls it stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// A prepared image and what it was made of.
struct Prepared {
    raw: Vec<u8>,
    manifest: Manifest,
    pack: Vec<u8>,
}

impl Prepared {
    fn of(raw: Vec<u8>) -> Self {
        let options = PackOptions {
            level: 1,
            raw_algorithm: Algorithm::Sha256,
            workers: NonZeroUsize::new(2).unwrap(),
        };
        let mut pack = Vec::new();
        let source = SequentialSource::new(raw.as_slice(), Some(raw.len() as u64));
        let manifest = write_pack(&source, &mut pack, &options, |_| {}).unwrap().manifest;
        Self { raw, manifest, pack }
    }

    async fn serve(&self) -> Origin {
        let manifest = self.manifest.encoded().to_vec();
        Origin::start([("/manifest", manifest), ("/pack", self.pack.clone())]).await
    }

    fn task(&self, origins: &[&Origin]) -> WriteImageTask {
        let pack = PackSource {
            urls: origins.iter().map(|origin| origin.url.clone()).collect(),
            manifest_digest: self.manifest.digest().as_bytes().to_vec(),
            raw_size_bytes: self.manifest.raw_bytes(),
        };
        WriteImageTask { source: Some(Source::Pack(pack)), ..WriteImageTask::default() }
    }
}

/// Bytes that look random and always are the same.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    words.flat_map(u64::to_le_bytes).take(length).collect()
}

/// A disk image of `mebibytes` with a GPT and one partition. Every third chunk holds data, the
/// rest is zero.
fn partitioned_image(mebibytes: usize) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len((mebibytes * MIB) as u64).unwrap();
    run("sgdisk", &["--new=1:2048:0", "--change-name=1:root"], file.path());
    let mut raw = std::fs::read(file.path()).unwrap();
    for chunk in (1..mebibytes - 1).step_by(3) {
        raw[chunk * MIB..(chunk + 1) * MIB].copy_from_slice(&noise(chunk as u64, MIB));
    }
    raw
}

/// A disk full of old data, with an old partition table at both ends.
fn used_disk(mebibytes: usize) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), noise(99, mebibytes * MIB)).unwrap();
    run("sgdisk", &["--clear", "--new=1:2048:0", "--change-name=1:old"], file.path());
    assert!(has_table(file.path()));
    file
}

fn run(program: &str, arguments: &[&str], disk: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(disk).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    text
}

/// Whether firmware or a kernel would find partitions.
fn has_table(disk: &Path) -> bool {
    Table::read(&OpenDisk::open(disk).unwrap()).unwrap().is_some()
}

/// A task of writing, and the ways to look at it.
struct Writing {
    urls: watch::Sender<Vec<String>>,
    meter: Arc<Meter>,
    stop: CancellationToken,
    work: tokio::task::JoinHandle<Result<WriteReport, TaskError>>,
}

fn begin(disk: &Path, task: WriteImageTask, resume: bool) -> Writing {
    bessemer_runtime::install_tls_provider();
    let arguments = ["agent", "--api-url", "http://unused", "--disk"];
    let config =
        Config::parse_from(arguments.iter().map(std::ffi::OsStr::new).chain([disk.as_os_str()]));
    let machine = Machine::new(&config);
    let (meter, stop) = (Arc::new(Meter::default()), CancellationToken::new());
    let (task_meter, task_stop) = (Arc::clone(&meter), stop.clone());
    let (urls, task_urls) = watch::channel(pack_urls(&task));
    let work = tokio::spawn(async move {
        let work = write(&machine, task, resume, task_urls, &task_meter, &task_stop);
        tokio::time::timeout(PATIENCE, work).await.expect("stuck")
    });
    Writing { urls, meter, stop, work }
}

fn pack_urls(task: &WriteImageTask) -> Vec<String> {
    match &task.source {
        Some(Source::Pack(pack)) => pack.urls.clone(),
        _ => Vec::new(),
    }
}

async fn write_to(disk: &Path, task: WriteImageTask) -> Result<WriteReport, TaskError> {
    begin(disk, task, false).work.await.unwrap()
}

fn assert_holds(disk: &Path, raw: &[u8]) {
    let content = std::fs::read(disk).unwrap();
    let wrong = raw.iter().zip(&content).position(|(expected, found)| expected != found);
    assert_eq!(wrong, None, "first wrong byte");
    assert!(content.len() >= raw.len());
}
