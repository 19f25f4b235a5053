//! Writing an image to a disk: from the bytes that a server holds to a disk that can be booted.
//!
//! Ours is a deployment by a whole cluster of processes; the figures are those that the agent itself
//! reports for its `write_image` step, manifest, wiping and flushing included. The peers are what is
//! done by hand, or by Ironic's agent: a raw image through `curl | dd` with its digest taken on the
//! way, and a qcow2 that is downloaded, checked and converted to the disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bessemer_proto::v1::{DeploymentSpec, ImageSpec, WriteReport};
use bessemer_testkit::{Cluster, Options, digest_of_file};

use crate::report::{Report, mebibytes, median};
use crate::{disk, origin, run};

/// What to write and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    disk: disk::Size,
    /// Runs of each case; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
}

/// What one way of writing cost.
struct Written {
    seconds: f64,
    wire_bytes: u64,
    peak_rss_bytes: u64,
}

/// The image in both of its formats, behind a web server.
struct Image {
    directory: PathBuf,
    origin: String,
    raw_bytes: u64,
    raw_sha256: String,
    qcow2_bytes: u64,
    qcow2_sha256: String,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let cluster =
        Cluster::start(&Options { members: 1, conductors: 1, nats: false, ..Options::default() })
            .await?;
    let image = Image::make(cluster.home(), &arguments)?;
    let (mut pack, mut raw, mut by_dd, mut by_qemu) = (vec![], vec![], vec![], vec![]);
    for number in 0..arguments.runs {
        eprintln!("run {}", number + 1);
        by_dd.push(image.write_by_dd()?);
        pack.push(image.deploy(&cluster, &format!("pack-{number}"), "local").await?);
        by_qemu.push(image.write_by_qemu()?);
        raw.push(image.deploy(&cluster, &format!("raw-{number}"), "http").await?);
    }
    let columns = ["ours", "peer", "ours, wire", "peer, wire", "ours, RSS", "peer, RSS"];
    let mut report = Report::new("agent", &columns);
    compare(&mut report, "pack-vs-raw", &pack, &by_dd);
    compare(&mut report, "pack-vs-qcow2", &pack, &by_qemu);
    compare(&mut report, "raw-vs-raw", &raw, &by_dd);
    let wire = |runs: &[Written]| runs.iter().map(|run| run.wire_bytes).max().unwrap_or_default();
    for (case, peer) in [("wire-vs-raw", &by_dd), ("wire-vs-qcow2", &by_qemu)] {
        let (ours, peer) = (wire(&pack), wire(peer));
        let mut row = vec![String::new(); columns.len()];
        (row[2], row[3]) = (mebibytes(ours), mebibytes(peer));
        report.less_is_better(case, mebibyte_count(ours), mebibyte_count(peer), row);
    }
    report.print();
    Ok(())
}

