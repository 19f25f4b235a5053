//! What the machines boot: the deploy ramdisk and an operating system's image, built by their scripts.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::process::Command;

use crate::Arguments;

/// Where the guests find the loopback interface of this computer: QEMU's user network.
pub(crate) const GUESTS_LOOPBACK: &str = "10.0.2.2";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Builds the ISO in `directory`.
pub(crate) async fn build_iso(
    directory: &Path,
    arguments: &Arguments,
    api_urls: &[String],
) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(repository().join("deploy/ramdisk/build"));
    command.args(["--kernel-package", &arguments.kernel_package, "--compression", "3"]);
    command.arg("--agent").arg(&arguments.agent).arg("--cache").arg(cache());
    command.arg("--output").arg(directory);
    for url in api_urls {
        command.args(["--api-url", &url.replace("127.0.0.1", GUESTS_LOOPBACK)]);
    }
    run(command).await?;
    Ok(directory.join("bessemer-ramdisk.iso"))
}

/// Builds the operating system's qcow2 in `directory`.
pub(crate) async fn build_image(directory: &Path) -> anyhow::Result<PathBuf> {
    let mut command = Command::new(repository().join("tests/e2e-vm/os/build"));
    command.arg(cache()).arg(directory);
    run(command).await?;
    Ok(directory.join("os.qcow2"))
}

/// Debian packages are kept from one run to the next.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian-packages")
}

async fn run(mut command: Command) -> anyhow::Result<()> {
    let output = command.output().await.with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{command:?} failed: {said}");
    Ok(())
}
