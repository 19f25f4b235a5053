//! From one version of a system's image to the next: how much of it a machine that has the one is sent for the other.
//!
//! The peer is a machine with an empty disk. What is counted are bytes, so the figures do not depend on the computer.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bessemer_proto::v1::{ImageSpec, WriteReport};
use bessemer_testkit::{Cluster, Options, deployment_of, digest_of_file};

use crate::disk::{self, FILE_SYSTEM_OFFSET_MIB};
use crate::report::{Report, mebibytes};
use crate::run;

/// The bar: a quarter of what an empty disk is sent.
const BOUND: f64 = 0.25;

/// How large the image is, and how much of it changes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    disk: disk::Size,
    /// Files of the package that changes, in MiB.
    #[arg(long, default_value_t = 24)]
    package_mib: u64,
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let options = Options { members: 1, conductors: 1, nats: false, ..Options::default() };
    let cluster = Cluster::start(&options).await?;
    let home = cluster.home();
    let stage = arguments.disk.stage(home)?;
    let version = arguments.disk.build(&stage, &home.join("version.raw"))?;
    let changed = change_package(&stage, arguments.package_mib << 20)?;
    let built = arguments.disk.build(&stage, &home.join("built.raw"))?;
    let upgraded = upgrade(&version, &stage, &changed, &home.join("upgraded.raw"))?;
    let mut report = Report::new("reimage", &["sent", "sent to an empty disk", "share"]);
    for (case, next) in [("upgraded in place", &upgraded), ("built anew", &built)] {
        let fresh = deploy(&cluster, &format!("fresh-{}", &case[..5]), &[next]).await?;
        let again = deploy(&cluster, &format!("again-{}", &case[..5]), &[&version, next]).await?;
        let share = again as f64 / fresh as f64;
        let row = vec![mebibytes(again), mebibytes(fresh), format!("{:.1} %", share * 100.0)];
        report.less_is_better(case, share, BOUND, row);
    }
    report.print();
    Ok(())
}

/// Changes files until so many bytes of them are others, as a new version of a package does: a little everywhere in a
/// file, and its length. Answers their paths below `stage`.
fn change_package(stage: &Path, bytes: u64) -> anyhow::Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    let mut left = bytes;
    // The libraries.
    change_files(&stage.join("1"), &mut left, &mut changed)?;
    let relative = |path: PathBuf| Ok(path.strip_prefix(stage)?.to_owned());
    changed.into_iter().map(relative).collect()
}

fn change_files(
    directory: &Path,
    left: &mut u64,
    changed: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if *left == 0 {
            return Ok(());
        }
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            change_files(&path, left, changed)?;
        } else if kind.is_file() {
            let mut content = fs::read(&path)?;
            content.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
            content.extend_from_slice(&[7; 1000]);
            *left = left.saturating_sub(content.len() as u64);
            fs::write(&path, content)?;
            changed.push(path);
        }
    }
    Ok(())
}

/// The image of a system whose package manager has put the changed files in the places of the old ones.
fn upgrade(
    version: &Path,
    stage: &Path,
    changed: &[PathBuf],
    upgraded: &Path,
) -> anyhow::Result<PathBuf> {
    fs::copy(version, upgraded)?;
    let script = upgraded.with_extension("debugfs");
    let mut commands = File::create(&script)?;
    for path in changed {
        let (inside, outside) = (path.display(), stage.join(path));
        writeln!(commands, "rm \"/{inside}\"\nwrite \"{}\" \"/{inside}\"", outside.display())?;
    }
    drop(commands);
    let file_system = format!("{}?offset={}", upgraded.display(), FILE_SYSTEM_OFFSET_MIB << 20);
    run!("debugfs", "-w", "-f", &script, &file_system)?;
    Ok(upgraded.to_owned())
}

/// Deploys images to a new machine, one after the other. Answers how many bytes the last one took on the wire.
async fn deploy(cluster: &Cluster, name: &str, images: &[&PathBuf]) -> anyhow::Result<u64> {
    let largest = images.iter().map(|image| fs::metadata(image).map(|it| it.len()));
    let disk_bytes = largest.collect::<Result<Vec<_>, _>>()?.into_iter().max();
    cluster.available_node(name, disk_bytes.context("no image")?).await?;
    let mut wire_bytes = 0;
    for image in images {
        let mut deployment = deployment_of(image, &digest_of_file(image)?);
        let format = "raw".to_owned();
        deployment.image = deployment.image.map(|image| ImageSpec { disk_format: format, ..image });
        let begun = cluster.deploy(name, deployment).await?;
        eprintln!("{name}: {}", image.display());
        let revision = begun.status.unwrap_or_default().deployment.unwrap_or_default().id;
        let active = cluster.until_state(name, "active").await?.status.unwrap_or_default();
        let deployment = active.deployment.context("nothing is deployed")?;
        anyhow::ensure!(deployment.id == revision, "another deployment is active");
        let write: WriteReport = deployment.write.context("there is no report of the write")?;
        wire_bytes = write.wire_bytes;
    }
    Ok(wire_bytes)
}
