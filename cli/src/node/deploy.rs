//! `node deploy`, `node rebuild` and `node adopt`.

use bessemer_proto::v1::{BootcOptions, DeployNodeRequest, DeploymentSpec, ImageSpec};

use super::fan_out::{Asked, Verb};
use super::verdict::Goal;
use crate::arguments::KeyValue;
use crate::config_drive::ConfigDriveArguments;
use crate::failure::Failure;
use crate::image_argument::{ImageDigest, resolve};
use crate::partition_arguments::PartitionArguments;
use crate::session::Session;
use crate::step_argument::RequestedSteps;

/// `node deploy`.
#[derive(Debug, clap::Args)]
pub(crate) struct Deploy {
    /// URL, path on the image cache's host, or name or id of a prepared image
    #[arg(long, value_name = "URL|PATH|NAME|ID", help_heading = "Image")]
    image: Option<String>,
    #[command(flatten)]
    details: DeploymentArguments,
}

/// `node rebuild`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rebuild {
    /// URL, path, or name or id of a prepared image; with nothing given at all, the last deployment is repeated as it was
    #[arg(long, value_name = "URL|PATH|NAME|ID", help_heading = "Image")]
    image: Option<String>,
    #[command(flatten)]
    details: DeploymentArguments,
}

/// `node adopt`.
#[derive(Debug, clap::Args)]
pub(crate) struct Adopt {
    /// What runs on it: URL, path, or name or id of a prepared image; a rebuild puts this on it
    #[arg(long, value_name = "URL|PATH|NAME|ID", help_heading = "Image")]
    image: Option<String>,
    #[command(flatten)]
    details: DeploymentArguments,
}

/// All of a deployment but node and image.
#[derive(Debug, clap::Args)]
struct DeploymentArguments {
    #[command(flatten)]
    digest: ImageDigest,
    /// `local`: through the image cache (default); `http`: the agent reads the source itself, if it is not compressed as a whole
    #[arg(long, default_value = "", hide_default_value = true, help_heading = "Image")]
    image_download_source: String,
    /// `direct`, `custom-agent`, `ramdisk`, `ansible`, `bootc`, `noop` or `autodetect`; the node's when not given
    #[arg(long, default_value = "", hide_default_value = true)]
    deploy_interface: String,
    /// URL of the ISO that the machine is to run from, with `ramdisk`
    #[arg(long, default_value = "", hide_default_value = true, value_name = "URL")]
    boot_iso: String,
    /// Who may log in as root by SSH, as `authorized_keys` has it; with `bootc`
    #[arg(long, value_name = "FILE", help_heading = "Container")]
    bootc_authorized_keys: Option<std::path::PathBuf>,
    /// Encrypt the root file system with a key that the machine's TPM holds; with `bootc`
    #[arg(long, help_heading = "Container")]
    bootc_tpm2_luks: bool,
    /// URL of the kernel that the machine is to run over the network, with `ramdisk` and the boot interface `ipxe`
    #[arg(long, default_value = "", hide_default_value = true, value_name = "URL")]
    kernel: String,
    /// URL of that kernel's ramdisk
    #[arg(long, default_value = "", hide_default_value = true, value_name = "URL")]
    ramdisk: String,
    /// Words for that kernel's command line
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "WORDS",
        allow_hyphen_values = true
    )]
    kernel_arguments: String,
    /// Steps among those of the interface: a list of {step, args, priority, limit_seconds} as JSON or YAML, or a file with
    /// it. Priority 0 leaves a step of the interface out
    #[arg(long, value_name = "FILE|JSON")]
    deploy_steps: Option<RequestedSteps>,
    /// Trait whose deploy template adds its steps; repeatable. Those of the node's allocation, when none is given
    #[arg(long = "instance-trait", value_name = "TRAIT")]
    traits: Vec<String>,
    /// Root device hint, as in Ironic; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    root_device: Vec<RootDeviceHint>,
    #[command(flatten)]
    partitions: PartitionArguments,
    #[command(flatten)]
    config_drive: ConfigDriveArguments,
    #[command(flatten)]
    verb: Verb,
}

