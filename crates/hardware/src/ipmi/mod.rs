//! Hardware type `ipmi`: machines driven over IPMI 2.0 (RMCP+) by the program `ipmitool`, as Ironic does it. The deploy
//! ramdisk comes from the network: IPMI has no virtual media.

mod tool;

use std::path::PathBuf;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Map, Value};

use crate::driver_info::{number, required, text, wrong};
use crate::poll::{POWER_LIMIT, until};
use crate::{Bmc, BootDevice, Entitled, HardwareError, NetworkProtocol};
use tool::Tool;

/// Port of RMCP+.
const PORT_DEFAULT: u64 = 623;

/// HMAC-SHA256 and AES-CBC-128, which every BMC of the last ten years has. Without a suite `ipmitool` asks for the
/// BMC's list first, and waits long where there is none.
const CIPHER_SUITE_DEFAULT: u64 = 17;

/// Highest number of a cipher suite (IPMI 2.0, table 22-20).
const CIPHER_SUITE_MAX: u64 = 17;

/// What `ipmitool -L` takes.
const PRIV_LEVELS: [&str; 4] = ["ADMINISTRATOR", "OPERATOR", "USER", "CALLBACK"];

/// The hardware type.
#[derive(Debug, Clone)]
pub struct Ipmi {
    /// `ipmitool`, or where it is.
    pub program: PathBuf,
}

/// A machine behind a BMC that speaks IPMI.
#[derive(Debug)]
pub struct Machine {
    tool: Tool,
}

impl Ipmi {
    /// The machine that a node's `driver_info` names, by Ironic's keys: `ipmi_address`, `ipmi_port`, `ipmi_username`,
    /// `ipmi_password`, `ipmi_cipher_suite`, `ipmi_priv_level`.
    ///
    /// # Errors
    /// [`HardwareError::DriverInfo`] and [`HardwareError::DriverInfoMissing`].
    pub fn machine(&self, driver_info: &Map<String, Value>) -> Result<Machine, HardwareError> {
        let level = text(driver_info, "ipmi_priv_level")?.unwrap_or(PRIV_LEVELS[0]);
        if !PRIV_LEVELS.contains(&level) {
            let reason = "is none of ADMINISTRATOR, OPERATOR, USER and CALLBACK";
            return Err(wrong("ipmi_priv_level", &level.into(), reason));
        }
        let cipher_suite = number(driver_info, "ipmi_cipher_suite", CIPHER_SUITE_MAX)?;
        Ok(Machine {
            tool: Tool {
                program: self.program.clone(),
                address: required(driver_info, "ipmi_address")?.to_owned(),
                port: number(driver_info, "ipmi_port", u16::MAX.into())?.unwrap_or(PORT_DEFAULT),
                username: text(driver_info, "ipmi_username")?.unwrap_or_default().to_owned(),
                password: text(driver_info, "ipmi_password")?.unwrap_or_default().to_owned(),
                cipher_suite: cipher_suite.unwrap_or(CIPHER_SUITE_DEFAULT),
                priv_level: level.to_owned(),
            },
        })
    }
}

/// Set System Boot Options (IPMI 2.0, 28.12), parameter 3: "boot flag valid bit clearing", bit 3: do not forget the boot
/// flags when no chassis control follows within 60 s. A machine may take longer to be powered off first.
const KEEP_BOOT_FLAGS: [&str; 5] = ["raw", "0x00", "0x08", "0x03", "0x08"];

/// The same, parameter 5: boot flags. Sent raw, as Ironic does: `chassis bootdev … options=` of many versions of
/// `ipmitool` keeps only the last of several options.
const SET_BOOT_FLAGS: [&str; 4] = ["raw", "0x00", "0x08", "0x05"];

/// Get System Boot Options (28.13), parameter 5.
const GET_BOOT_FLAGS: [&str; 6] = ["raw", "0x00", "0x09", "0x05", "0x00", "0x00"];

/// Bits of the second data byte that hold the boot device.
const DEVICE_BITS: u8 = 0x3c;

/// What parameter 5 is for a boot device (table 28-14): the flags (valid 0x80, persistent 0x40, UEFI 0x20) and the device.
fn boot_flags(device: BootDevice) -> Result<(u8, u8), HardwareError> {
    let cannot = |operation| Err(HardwareError::NotSupported { driver: "ipmi", operation });
    match device {
        BootDevice::Ramdisk => cannot("boot from a virtual CD: IPMI has no virtual media"),
        BootDevice::Network { protocol: NetworkProtocol::UefiHttp, .. } => {
            cannot("boot over HTTP: IPMI has no such boot device")
        }
        BootDevice::Network { protocol: NetworkProtocol::Pxe, lasting: false } => Ok((0xa0, 0x04)),
        BootDevice::Network { protocol: NetworkProtocol::Pxe, lasting: true } => Ok((0xe0, 0x04)),
        BootDevice::Disk => Ok((0xe0, 0x08)),
    }
}

