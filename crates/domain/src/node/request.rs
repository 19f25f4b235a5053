//! What must be so of a request as a whole: its deploy interface has what it needs, and nothing that it would not look at.

use super::container::BootcOptions;
use super::deployment::{
    CONFIG_DRIVE_BYTES_MAX, DeploymentSpec, ImageChecksum, ImageDownloadSource, ImageSpec,
    KernelAndRamdisk, refuse_password,
};
use super::step::own_steps;
use super::{BootInterface, DeployInterface};
use crate::Invalid;

impl DeploymentSpec {
    /// Checks what concerns several fields at once.
    ///
    /// # Errors
    /// [`Invalid`] when the deploy interface cannot do what is asked for, `http` is asked for an image that the agent
    /// could not write as it arrives, or the config drive is too large.
    pub fn check(&self) -> Result<(), Invalid> {
        self.check_content()?;
        let interface = self.detected().deploy_interface;
        self.check_steps(own_steps(interface))?;
        if let Some(drive) = &self.config_drive
            && drive.size_bytes() > CONFIG_DRIVE_BYTES_MAX
        {
            return Err(Invalid::new(
                "config_drive",
                &format!("{} bytes", drive.size_bytes()),
                format!("is larger than {CONFIG_DRIVE_BYTES_MAX} bytes"),
            ));
        }
        Ok(())
    }

    /// The same request with the deploy interface that it means: `autodetect` takes `ramdisk` for an ISO or a kernel, `bootc` for
    /// what only a container is told, `direct` for an image, and `custom-agent` where the operator's steps are all there is.
    #[must_use]
    pub fn detected(&self) -> Self {
        let mut spec = self.clone();
        if self.deploy_interface == DeployInterface::Autodetect {
            spec.deploy_interface = if self.boot_iso.is_some() || self.network_boot.is_some() {
                DeployInterface::Ramdisk
            } else if self.bootc.is_some() {
                DeployInterface::Bootc
            } else if self.image.is_none() && !self.deploy_steps.is_empty() {
                DeployInterface::CustomAgent
            } else {
                DeployInterface::Direct
            };
        }
        spec
    }

    /// Whether the deploy interface has what it needs, and nothing beside it that it would not look at.
    fn check_content(&self) -> Result<(), Invalid> {
        let takes_bootc = [DeployInterface::Bootc, DeployInterface::Autodetect];
        if !takes_bootc.contains(&self.deploy_interface) {
            self.refuse("bootc", self.bootc.as_ref().map(|_| ""))?;
        }
        match self.deploy_interface {
            DeployInterface::Direct => {
                self.refuse_ramdisk()?;
                match (&self.image, self.image_download_source) {
                    (None, _) => {
                        Err(Invalid::new("image", "", "is required with deploy_interface `direct`"))
                    }
                    (Some(_), ImageDownloadSource::Local) => Ok(()),
                    (Some(image), ImageDownloadSource::Http) => image.check_http(),
                }
            }
            DeployInterface::CustomAgent | DeployInterface::Ansible => {
                self.refuse_ramdisk()?;
                self.refuse("partitions", self.partitions.as_ref().map(|_| ""))
            }
            DeployInterface::Bootc => {
                self.refuse_ramdisk()?;
                self.refuse("partitions", self.partitions.as_ref().map(|_| ""))?;
                if self.image_download_source != ImageDownloadSource::default() {
                    let given = self.image_download_source.as_str();
                    self.refuse("image_download_source", Some(given))?;
                }
                self.bootc.iter().try_for_each(BootcOptions::check)?;
                let missing =
                    || Invalid::new("image", "", "is required with deploy_interface `bootc`");
                self.image.as_ref().ok_or_else(missing)?.check_container()
            }
            DeployInterface::Noop => {
                self.refuse_ramdisk()?;
                self.refuse("partitions", self.partitions.as_ref().map(|_| ""))?;
                self.refuse("config_drive", self.config_drive.as_ref().map(|_| ""))
            }
            DeployInterface::Autodetect => self.detected().check_content(),
            DeployInterface::Ramdisk => {
                self.refuse("image", self.image.as_ref().map(|image| image.source.as_str()))?;
                self.refuse("partitions", self.partitions.as_ref().map(|_| ""))?;
                self.refuse("root_device", self.root_device.keys().next().map(String::as_str))?;
                self.check_ramdisk()
            }
        }
    }

