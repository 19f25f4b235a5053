//! Preparing an image: everything between a URL and a verified raw image that can be deployed.
//!
//! The peer is what an operator (and Ironic's conductor) does: download with curl, check the
//! download's sha256, convert with qemu-img, compute the raw image's sha256. Ours does the same and
//! compresses and hashes every chunk besides.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bessemer_proto::v1;
use bessemer_proto::v1::image_service_client::ImageServiceClient;
use bessemer_proto::v1::prepare_image_response::Update;
use tonic::transport::{Channel, Endpoint};

use crate::report::{Report, mebibytes, median};
use crate::{disk, origin, run};

/// How long the cache may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What to prepare and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    disk: disk::Size,
    /// Runs of each case; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// zstd levels of the pack to measure.
    #[arg(long, value_delimiter = ',', default_values_t = [bessemer_image_cache::DEFAULT_COMPRESSION_LEVEL], allow_negative_numbers = true)]
    levels: Vec<i32>,
    /// Where to work; needs about four times the disk's size. Default: a temporary directory.
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// The same disk in the formats that users have.
const SOURCES: [(&str, &[&str]); 4] = [
    ("raw", &["-O", "raw"]),
    ("qcow2", &["-O", "qcow2"]),
    ("qcow2-zlib", &["-O", "qcow2", "-c"]),
    ("qcow2-zstd", &["-O", "qcow2", "-c", "-o", "compression_type=zstd"]),
];

/// One preparation by the cache.
struct Ours {
    seconds: f64,
    peak_rss_bytes: u64,
    peak_disk_bytes: u64,
    image: v1::ResolvedImage,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let temporary = tempfile::tempdir()?;
    let directory = arguments.directory.unwrap_or_else(|| temporary.path().to_owned());
    fs::create_dir_all(&directory)?;
    let disk = arguments.disk.make(&directory)?;
    let address = origin::serve(&directory)?;
    let columns = ["source", "ours", "peer", "peer's steps", "peak RSS", "pack", "extra disk"];
    let mut report = Report::new("prepare", &columns);
    for (name, options) in SOURCES {
        let source = directory.join(name);
        let mut convert = vec!["convert".as_ref(), "-f".as_ref(), "raw".as_ref()];
        convert.extend(options.iter().map(std::ffi::OsStr::new));
        convert.extend([disk.as_os_str(), source.as_os_str()]);
        disk::run("qemu-img", &convert)?;
        let url = format!("http://{address}/{name}");
        let checksum = sha256(&source)?;
        for &level in &arguments.levels {
            let (mut ours, mut peer) = (Vec::new(), Vec::new());
            for run in 0..arguments.runs {
                eprintln!("{name}, level {level}, run {}", run + 1);
                peer.push(measure_peer(&directory, &url, name, &checksum)?);
                ours.push(measure_ours(&directory, &url, &checksum, level).await?);
                let (raw, expected) = (&ours[run].image.raw_hash_value, &peer[run].raw_sha256);
                ensure!(raw == expected, "raw digests differ: ours {raw}, qemu-img's {expected}");
            }
            let case = if arguments.levels.len() == 1 {
                name.to_owned()
            } else {
                format!("{name}.level{level}")
            };
            add(&mut report, &case, fs::metadata(&source)?.len(), &ours, &peer);
        }
        fs::remove_file(source)?;
    }
    report.print();
    Ok(())
}

fn add(report: &mut Report, case: &str, source_bytes: u64, ours: &[Ours], peer: &[Peer]) {
    let ours_seconds = median(ours.iter().map(|run| run.seconds).collect());
    let peer_seconds = median(peer.iter().map(|run| run.steps.iter().sum()).collect());
    let steps: Vec<_> = (0..4)
        .map(|step| format!("{:.2}", median(peer.iter().map(|run| run.steps[step]).collect())))
        .collect();
    let most = |of: fn(&Ours) -> u64| mebibytes(ours.iter().map(of).max().unwrap_or_default());
    let row = vec![
        mebibytes(source_bytes),
        format!("{ours_seconds:.2} s"),
        format!("{peer_seconds:.2} s"),
        steps.join(" + "),
        most(|run| run.peak_rss_bytes),
        most(|run| run.image.pack_size_bytes),
        most(|run| run.peak_disk_bytes),
    ];
    report.less_is_better(case, ours_seconds, peer_seconds, row);
}

/// One preparation by hand.
struct Peer {
    /// Seconds for download, digest of the source, conversion, digest of the raw image.
    steps: [f64; 4],
    raw_sha256: String,
}

fn measure_peer(directory: &Path, url: &str, name: &str, checksum: &str) -> anyhow::Result<Peer> {
    let (source, raw) = (directory.join("peer.source"), directory.join("peer.raw"));
    let mut steps = [0.0; 4];
    let mut step = |number: usize, work: &mut dyn FnMut() -> anyhow::Result<()>| {
        let began = Instant::now();
        work()?;
        steps[number] = began.elapsed().as_secs_f64();
        anyhow::Ok(())
    };
    step(0, &mut || run!("curl", "-sSf", "-o", &source, url).map(drop))?;
    step(1, &mut || {
        ensure!(sha256(&source)? == checksum, "the download differs from the source");
        Ok(())
    })?;
    // What is raw already need not be converted, and its digest is known.
    let mut raw_sha256 = checksum.to_owned();
    if name != "raw" {
        step(2, &mut || {
            run!("qemu-img", "convert", "-f", "qcow2", "-O", "raw", &source, &raw).map(drop)
        })?;
        step(3, &mut || {
            raw_sha256 = sha256(&raw)?;
            Ok(())
        })?;
        fs::remove_file(&raw)?;
    }
    fs::remove_file(&source)?;
    run!("sync")?;
    Ok(Peer { steps, raw_sha256 })
}

