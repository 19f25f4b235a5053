//! Hardware type `fake`.

use std::sync::Arc;

use bessemer_hardware::BootDevice;
use bessemer_hardware::fake::{AgentRunner, Fake, InProcessAgents};
use futures::FutureExt;
use serde_json::json;

use crate::contract;

#[tokio::test]
async fn fake_machines_hold_the_contract() {
    let home = tempfile::tempdir().unwrap();
    let agent = |_, _| std::future::pending().boxed();
    let fake = Fake {
        machines_dir: home.path().to_owned(),
        runner: AgentRunner::InProcess(InProcessAgents::new(Arc::new(agent))),
        api_urls: Vec::new(),
    };
    let info = json!({"disk_bytes": 1024 * 1024});
    let machine = fake.machine("m1", info.as_object().unwrap(), Vec::new()).unwrap();
    contract::holds(&machine, async || {
        match std::fs::read_to_string(home.path().join("m1/boot_device")).unwrap().trim() {
            "ramdisk" => BootDevice::Ramdisk,
            _ => BootDevice::Disk,
        }
    })
    .await;
}
