//! The processes that decode: what they may do, and what is left of an image that ends one.

use std::path::{Path, PathBuf};
use std::process::Command;

use bessemer_proto::v1;
use bytes::Bytes;
use tonic::{Code, Status};

use crate::client::{Cache, error_info, id, prepare, spec, wait_for};
use crate::images::{disk, qcow2, sha256};
use crate::origin::{Origin, Served};

/// A cache that decodes an image of which half does not come.
struct Halted {
    cache: Cache,
    source: Vec<u8>,
    url: String,
    /// Of the decoder, in `/proc`.
    decoder: PathBuf,
    preparing: tokio::task::JoinHandle<Result<v1::Image, Status>>,
}

impl Halted {
    async fn start(origin: &Origin, disk: &[u8]) -> Self {
        let (cache, source) = (Cache::start().await, qcow2(disk, &[]));
        let content = Bytes::copy_from_slice(&source);
        let stall_after = Some(source.len() / 2);
        let url = origin.put("disk", Served { content, stall_after, ..Served::default() });
        let (client, request) = (cache.grpc.clone(), spec(&url, &sha256(&source)));
        let preparing = tokio::spawn(async move { prepare(&client, request).await });
        let staging = cache.data("staging");
        let decoder = wait_for("a confined decoder", || async {
            let decoder = decoder_of(&staging)?;
            is_confined(&decoder).then_some(decoder)
        })
        .await;
        Self { cache, source, url, decoder, preparing }
    }
}

/// The process that has a file below `staging` open, which is the one that decodes for that cache.
fn decoder_of(staging: &Path) -> Option<PathBuf> {
    let has_open = |process: &Path| {
        let files = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        files
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .any(|it| it.starts_with(staging))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
    processes
        .filter(|process| {
            let name = std::fs::read(process.join("cmdline")).unwrap_or_default();
            name == b"bessemer-decoder\0"
        })
        .find(|process| has_open(process))
}

fn is_confined(process: &Path) -> bool {
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    status.lines().any(|line| line == "Seccomp:\t2")
}

fn kill(signal: &str, process: &Path) {
    let id = process.file_name().unwrap();
    assert!(Command::new("kill").arg("-s").arg(signal).arg(id).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_is_confined_and_is_gone_with_its_cache() {
    let origin = Origin::start().await;
    let Halted { cache, decoder, preparing, .. } = Halted::start(&origin, &disk(60)).await;
    let limits = std::fs::read_to_string(decoder.join("limits")).unwrap();
    for limit in [
        "Max cpu time",
        "Max file size",
        "Max core file size",
        "Max open files",
        "Max address space",
    ] {
        let line = limits.lines().find(|line| line.starts_with(limit)).unwrap();
        assert!(!line.contains("unlimited"), "{line}");
    }
    let environment = std::fs::read(decoder.join("environ")).unwrap();
    assert!(environment.is_empty(), "{}", String::from_utf8_lossy(&environment));
    drop(cache.stop().await);
    assert!(preparing.await.unwrap().is_err());
    wait_for("the decoder's end", || async { (!decoder.exists()).then_some(()) }).await;
}

/// However it dies, its own preparation fails with what can be said of it, nothing is left, and the cache goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_ends_its_decoder_fails_alone() {
    let origin = Origin::start().await;
    for (signal, code, message) in [
        ("ILL", Code::FailedPrecondition, "signal: 4"),
        ("XCPU", Code::FailedPrecondition, "processor time"),
        ("XFSZ", Code::FailedPrecondition, "max_image_bytes"),
        ("ABRT", Code::FailedPrecondition, "memory"),
        ("KILL", Code::Unavailable, "signal: 9"),
    ] {
        let disk = disk(61);
        let halted = Halted::start(&origin, &disk).await;
        let Halted { cache, source, url, decoder, preparing } = halted;
        kill(signal, &decoder);
        // Its digest could explain it, so the source is read to its end, which here does not come.
        wait_for("the decoder's end", || async { (!decoder.exists()).then_some(()) }).await;
        origin.put("disk", Served { content: source.clone().into(), ..Served::default() });
        origin.break_connections();
        let error = preparing.await.unwrap().unwrap_err();
        assert_eq!(
            (error.code(), error_info(&error).0.as_str()),
            (code, "IMAGE_DECODER_FAILED"),
            "{error}"
        );
        assert!(error.message().contains(message) && error.message().contains(&url), "{error}");
        assert!(cache.stored("staging").is_empty() && cache.stored("images").is_empty());

        let image = cache.prepare(spec(&url, &sha256(&source))).await.unwrap();
        let (_, raw) = cache.get(id(&image), "raw", "").await;
        assert!(raw == disk);
    }
}

/// A source that is announced as larger than the disk is refused before it is downloaded, and takes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_source_for_which_there_is_no_space_fails_at_once() {
    let (cache, origin) = (
        Cache::start_in(tempfile::tempdir().unwrap(), |config| {
            config.max_image_bytes = 1 << 44;
        })
        .await,
        Origin::start().await,
    );
    let source = qcow2(&disk(62), &[]);
    let served = Served {
        content: Bytes::copy_from_slice(&source),
        announced_bytes: Some(1 << 43),
        stall_after: Some(1 << 20),
        ..Served::default()
    };
    let error =
        cache.prepare(spec(&origin.put("huge", served), &sha256(&source))).await.unwrap_err();
    assert_eq!(
        (error.code(), error_info(&error).0.as_str()),
        (Code::ResourceExhausted, "OUT_OF_SPACE")
    );
    assert!(error.message().contains("8796093022208 bytes"), "{error}");
    assert!(cache.stored("downloads").is_empty() && cache.stored("staging").is_empty());
    cache.prepare(spec(&origin.put_bytes("small", &source), &sha256(&source))).await.unwrap();
}