/// By openssl, which uses the CPU's SHA instructions; coreutils' sha256sum in Debian 12 does not
/// and takes about three times as long.
fn sha256(path: &Path) -> anyhow::Result<String> {
    let line = run!("openssl", "dgst", "-sha256", "-r", path)?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
}

async fn measure_ours(
    directory: &Path,
    url: &str,
    checksum: &str,
    level: i32,
) -> anyhow::Result<Ours> {
    let data = directory.join("cache");
    let (cache, mut client) = Cache::start(directory, &data, level).await?;
    let request = v1::PrepareImageRequest {
        image: Some(v1::ImageSpec {
            source: url.to_owned(),
            checksum: checksum.to_owned(),
            ..v1::ImageSpec::default()
        }),
        name: String::new(),
        in_every_cache: false,
    };
    let peaks = Arc::new(Peaks::default());
    let watcher = thread::spawn({
        let (peaks, data, cache) = (Arc::clone(&peaks), data.clone(), cache.0.id());
        move || {
            while !peaks.is_over.load(Ordering::Relaxed) {
                peaks.disk_bytes.fetch_max(stored_bytes(&data), Ordering::Relaxed);
                peaks.decoder_rss_bytes.fetch_max(decoder_rss_bytes(cache), Ordering::Relaxed);
                thread::park_timeout(Duration::from_millis(50));
            }
        }
    });
    let began = Instant::now();
    let mut updates = client.prepare_image(request).await?.into_inner();
    let mut prepared = None;
    while let Some(response) = updates.message().await? {
        if let Some(Update::Image(image)) = response.update {
            prepared = image.resolved;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    peaks.is_over.store(true, Ordering::Relaxed);
    watcher.thread().unpark();
    watcher.join().map_err(|_| anyhow::anyhow!("the disk watcher died"))?;
    // Of the cache, and of the process that decodes for it.
    let peak_rss_bytes = bessemer_testkit::peak_rss_bytes(cache.0.id())?
        + peaks.decoder_rss_bytes.load(Ordering::Relaxed);
    drop(cache);
    let image = prepared.context("the cache ended the stream without an image")?;
    // What is left after the preparation is the pack, not extra.
    let peak_disk_bytes =
        peaks.disk_bytes.load(Ordering::Relaxed).saturating_sub(image.pack_size_bytes);
    fs::remove_dir_all(&data)?;
    run!("sync")?;
    Ok(Ours { seconds, peak_rss_bytes, peak_disk_bytes, image })
}

/// What a preparation took at the most, as it was seen from time to time.
#[derive(Default)]
struct Peaks {
    disk_bytes: AtomicU64,
    decoder_rss_bytes: AtomicU64,
    is_over: AtomicBool,
}

/// The most that a process of a cache's has held so far; 0 when it has none.
fn decoder_rss_bytes(cache: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{cache}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    let held = children.flat_map(|children| {
        let ids: Vec<u32> = children.split(' ').filter_map(|id| id.trim().parse().ok()).collect();
        ids.into_iter().filter_map(|id| bessemer_testkit::peak_rss_bytes(id).ok())
    });
    held.max().unwrap_or_default()
}

/// Bytes of all files in the directories of a cache.
fn stored_bytes(data: &Path) -> u64 {
    let directories = fs::read_dir(data).into_iter().flatten().flatten();
    let files =
        directories.flat_map(|directory| fs::read_dir(directory.path()).into_iter().flatten());
    files.flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// The cache as it is in production: a process of its own. Killed when dropped.
struct Cache(Child);

impl Drop for Cache {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cache {
    async fn start(
        directory: &Path,
        data: &Path,
        level: i32,
    ) -> anyhow::Result<(Self, ImageServiceClient<Channel>)> {
        let grpc: SocketAddr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = directory.join("cache.toml");
        fs::write(
            &config,
            format!(
                "data_dir = {data:?}\ngrpc_listen = \"{grpc}\"\nhttp_listen = \"127.0.0.1:0\"\n\
                 compression_level = {level}\n"
            ),
        )?;
        let binary = std::env::current_exe()?.with_file_name("bessemer-image-cache");
        let child = Command::new(&binary)
            .arg("--config")
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut cache = Self(child);
        let endpoint = Endpoint::from_shared(format!("http://{grpc}"))?;
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if let Ok(channel) = endpoint.connect().await {
                return Ok((cache, ImageServiceClient::new(channel)));
            }
            if let Some(status) = cache.0.try_wait()? {
                bail!("the cache ended with {status}");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("the cache did not start within {START_LIMIT:?}")
    }
}