/// `KEY=VALUE` with the value as it is: hints are text.
#[derive(Debug, Clone)]
struct RootDeviceHint(String, String);

impl std::str::FromStr for RootDeviceHint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = KeyValue::split(text)?;
        Ok(Self(pair.0.to_owned(), pair.1.to_owned()))
    }
}

impl Deploy {
    /// Asks for it, and waits if told to.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let spec = Some(self.details.spec(session, self.image.as_deref()).await?);
        let ask = async |asked: Asked| {
            let node = session.client.deploy_node(request(asked, spec.clone())).await?;
            Ok((node, Goal::State("active")))
        };
        self.details.verb.each(session, ask).await
    }
}

impl Adopt {
    /// Asks for it, and waits if told to.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let spec = Some(self.details.spec(session, self.image.as_deref()).await?);
        let ask = async |asked: Asked| {
            let node = session.client.adopt_node(request(asked, spec.clone())).await?;
            Ok((node, Goal::State("active")))
        };
        self.details.verb.each(session, ask).await
    }
}

impl Rebuild {
    /// Asks for it, and waits if told to.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let is_repeat = self.image.is_none() && self.details.is_bare();
        let spec = match is_repeat {
            true => None,
            false => Some(self.details.spec(session, self.image.as_deref()).await?),
        };
        let ask = async |asked: Asked| {
            let node = session.client.rebuild_node(request(asked, spec.clone())).await?;
            Ok((node, Goal::State("active")))
        };
        self.details.verb.each(session, ask).await
    }
}

impl DeploymentArguments {
    async fn spec(
        &self,
        session: &Session,
        image: Option<&str>,
    ) -> Result<DeploymentSpec, Failure> {
        let hints = self.root_device.iter().map(|hint| (hint.0.clone(), hint.1.clone()));
        let image = match image {
            Some(image) => Some(ImageSpec {
                image_type: self.partitions.image_type.clone(),
                ..resolve(session, image, &self.digest).await?
            }),
            None if self.digest.is_empty() => None,
            None => {
                return Err(Failure::refused(
                    "a checksum and a format are of an image: give --image",
                ));
            }
        };
        Ok(DeploymentSpec {
            image,
            deploy_interface: self.deploy_interface.clone(),
            image_download_source: self.image_download_source.clone(),
            config_drive: self.config_drive.read()?,
            root_device: hints.collect(),
            partitions: self.partitions.layout(),
            deploy_steps: self.deploy_steps.clone().unwrap_or_default().0,
            boot_iso: self.boot_iso.clone(),
            bootc: self.bootc()?,
            kernel: self.kernel.clone(),
            ramdisk: self.ramdisk.clone(),
            kernel_arguments: self.kernel_arguments.clone(),
            traits: self.traits.clone(),
        })
    }

    fn bootc(&self) -> Result<Option<BootcOptions>, Failure> {
        let authorized_keys = match &self.bootc_authorized_keys {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path).map_err(|error| {
                let told = format!("--bootc-authorized-keys {}: {error}", path.display());
                Failure::refused(told)
            })?,
        };
        let options = BootcOptions { authorized_keys, tpm2_luks: self.bootc_tpm2_luks };
        Ok(Some(options).filter(|options| *options != BootcOptions::default()))
    }

    fn is_bare(&self) -> bool {
        self.digest.is_empty()
            && self.image_download_source.is_empty()
            && self.deploy_interface.is_empty()
            && self.root_device.is_empty()
            && self.config_drive.is_empty()
            && self.partitions.is_empty()
            && self.deploy_steps.is_none()
            && self.boot_iso.is_empty()
            && self.bootc_authorized_keys.is_none()
            && !self.bootc_tpm2_luks
            && self.kernel.is_empty()
            && self.ramdisk.is_empty()
            && self.kernel_arguments.is_empty()
            && self.traits.is_empty()
    }
}

fn request(
    Asked { node, command_id, version }: Asked,
    deployment: Option<DeploymentSpec>,
) -> DeployNodeRequest {
    DeployNodeRequest { command_id, node, version, deployment }
}
