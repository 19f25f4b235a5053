//! A virtual machine with an empty disk.

use std::fs::File;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::console::Console;

/// Room for the image, the config drive and some more.
const DISK_BYTES: u64 = 1 << 30;

/// A machine that libvirt defines and a BMC switches.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) name: String,
    pub(crate) uuid: Uuid,
    pub(crate) mac_address: String,
    pub(crate) disk: PathBuf,
    pub(crate) console: Console,
}

impl Domain {
    /// A machine with its files in `directory`; nobody knows of it yet.
    pub(crate) fn new(name: &str, directory: &Path) -> anyhow::Result<Self> {
        let uuid = Uuid::new_v4();
        let [.., a, b, c] = *uuid.as_bytes();
        let disk = directory.join(format!("{name}.disk"));
        File::create(&disk)?.set_len(DISK_BYTES)?;
        Ok(Self {
            name: name.to_owned(),
            uuid,
            mac_address: format!("52:54:00:{a:02x}:{b:02x}:{c:02x}"),
            disk,
            console: Console::new(directory.join(format!("{name}.console"))),
        })
    }

    /// As libvirt wants it described.
    pub(crate) fn xml(&self, directory: &Path) -> String {
        include_str!("domain.xml")
            .replace("@NAME@", &self.name)
            .replace("@UUID@", &self.uuid.to_string())
            .replace("@MAC@", &self.mac_address)
            .replace("@DIRECTORY@", &directory.display().to_string())
    }
}
