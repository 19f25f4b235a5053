//! Containers that install themselves: deploy interface `bootc`.

use serde::{Deserialize, Serialize};

use super::deployment::ImageSpec;
use crate::Invalid;

/// Most bytes of SSH keys: the container gets them as a file, history keeps them.
pub const AUTHORIZED_KEYS_BYTES_MAX: usize = 64 * 1024;

/// Most bytes that are kept of what an installation printed; the last ones are.
pub const INSTALL_LOG_BYTES_MAX: usize = 16 * 1024;

/// How images in registries begin.
const REGISTRY_SCHEME: &str = "oci://";

/// What the container is told beside the disk. Ironic's `instance_info` keys `bootc_…`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootcOptions {
    /// Who may log in as root by SSH, in the form of `authorized_keys`; empty adds nobody.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub authorized_keys: String,
    /// Whether the root file system is encrypted with a key that the machine's TPM holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tpm2_luks: bool,
}

/// Which container a deployment's tag meant when it began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedContainer {
    /// `host[:port]/repository@sha256:digest`, of the manifest or of the index over several architectures.
    pub reference: String,
    /// The registry is reached by HTTP instead of HTTPS.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

/// What became of a container that installed itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallReport {
    /// Where it installed itself.
    pub device: String,
    /// From the beginning of the download to the end, in the last attempt.
    pub duration_milliseconds: u64,
    /// The end of what it printed, [`INSTALL_LOG_BYTES_MAX`] at most.
    pub log: String,
}

impl BootcOptions {
    /// What must be so of them, each alone.
    ///
    /// # Errors
    /// [`Invalid`] when the keys are too long, or a line of them is none.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let field = "bootc.authorized_keys";
        if self.authorized_keys.len() > AUTHORIZED_KEYS_BYTES_MAX {
            let bytes = format!("{} bytes", self.authorized_keys.len());
            let reason = format!("are more than {AUTHORIZED_KEYS_BYTES_MAX}");
            return Err(Invalid::new(field, &bytes, reason));
        }
        // sshd (8), "AUTHORIZED_KEYS FILE FORMAT": options, type of the key, the key, a comment.
        let is_key = |line: &str| {
            let line = line.trim();
            line.is_empty() || line.starts_with('#') || line.split_whitespace().count() >= 2
        };
        match self.authorized_keys.lines().find(|line| !is_key(line)) {
            None => Ok(()),
            Some(line) => {
                let reason = "is no line of authorized_keys: the key's type and the key";
                Err(Invalid::new(field, line, reason))
            }
        }
    }
}

impl ImageSpec {
    /// Whether it can be an image of a container.
    ///
    /// # Errors
    /// [`Invalid`] when it is in no registry, or says what only images of disks have.
    pub(super) fn check_container(&self) -> Result<(), Invalid> {
        if !self.source.starts_with(REGISTRY_SCHEME) {
            let reason = "is not in a registry: deploy_interface `bootc` takes oci://HOST/REPOSITORY[:TAG][@DIGEST]";
            return Err(Invalid::new("image.source", &self.source, reason));
        }
        let of_disks = [
            ("image.checksum", self.checksum.as_ref().map(|_| "")),
            ("image.disk_format", self.disk_format.map(|format| format.as_str())),
        ];
        match of_disks.into_iter().find_map(|(field, given)| Some((field, given?))) {
            None => Ok(()),
            Some((field, value)) => {
                let reason = "is of an image of a disk; a container is known by its digest: name it in the source";
                Err(Invalid::new(field, value, reason))
            }
        }
    }
}
