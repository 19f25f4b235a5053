//! Hardware type `fake`: simulated machines. Each is a directory with a power switch, a boot device and a disk; its
//! "BMC" is the file system, so every conductor on the host can drive it, and it outlives them all.
//!
//! Powered on with the ramdisk as boot device, it runs a real agent against its disk.

mod agent;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use agent::{AgentBoot, AgentRunner, InProcessAgents, RunAgent};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use crate::{Bmc, BootDevice, Entitled, HardwareError};

/// Disk of a machine that does not say how large its disk is.
const DISK_BYTES_DEFAULT: u64 = 10 * 1024 * 1024 * 1024;

/// The hardware type: where machines are and what runs their agents.
#[derive(Debug, Clone)]
pub struct Fake {
    /// A machine without `driver_info.directory` is the directory here that is named after the node's id.
    pub machines_dir: PathBuf,
    /// What starts an agent.
    pub runner: AgentRunner,
    /// Where the agents look up their node.
    pub api_urls: Vec<String>,
    /// The authority that the agents believe, if they speak TLS.
    pub ca_file: Option<PathBuf>,
    /// Where the agents find their plug-ins, if not where they usually are.
    pub steps_dir: Option<PathBuf>,
}

/// A simulated machine.
#[derive(Debug, Clone)]
pub struct Machine {
    directory: PathBuf,
    disk_bytes: u64,
    mac_addresses: Vec<String>,
    /// Who gives the orders, as the machine's record of them says it.
    caller: String,
    fake: Fake,
}

impl Fake {
    /// The machine of a node. `driver_info` may hold `directory` and `disk_bytes`.
    ///
    /// # Errors
    /// [`HardwareError::DriverInfo`] when a key holds something else than a path or a number of bytes.
    pub fn machine(
        &self,
        node_id: &str,
        driver_info: &Map<String, Value>,
        mac_addresses: Vec<String>,
    ) -> Result<Machine, HardwareError> {
        let directory = match driver_info.get("directory") {
            None => self.machines_dir.join(node_id),
            Some(Value::String(path)) if Path::new(path).is_absolute() => PathBuf::from(path),
            Some(other) => {
                return Err(HardwareError::DriverInfo {
                    key: "directory",
                    value: other.to_string(),
                    reason: "is not an absolute path",
                });
            }
        };
        let disk_bytes = match driver_info.get("disk_bytes") {
            None => DISK_BYTES_DEFAULT,
            Some(value) => bytes(value).ok_or_else(|| HardwareError::DriverInfo {
                key: "disk_bytes",
                value: value.to_string(),
                reason: "is not a number of bytes greater than 0 and a multiple of 512",
            })?,
        };
        Ok(Machine {
            directory,
            disk_bytes,
            mac_addresses,
            caller: "nobody".to_owned(),
            fake: self.clone(),
        })
    }
}

/// How often it is looked whether the order before has been carried out.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Accepts a number, or a number as text: command lines give the latter.
fn bytes(value: &Value) -> Option<u64> {
    let bytes = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))?;
    (bytes > 0 && bytes.is_multiple_of(512)).then_some(bytes)
}

impl Machine {
    /// The same machine, for orders of a conductor under the claim with `epoch`. The machine keeps a record of orders in
    /// `orders.log`, each with who gave it: by that it can be told whether an old claim was obeyed.
    #[must_use]
    pub fn on_behalf_of(self, conductor: &str, epoch: u64) -> Self {
        Self { caller: format!("epoch {epoch} conductor {conductor}"), ..self }
    }

    /// Makes the machine on first sight: off, with an empty disk.
    fn is_switched_on(&self) -> Result<bool, HardwareError> {
        self.assemble()?;
        Ok(self.read("power")?.trim() == "on")
    }

    fn choose_boot_device(&self, device: BootDevice) -> Result<(), HardwareError> {
        self.assemble()?;
        self.record("orders.log", &format!("{}: boot device {device:?}", self.caller))?;
        self.write("config_drive", "")?;
        self.write(
            "boot_device",
            match device {
                BootDevice::Ramdisk => "ramdisk",
                BootDevice::Network { .. } => {
                    let operation = "boot over the network";
                    return Err(HardwareError::NotSupported { driver: "fake", operation });
                }
                BootDevice::Disk => "disk",
            },
        )
    }

    /// An ISO of somebody's: it is not fetched, only that it would be booted is told.
    fn choose_boot_iso(&self, iso: &str, config_drive: Option<&str>) -> Result<(), HardwareError> {
        self.assemble()?;
        self.record("orders.log", &format!("{}: boot ISO {iso}", self.caller))?;
        self.write("config_drive", config_drive.unwrap_or_default())?;
        self.write("boot_device", &format!("iso {iso}"))
    }