    /// Whether there is one thing to run from, that the machine can read.
    fn check_ramdisk(&self) -> Result<(), Invalid> {
        match (&self.boot_iso, &self.network_boot) {
            (None, None) => {
                let reason =
                    "is required with deploy_interface `ramdisk`, or kernel and ramdisk are";
                Err(Invalid::new("boot_iso", "", reason))
            }
            (Some(iso), None) => check_boot_url("boot_iso", iso),
            (None, Some(_)) if self.config_drive.is_some() => {
                let reason = "can be had with boot_iso only: it comes by virtual media";
                Err(Invalid::new("config_drive", "", reason))
            }
            (None, Some(boot)) => boot.check_urls(),
            (Some(_), Some(boot)) => {
                let reason = "is given together with boot_iso: the machine can boot one of them";
                Err(Invalid::new("kernel", &boot.kernel, reason))
            }
        }
    }

    /// Whether a machine with the boot interface can be made to run from what is asked for.
    ///
    /// # Errors
    /// [`Invalid`] with the boot interface that would be needed.
    pub fn check_bootable_by(&self, boot: BootInterface) -> Result<(), Invalid> {
        let refuse = |field, value: &str, needed: BootInterface| {
            let reason = format!("needs boot_interface `{needed}`, and the node's is `{boot}`");
            Err(Invalid::new(field, value, reason))
        };
        match (&self.boot_iso, &self.network_boot) {
            (Some(iso), _) if !boot.boots_iso() => {
                refuse("boot_iso", iso, BootInterface::RedfishVirtualMedia)
            }
            (_, Some(asked)) if !boot.boots_kernel() => {
                refuse("kernel", &asked.kernel, BootInterface::Ipxe)
            }
            _ => Ok(()),
        }
    }

    /// Refuses what only `ramdisk` looks at.
    fn refuse_ramdisk(&self) -> Result<(), Invalid> {
        self.refuse("boot_iso", self.boot_iso.as_deref())?;
        self.refuse("kernel", self.network_boot.as_ref().map(|boot| boot.kernel.as_str()))
    }

    /// Refuses a field that was given and would not be looked at.
    fn refuse(&self, field: &str, given: Option<&str>) -> Result<(), Invalid> {
        let Some(value) = given else { return Ok(()) };
        let reason = format!("is nothing that deploy_interface `{}` uses", self.deploy_interface);
        Err(Invalid::new(field, value, reason))
    }
}

/// The URL is the BMC's or the firmware's to read.
fn check_boot_url(field: &'static str, url: &str) -> Result<(), Invalid> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    if rest.is_none_or(str::is_empty) {
        let reason = "is not a URL that begins with http:// or https://, by which machines read it";
        return Err(Invalid::new(field, url, reason));
    }
    // It becomes a word of a boot script: what that would take for more is percent-encoded in a URL anyway (RFC 3986).
    if url.contains("${") || !url.chars().all(|it| it.is_ascii_graphic()) {
        let reason = "holds a character that is percent-encoded in URLs, or `${`";
        return Err(Invalid::new(field, url, reason));
    }
    refuse_password(field, url)
}

impl KernelAndRamdisk {
    /// Whether both are URLs that a machine can read, and that can be words of a boot script.
    ///
    /// # Errors
    /// [`Invalid`] naming `kernel` or `ramdisk`.
    pub fn check_urls(&self) -> Result<(), Invalid> {
        check_boot_url("kernel", &self.kernel)?;
        check_boot_url("ramdisk", &self.ramdisk)
    }
}

impl ImageSpec {
    /// Whether the agent could read the image from its source.
    fn check_http(&self) -> Result<(), Invalid> {
        if !matches!(self.checksum, Some(ImageChecksum::Digest { .. })) {
            return Err(Invalid::new(
                "image.checksum",
                "",
                "must be a digest with image_download_source `http`",
            ));
        }
        if !self.source.starts_with("http") {
            return Err(Invalid::new(
                "image.source",
                &self.source,
                "cannot be read by the agent; use image_download_source `local`",
            ));
        }
        Ok(())
    }
}
