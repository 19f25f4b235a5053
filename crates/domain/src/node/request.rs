//! What must be so of a request as a whole: its deploy interface has what it needs, and nothing that it would not look at.

use super::DeployInterface;
use super::container::BootcOptions;
use super::deployment::{
    CONFIG_DRIVE_BYTES_MAX, DeploymentSpec, ImageChecksum, ImageDownloadSource, ImageSpec,
    refuse_password,
};
use super::step::own_steps;
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

    /// The same request with the deploy interface that it means: `autodetect` takes `ramdisk` for an ISO, `bootc` for what only a
    /// container is told, `direct` for an image, and `custom-agent` where the operator's steps are all there is.
    #[must_use]
    pub fn detected(&self) -> Self {
        let mut spec = self.clone();
        if self.deploy_interface == DeployInterface::Autodetect {
            spec.deploy_interface = if self.boot_iso.is_some() {
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
                self.refuse("boot_iso", self.boot_iso.as_deref())?;
                match (&self.image, self.image_download_source) {
                    (None, _) => {
                        Err(Invalid::new("image", "", "is required with deploy_interface `direct`"))
                    }
                    (Some(_), ImageDownloadSource::Local) => Ok(()),
                    (Some(image), ImageDownloadSource::Http) => image.check_http(),
                }
            }
            DeployInterface::CustomAgent | DeployInterface::Ansible => {
                self.refuse("boot_iso", self.boot_iso.as_deref())?;
                self.refuse("partitions", self.partitions.as_ref().map(|_| ""))
            }
            DeployInterface::Bootc => {
                self.refuse("boot_iso", self.boot_iso.as_deref())?;
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
                self.refuse("boot_iso", self.boot_iso.as_deref())?;
                self.refuse("partitions", self.partitions.as_ref().map(|_| ""))?;
                self.refuse("config_drive", self.config_drive.as_ref().map(|_| ""))
            }
            DeployInterface::Autodetect => self.detected().check_content(),
            DeployInterface::Ramdisk => {
                self.refuse("image", self.image.as_ref().map(|image| image.source.as_str()))?;
                self.refuse("partitions", self.partitions.as_ref().map(|_| ""))?;
                self.refuse("root_device", self.root_device.keys().next().map(String::as_str))?;
                check_boot_iso(self.boot_iso.as_deref())
            }
        }
    }

    /// Refuses a field that was given and would not be looked at.
    fn refuse(&self, field: &str, given: Option<&str>) -> Result<(), Invalid> {
        let Some(value) = given else { return Ok(()) };
        let reason = format!("is nothing that deploy_interface `{}` uses", self.deploy_interface);
        Err(Invalid::new(field, value, reason))
    }
}

/// The URL is the BMC's to read.
fn check_boot_iso(iso: Option<&str>) -> Result<(), Invalid> {
    let Some(iso) = iso else {
        return Err(Invalid::new("boot_iso", "", "is required with deploy_interface `ramdisk`"));
    };
    let rest = ["http://", "https://"].iter().find_map(|scheme| iso.strip_prefix(scheme));
    if rest.is_none_or(str::is_empty) {
        let reason = "is not a URL that begins with http:// or https://, by which BMCs read it";
        return Err(Invalid::new("boot_iso", iso, reason));
    }
    refuse_password("boot_iso", iso)
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
