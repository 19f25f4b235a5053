//! A BMC that speaks IPMI.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;

use crate::process::{Process, free_port};

/// One management controller, and nothing else that a chassis may have.
const COMMANDS: &str = "\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
mc_enable 0x20
";

/// A BMC on loopback: user `admin`, cipher suite 3, which is the best that it has.
#[derive(Debug)]
pub struct IpmiSimulator {
    /// OpenIPMI's `ipmi_sim`.
    pub process: Process,
    /// Where it listens, UDP.
    pub port: u16,
}

impl IpmiSimulator {
    /// Starts the BMC of a machine. `chassis` is the machine: a shell script that is called as
    /// `chassis 0x20 get|set power|boot [VALUE]`, and answers `get power` with `power:0` or `power:1`. Its words for boot
    /// devices are `pxe` and, for the disk, `default`. The password has at most 20 bytes.
    ///
    /// # Errors
    /// When `ipmi_sim` is not installed; `scripts/test` does that.
    pub fn start(directory: &Path, chassis: &str, password: &str) -> anyhow::Result<Self> {
        let port = free_port();
        let file = |name: &str, content: &str| -> anyhow::Result<String> {
            let path = directory.join(name);
            fs::write(&path, content)?;
            Ok(path.display().to_string())
        };
        let chassis = file("chassis", chassis)?;
        fs::set_permissions(&chassis, fs::Permissions::from_mode(0o755))?;
        let lan = format!(
            "name \"machine\"\n\
             set_working_mc 0x20\n\
             startlan 1\n\
             addr 127.0.0.1 {port}\n\
             priv_limit admin\n\
             allowed_auths_admin md5\n\
             guid a123456789abcdefa123456789abcdef\n\
             endlan\n\
             chassis_control \"{chassis} 0x20\"\n\
             user 2 true \"admin\" \"{password}\" admin 10 md5\n"
        );
        let (lan, commands) = (file("lan.conf", &lan)?, file("commands", COMMANDS)?);
        let state = directory.join("bmc");
        fs::create_dir(&state)?;
        let state = state.display().to_string();
        let arguments = ["-n", "-c", &lan, "-f", &commands, "-s", &state].map(str::to_owned);
        let process = Process::start("ipmi_sim", Path::new("ipmi_sim"), &arguments, directory)
            .context("apt-get install openipmi ipmitool")?;
        Ok(Self { process, port })
    }
}
