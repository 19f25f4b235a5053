//! What is shown, one subject per file.

mod deploy;
mod firmware;
mod takeover;

use std::time::Duration;

use clap::ValueEnum;

use crate::site::Site;

/// The machine under test.
const NODE: &str = "vm1";

/// An emulated processor takes seconds through firmware and the start of a kernel, on a busy computer many.
const BOOT_LIMIT: Duration = Duration::from_secs(90);

/// Something to be shown.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Scenario {
    /// The ISO boots by BIOS and by UEFI, and its agent reaches the API.
    Firmware,
    /// From an empty disk to a system that says its name, and back.
    Deploy,
    /// The conductor dies in the middle of the image's write.
    Takeover,
}

impl Scenario {
    pub(crate) const ALL: &[Self] = &[Self::Firmware, Self::Deploy, Self::Takeover];

    pub(crate) async fn run(self, site: &mut Site) -> anyhow::Result<()> {
        match self {
            Self::Firmware => firmware::run(site).await,
            Self::Deploy => deploy::run(site).await,
            Self::Takeover => takeover::run(site).await,
        }
    }
}
