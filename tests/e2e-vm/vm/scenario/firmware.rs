//! The ISO boots by BIOS and by UEFI; the agent in it finds the API, which knows no such machine.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use bessemer_testkit::Process;

use super::BOOT_LIMIT;
use crate::console::Console;
use crate::site::Site;

const UEFI_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const UEFI_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

pub(crate) async fn run(site: &mut Site) -> anyhow::Result<()> {
    boots(site, "bios", "52:54:00:00:b1:05", None).await?;
    boots(site, "uefi", "52:54:00:00:0e:f1", Some(UEFI_CODE)).await
}

async fn boots(
    site: &Site,
    name: &str,
    mac_address: &str,
    firmware: Option<&str>,
) -> anyhow::Result<()> {
    let home = site.cluster.home();
    let console = Console::new(home.join(format!("{name}.console")));
    let network = format!("virtio-net-pci,netdev=n,romfile=,mac={mac_address}");
    let serial = format!("file:{}", console.file().display());
    let disc = format!("if=none,id=cd,media=cdrom,readonly=on,file={}", site.iso.display());
    let mut arguments: Vec<String> = [
        "-nodefaults -display none -machine q35,accel=tcg -m 1024 -device virtio-rng-pci",
        "-netdev user,id=n -device",
    ]
    .iter()
    .flat_map(|words| words.split(' '))
    .map(str::to_owned)
    .collect();
    arguments.extend([network, "-serial".to_owned(), serial]);
    arguments
        .extend(["-device", "virtio-scsi-pci", "-device", "scsi-cd,drive=cd"].map(str::to_owned));
    arguments.extend(["-drive".to_owned(), disc]);
    if let Some(code) = firmware {
        let variables = home.join(format!("{name}.vars"));
        std::fs::copy(UEFI_VARIABLES, &variables).context("cannot copy OVMF's variables")?;
        for drive in [
            format!("if=pflash,format=raw,readonly=on,file={code}"),
            format!("if=pflash,format=raw,file={}", variables.display()),
        ] {
            arguments.extend(["-drive".to_owned(), drive]);
        }
    }
    let began = Instant::now();
    let machine = Process::start(name, Path::new("/usr/bin/qemu-system-x86_64"), &arguments, home)?;
    let answer = console.line(&["refused", mac_address], BOOT_LIMIT).await;
    answer.with_context(|| machine.last_words())?;
    println!(
        "{name}: the agent had an answer {:.1} s after power on",
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