    async fn switch_on(&self) -> Result<(), HardwareError> {
        let _order = self.one_at_a_time().await?;
        if self.is_switched_on()? {
            return Ok(());
        }
        self.record("orders.log", &format!("{}: power on", self.caller))?;
        // What ran before the power went is gone, and so is all it held in memory.
        self.fake.runner.stop(&self.agent_boot()).await?;
        let boot = self.agent_boot();
        let memory = &boot.state_dir;
        if memory.exists() {
            fs::remove_dir_all(memory).map_err(io("clear", memory))?;
        }
        fs::create_dir_all(memory).map_err(io("make", memory))?;
        let device = self.read("boot_device")?;
        match (device.trim(), device.trim().strip_prefix("iso ")) {
            ("ramdisk", _) => {
                self.write("power", "booting")?;
                self.fake.runner.start(&self.directory, boot)?;
            }
            (_, Some(iso)) => self.boot_from(|| Ok(format!("booted from {iso}")))?,
            (_, None) => self.boot_from(|| {
                let boots = self.has_boot_record()?;
                Ok(if boots { "booted from disk" } else { "no bootable device" }.to_owned())
            })?,
        }
        self.write("power", "on")
    }

    /// Waits until no other order is carried out, as a BMC has it: who gave one may stand still in the middle, and must not
    /// go on when the machine has long been told something else. What is returned is held until the order is done.
    async fn one_at_a_time(&self) -> Result<fs::File, HardwareError> {
        fs::create_dir_all(&self.directory).map_err(io("make", &self.directory))?;
        let path = self.directory.join("bmc.lock");
        let file = fs::File::create(&path).map_err(io("make", &path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(LOOK_AGAIN).await,
                Err(fs::TryLockError::Error(error)) => return Err(io("lock", &path)(error)),
            }
        }
    }

    /// Boots something that is no agent, once for each time it is switched on: a caller that died in the middle of that is followed by
    /// another one, for which the machine is still off.
    fn boot_from(
        &self,
        boot: impl FnOnce() -> Result<String, HardwareError>,
    ) -> Result<(), HardwareError> {
        let path = self.directory.join("console.log");
        let said_bytes = fs::metadata(&path).map_or(0, |console| console.len());
        let power = self.read("power")?;
        let began_at = power.trim().strip_prefix("booting at ").and_then(|at| at.parse().ok());
        if began_at.is_some_and(|began_at: u64| said_bytes > began_at) {
            return Ok(());
        }
        self.write("power", &format!("booting at {said_bytes}"))?;
        self.record("console.log", &boot()?)
    }

    async fn switch_off(&self) -> Result<(), HardwareError> {
        let _order = self.one_at_a_time().await?;
        self.assemble()?;
        if self.read("power")?.trim() == "off" {
            return Ok(());
        }
        self.record("orders.log", &format!("{}: power off", self.caller))?;
        self.fake.runner.stop(&self.agent_boot()).await?;
        self.write("power", "off")
    }

    /// What runs on it shuts down at once, unless the machine's file `ignores_button` says that it does not listen.
    async fn press_button(&self) -> Result<(), HardwareError> {
        let button = self.directory.join("ignores_button");
        if !self.is_switched_on()? || !button.exists() {
            return self.switch_off().await;
        }
        self.record("orders.log", &format!("{}: soft off", self.caller))?;
        let source = std::io::Error::other("what runs on it does not listen to its button");
        Err(HardwareError::Io { action: "shut down by", path: button, source })
    }

    fn interrupt(&self) -> Result<(), HardwareError> {
        if !self.is_switched_on()? {
            return Err(HardwareError::NotSupported {
                driver: "fake",
                operation: "interrupt a machine that is off",
            });
        }
        self.record("orders.log", &format!("{}: NMI", self.caller))?;
        self.record("console.log", "NMI")
    }