impl Machine {
    /// Gives a `chassis power` order, which is there to have the machine on, or off.
    async fn switch(
        &self,
        word: &str,
        on: bool,
        entitled: Entitled<'_>,
    ) -> Result<(), HardwareError> {
        if self.power().await? == on {
            return Ok(());
        }
        let order = ["chassis", "power", word];
        entitled().await;
        self.tool.run(&order).await?;
        let reached =
            until(POWER_LIMIT, || async { Ok((self.power().await? == on).then_some(())) }).await?;
        reached.ok_or_else(|| {
            let limit = POWER_LIMIT.as_secs();
            let answer = format!("accepted, but {limit} s later the power is as it was");
            self.tool.failed(&order, answer, true)
        })
    }

    /// Chassis Control, "pulse diagnostic interrupt" (IPMI 2.0, 28.3).
    async fn pulse(&self, entitled: Entitled<'_>) -> Result<(), HardwareError> {
        let order = ["chassis", "power", "diag"];
        if !self.power().await? {
            let answer = "the machine is off; it gets an NMI only while it is on".to_owned();
            return Err(self.tool.failed(&order, answer, false));
        }
        entitled().await;
        self.tool.run(&order).await.map(drop)
    }

    async fn power(&self) -> Result<bool, HardwareError> {
        let question = ["chassis", "power", "status"];
        let said = self.tool.run(&question).await?;
        match said.trim() {
            "Chassis Power is on" => Ok(true),
            "Chassis Power is off" => Ok(false),
            other => Err(self.tool.failed(&question, format!("`{other}`"), true)),
        }
    }

    async fn boot_from(
        &self,
        device: BootDevice,
        entitled: Entitled<'_>,
    ) -> Result<(), HardwareError> {
        let (flags, selector) = boot_flags(device)?;
        entitled().await;
        // What a BMC that lacks this forgets, it forgets; most have it.
        if let Err(error) = self.tool.run(&KEEP_BOOT_FLAGS).await {
            tracing::debug!(%error, "the boot device may be forgotten after 60 s");
        }
        let data = [format!("{flags:#04x}"), format!("{selector:#04x}")];
        let zeros = ["0x00", "0x00", "0x00"];
        let order: Vec<_> = SET_BOOT_FLAGS
            .into_iter()
            .chain(data.iter().map(String::as_str))
            .chain(zeros)
            .collect();
        entitled().await;
        self.tool.run(&order).await?;
        let said = self.tool.run(&GET_BOOT_FLAGS).await?;
        // Parameter version, parameter selector, then the data.
        let kept =
            said.split_whitespace().nth(3).and_then(|byte| u8::from_str_radix(byte, 16).ok());
        if kept.map(|byte| byte & DEVICE_BITS) == Some(selector) {
            return Ok(());
        }
        let answer = format!("accepted, but the boot flags are `{}` afterwards", said.trim());
        Err(self.tool.failed(&order, answer, true))
    }
}

impl Bmc for Machine {
    fn is_on(&self) -> BoxFuture<'_, Result<bool, HardwareError>> {
        self.power().boxed()
    }

    fn set_boot_device<'a>(
        &'a self,
        device: BootDevice,
        entitled: Entitled<'a>,
    ) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.boot_from(device, entitled).boxed()
    }

    fn set_boot_iso<'a>(
        &'a self,
        _iso: &'a str,
        _config_drive: Option<&'a str>,
        _entitled: Entitled<'a>,
    ) -> BoxFuture<'a, Result<(), HardwareError>> {
        let operation = "boot from an ISO: IPMI has no virtual media";
        std::future::ready(Err(HardwareError::NotSupported { driver: "ipmi", operation })).boxed()
    }

    fn power_on<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.switch("on", true, entitled).boxed()
    }

    fn power_off<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.switch("off", false, entitled).boxed()
    }

    fn shut_down<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.switch("soft", false, entitled).boxed()
    }

    fn inject_nmi<'a>(
        &'a self,
        entitled: Entitled<'a>,
    ) -> BoxFuture<'a, Result<(), HardwareError>> {
        self.pulse(entitled).boxed()
    }
}
