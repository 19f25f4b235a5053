//! Hardware type `fake`.

use std::sync::Arc;

use bessemer_hardware::fake::{AgentRunner, Fake, InProcessAgents};
use bessemer_hardware::{Bmc, BootDevice, unclaimed};
use futures::FutureExt;
use serde_json::json;

use crate::contract;

#[tokio::test]
async fn fake_machines_hold_the_contract() {
    let home = tempfile::tempdir().unwrap();
    let agent = |_, _| std::future::pending().boxed();
    let fake = Fake {
        ca_file: None,
        machines_dir: home.path().to_owned(),
        runner: AgentRunner::InProcess(InProcessAgents::new(Arc::new(agent))),
        api_urls: Vec::new(),
        steps_dir: None,
    };
    let info = json!({"disk_bytes": 1024 * 1024});
    let machine = fake.machine("m1", info.as_object().unwrap(), Vec::new()).unwrap();
    contract::holds(&machine, BootDevice::Ramdisk, async || {
        match std::fs::read_to_string(home.path().join("m1/boot_device")).unwrap().trim() {
            "ramdisk" => BootDevice::Ramdisk,
            _ => BootDevice::Disk,
        }
    })
    .await;
    let console = std::fs::read_to_string(home.path().join("m1/console.log")).unwrap();
    assert!(console.lines().any(|line| line == "NMI"), "{console}");
    let isos = ["http://images/a.iso", "http://images/b.iso"];
    contract::boots_isos(&machine, isos, async || {
        let device = std::fs::read_to_string(home.path().join("m1/boot_device")).unwrap();
        let drive = std::fs::read_to_string(home.path().join("m1/config_drive")).unwrap();
        let iso = device.trim().strip_prefix("iso ")?.to_owned();
        Some((iso, Some(drive).filter(|drive| !drive.is_empty())))
    })
    .await;
    machine.set_boot_iso(isos[0], None, &unclaimed).await.unwrap();
    machine.power_on(&unclaimed).await.unwrap();
    let console = std::fs::read_to_string(home.path().join("m1/console.log")).unwrap();
    assert!(console.ends_with("booted from http://images/a.iso\n"), "{console}");
}