    /// The file that is its disk.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk.img")
    }

    fn agent_boot(&self) -> AgentBoot {
        AgentBoot {
            api_urls: self.fake.api_urls.clone(),
            ca_file: self.fake.ca_file.clone(),
            mac_addresses: self.mac_addresses.clone(),
            disk: self.disk(),
            state_dir: self.directory.join("memory"),
            steps_dir: self.fake.steps_dir.clone(),
        }
    }

    fn assemble(&self) -> Result<(), HardwareError> {
        fs::create_dir_all(&self.directory).map_err(io("make", &self.directory))?;
        let disk = self.disk();
        if !disk.exists() {
            let file = fs::File::create(&disk).map_err(io("make", &disk))?;
            file.set_len(self.disk_bytes).map_err(io("size", &disk))?;
        }
        for (name, value) in [("power", "off"), ("boot_device", "disk")] {
            if !self.directory.join(name).exists() {
                self.write(name, value)?;
            }
        }
        Ok(())
    }

    /// Whether a BIOS would boot the disk: the signature at the end of its first sector.
    fn has_boot_record(&self) -> Result<bool, HardwareError> {
        use std::os::unix::fs::FileExt;
        let disk = self.disk();
        let mut signature = [0; 2];
        fs::File::open(&disk)
            .and_then(|file| file.read_exact_at(&mut signature, 510))
            .map_err(io("read", &disk))?;
        Ok(signature == [0x55, 0xaa])
    }

    /// Adds a line to one of the machine's records.
    fn record(&self, name: &str, line: &str) -> Result<(), HardwareError> {
        let path = self.directory.join(name);
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            // In one write: who is killed in the middle of it leaves no half of a line.
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
            .map_err(io("write", &path))
    }

    fn read(&self, name: &str) -> Result<String, HardwareError> {
        let path = self.directory.join(name);
        fs::read_to_string(&path).map_err(io("read", &path))
    }

    /// Replaces the file whole, so that another conductor never reads half a word.
    fn write(&self, name: &str, value: &str) -> Result<(), HardwareError> {
        let path = self.directory.join(name);
        let next = self.directory.join(format!(".{name}.next"));
        fs::write(&next, value).and_then(|()| fs::rename(&next, &path)).map_err(io("write", &path))
    }
}

impl Bmc for Machine {
    fn is_on(&self) -> BoxFuture<'_, Result<bool, HardwareError>> {
        async { self.is_switched_on() }.boxed()
    }

    fn set_boot_device<'a>(
        &'a self,
        device: BootDevice,
        entitled: Entitled<'a>,
    ) -> BoxFuture<'a, Result<(), HardwareError>> {
        async move {
            entitled().await;
            self.choose_boot_device(device)
        }
        .boxed()
    }

    fn set_boot_iso<'a>(
        &'a self,
        iso: &'a str,
        config_drive: Option<&'a str>,
        entitled: Entitled<'a>,
    ) -> BoxFuture<'a, Result<(), HardwareError>> {
        async move {
            entitled().await;
            self.choose_boot_iso(iso, config_drive)
        }
        .boxed()
    }

    fn power_on<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>> {
        async move {
            entitled().await;
            self.switch_on().await
        }
        .boxed()
    }

    fn power_off<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>> {
        async move {
            entitled().await;
            self.switch_off().await
        }
        .boxed()
    }

    fn shut_down<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>> {
        async move {
            entitled().await;
            self.press_button().await
        }
        .boxed()
    }

    fn inject_nmi<'a>(
        &'a self,
        entitled: Entitled<'a>,
    ) -> BoxFuture<'a, Result<(), HardwareError>> {
        async move {
            entitled().await;
            self.interrupt()
        }
        .boxed()
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> HardwareError {
    let path = path.to_owned();
    move |source| HardwareError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unclaimed;

    fn machine(directory: &Path) -> Machine {
        let fake = Fake {
            machines_dir: directory.to_owned(),
            runner: AgentRunner::Program("/bin/sleep".into()),
            api_urls: vec!["60".to_owned()],
            ca_file: None,
            steps_dir: None,
        };
        let info = Map::from_iter([("disk_bytes".to_owned(), Value::from(1024 * 1024))]);
        fake.machine("m1", &info, Vec::new()).unwrap()
    }

    #[tokio::test]
    async fn power_and_boot_device_are_kept_and_repeats_are_harmless() {
        let home = tempfile::tempdir().unwrap();
        let machine = machine(home.path());
        assert!(!machine.is_on().await.unwrap());
        machine.set_boot_device(BootDevice::Disk, &unclaimed).await.unwrap();
        for _ in 0..2 {
            machine.power_on(&unclaimed).await.unwrap();
            assert!(machine.is_on().await.unwrap());
        }
        let console = fs::read_to_string(home.path().join("m1/console.log")).unwrap();
        assert_eq!(console, "no bootable device\n");
        for _ in 0..2 {
            machine.power_off(&unclaimed).await.unwrap();
            assert!(!machine.is_on().await.unwrap());
        }
        assert_eq!(fs::metadata(machine.disk()).unwrap().len(), 1024 * 1024);
    }

    #[test]
    fn a_wrong_driver_info_names_key_and_value() {
        let home = tempfile::tempdir().unwrap();
        let fake = machine(home.path()).fake;
        for (key, value) in [("disk_bytes", "ten"), ("disk_bytes", "513"), ("directory", "here")] {
            let info = Map::from_iter([(key.to_owned(), Value::from(value))]);
            let error = fake.machine("m1", &info, Vec::new()).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("driver_info.{key} `\"{value}\"` is not")),
                "{error}"
            );
        }
    }
}