fn mebibyte_count(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn compare(report: &mut Report, case: &str, ours: &[Written], peer: &[Written]) {
    let seconds = |runs: &[Written]| median(runs.iter().map(|run| run.seconds).collect());
    let most = |runs: &[Written], of: fn(&Written) -> u64| {
        mebibytes(runs.iter().map(of).max().unwrap_or_default())
    };
    let (ours_seconds, peer_seconds) = (seconds(ours), seconds(peer));
    let row = vec![
        format!("{ours_seconds:.2} s"),
        format!("{peer_seconds:.2} s"),
        most(ours, |run| run.wire_bytes),
        most(peer, |run| run.wire_bytes),
        most(ours, |run| run.peak_rss_bytes),
        most(peer, |run| run.peak_rss_bytes),
    ];
    report.less_is_better(case, ours_seconds, peer_seconds, row);
}

impl Image {
    fn make(directory: &Path, arguments: &Arguments) -> anyhow::Result<Self> {
        let raw = arguments.disk.make(directory)?;
        let qcow2 = directory.join("disk.qcow2");
        run!("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c", &raw, &qcow2)?;
        Ok(Self {
            directory: directory.to_owned(),
            origin: format!("http://{}", origin::serve(directory)?),
            raw_bytes: fs::metadata(&raw)?.len(),
            raw_sha256: digest_of_file(&raw)?,
            qcow2_bytes: fs::metadata(&qcow2)?.len(),
            qcow2_sha256: digest_of_file(&qcow2)?,
        })
    }

    /// A deployment; the cache has prepared the image when the agent begins.
    async fn deploy(
        &self,
        cluster: &Cluster,
        name: &str,
        download_source: &str,
    ) -> anyhow::Result<Written> {
        let node = cluster.available_node(name, self.raw_bytes).await?;
        let image = ImageSpec {
            source: format!("{}/disk.raw", self.origin),
            checksum: self.raw_sha256.clone(),
            disk_format: "raw".to_owned(),
            ..ImageSpec::default()
        };
        let deployment = DeploymentSpec {
            image: Some(image),
            image_download_source: download_source.to_owned(),
            ..DeploymentSpec::default()
        };
        cluster.deploy(name, deployment).await?;
        let status = cluster.until_state(name, "active").await?.status.unwrap_or_default();
        let write = status.deployment.and_then(|deployment| deployment.write);
        let WriteReport { wire_bytes, duration, agent_peak_rss_bytes, .. } =
            write.context("the deployment has no report of its write")?;
        let duration = Duration::try_from(duration.unwrap_or_default())
            .ok()
            .context("the report has a negative duration")?;
        self.check_and_remove(&cluster.disk(&node))?;
        let peak_rss_bytes = agent_peak_rss_bytes;
        Ok(Written { seconds: duration.as_secs_f64(), wire_bytes, peak_rss_bytes })
    }

    /// `curl | dd` with the digest taken on the way.
    fn write_by_dd(&self) -> anyhow::Result<Written> {
        let url = format!("{}/disk.raw", self.origin);
        let script = format!(
            "set -eo pipefail; mkfifo \"$FILE\"; openssl dgst -sha256 -r \"$FILE\" >\"$FILE.sum\" & \
             curl -sSf {url} | tee \"$FILE\" | \
             dd of=\"$DISK\" bs=1M iflag=fullblock conv=notrunc,fsync status=none; \
             wait; read -r sum _ <\"$FILE.sum\"; rm \"$FILE\"; [ \"$sum\" = {sha256} ]",
            sha256 = self.raw_sha256,
        );
        self.write_by_shell(&script, self.raw_bytes)
    }

    /// Download, digest, conversion to the disk.
    fn write_by_qemu(&self) -> anyhow::Result<Written> {
        let url = format!("{}/disk.qcow2", self.origin);
        let script = format!(
            "set -e; curl -sSf -o \"$FILE\" {url}; \
             sum=$(openssl dgst -sha256 -r \"$FILE\"); [ \"${{sum%% *}}\" = {sha256} ]; \
             qemu-img convert -f qcow2 -O raw -n -t none -T none \"$FILE\" \"$DISK\"; \
             sync \"$DISK\"; rm \"$FILE\"",
            sha256 = self.qcow2_sha256,
        );
        self.write_by_shell(&script, self.qcow2_bytes)
    }

    fn write_by_shell(&self, script: &str, wire_bytes: u64) -> anyhow::Result<Written> {
        let target = self.directory.join("peer.img");
        fs::File::create(&target)?.set_len(self.raw_bytes)?;
        let (file, figures) = (self.directory.join("peer"), self.directory.join("peer.rss"));
        let variables = [format!("DISK={}", target.display()), format!("FILE={}", file.display())];
        let began = Instant::now();
        run!(
            "env",
            &variables[0],
            &variables[1],
            "time",
            "-f",
            "%M",
            "-o",
            &figures,
            "bash",
            "-c",
            script,
        )?;
        let seconds = began.elapsed().as_secs_f64();
        let kibibytes = fs::read_to_string(figures)?;
        let peak_rss_bytes = kibibytes.trim().parse::<u64>().context("no figure by time")? << 10;
        self.check_and_remove(&target)?;
        Ok(Written { seconds, wire_bytes, peak_rss_bytes })
    }

    fn check_and_remove(&self, disk: &Path) -> anyhow::Result<()> {
        let found = digest_of_file(disk)?;
        ensure!(found == self.raw_sha256, "{} is not the image: {found}", disk.display());
        fs::remove_file(disk)?;
        run!("sync")?;
        Ok(())
    }
}
