//! Deployments: the request, checked and immutable, and what was found out about it.
//!
//! Ironic writes derived values into the user's own fields, so that a rebuild depends on a warm cache; here the two
//! never mix.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::container::{BootcOptions, InstallReport, PinnedContainer};
use super::partitions::PartitionLayout;
use super::spec::JsonMap;
use super::{DeployInterface, KernelArguments, RequestedStep};
use crate::ids::CommandId;
use crate::{Invalid, Timestamp};

/// Largest config drive content that is taken into the ledger. User data beyond it belongs behind a URL.
pub const CONFIG_DRIVE_BYTES_MAX: usize = 1024 * 1024;

/// A deployment that a node holds or is getting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Named after the command that asked for it.
    pub id: CommandId,
    /// As asked for.
    pub spec: DeploymentSpec,
    /// When.
    pub requested_at: Timestamp,
    /// What the image cache made of the source, once it has.
    pub image: Option<ResolvedImage>,
    /// How the disk was written, once it was.
    pub write: Option<WriteReport>,
    /// Which container is meant, once that was looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<PinnedContainer>,
    /// How the container installed itself, once it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install: Option<InstallReport>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeploymentSpec {
    /// What goes on the disk; none where the operator's steps see to that.
    pub image: Option<ImageSpec>,
    /// How.
    pub deploy_interface: DeployInterface,
    /// From where the agent reads it.
    pub image_download_source: ImageDownloadSource,
    /// First-boot configuration for the deployed system.
    pub config_drive: Option<ConfigDrive>,
    /// Root device hints; empty leaves the choice to the agent.
    pub root_device: BTreeMap<String, String>,
    /// Set when the image is one file system, of type `partition`: what else the disk is divided into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<PartitionLayout>,
    /// Steps of the agent's plug-ins, and what becomes of the interface's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deploy_steps: Vec<RequestedStep>,
    /// URL of the ISO that the machine is to run from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_iso: Option<String>,
    /// What the container of `bootc` is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootc: Option<BootcOptions>,
    /// What the machine is to run from, over the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_boot: Option<KernelAndRamdisk>,
}

/// A kernel and its initial ramdisk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelAndRamdisk {
    /// `http://` or `https://` URL of the kernel.
    pub kernel: String,
    /// The same of the ramdisk.
    pub ramdisk: String,
    /// Words for the kernel's command line.
    #[serde(default)]
    pub arguments: KernelArguments,
}

/// From where the agent reads the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageDownloadSource {
    /// From the image cache, prepared and verified chunk by chunk.
    #[default]
    Local,
    /// From the source itself; raw images only, verified as a whole.
    Http,
}

impl ImageDownloadSource {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Http => "http",
        }
    }
}

impl FromStr for ImageDownloadSource {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "local" => Ok(Self::Local),
            "http" => Ok(Self::Http),
            _ => Err(Invalid::new("image_download_source", text, "is neither `local` nor `http`")),
        }
    }
}

/// Format of an image's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskFormat {
    /// The disk's bytes as they are.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
    /// VMware's format, as one file.
    Vmdk,
    /// Microsoft's first format; QEMU's `vpc`.
    Vhd,
    /// Microsoft's second format.
    Vhdx,
    /// VirtualBox's format.
    Vdi,
}

impl DiskFormat {
    const ALL: [Self; 6] = [Self::Raw, Self::Qcow2, Self::Vmdk, Self::Vhd, Self::Vhdx, Self::Vdi];

    /// By its name, or by what users of Ironic and QEMU call it.
    fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "gpt" | "mbr" | "iso" => Some(Self::Raw),
            "vpc" => Some(Self::Vhd),
            name => Self::ALL.into_iter().find(|format| format.as_str() == name),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
            Self::Vhd => "vhd",
            Self::Vhdx => "vhdx",
            Self::Vdi => "vdi",
        }
    }
}

/// Digest algorithms of image checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashAlgorithm {
    /// Kept for old checksum files; proves transfer, not origin.
    Md5,
    /// The usual one.
    Sha256,
    /// The strongest one.
    Sha512,
}

impl HashAlgorithm {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of a digest in hexadecimal digits.
    #[must_use]
    pub const fn hex_digits(self) -> usize {
        match self {
            Self::Md5 => 32,
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HashAlgorithm {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        [Self::Md5, Self::Sha256, Self::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| Invalid::new("os_hash_algo", text, "is none of: md5, sha256, sha512"))
    }
}

/// How the image is known to be the right one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ImageChecksum {
    /// The digest itself, lower case hexadecimal.
    Digest {
        /// Its algorithm.
        algorithm: HashAlgorithm,
        /// Its value.
        value: String,
    },
    /// A checksum file that names the image.
    File {
        /// Where it is.
        url: String,
    },
}

/// An image, checked as far as it can be without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// `http://`, `https://`, `s3://`, `file://` or `oci://` URL.
    pub source: String,
    /// Required unless the source is a local file or in a registry.
    pub checksum: Option<ImageChecksum>,
    /// What the content must be; none leaves it to the cache to find out.
    pub disk_format: Option<DiskFormat>,
}

/// What an image is an image of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImageType {
    /// A disk, with its own partition table.
    #[default]
    WholeDisk,
    /// One file system.
    Partition,
}

impl ImageType {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WholeDisk => "whole-disk",
            Self::Partition => "partition",
        }
    }
}

impl FromStr for ImageType {
    type Err = Invalid;

    /// The empty text means the usual one.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "" | "whole-disk" => Ok(Self::WholeDisk),
            "partition" => Ok(Self::Partition),
            _ => Err(Invalid::new("image_type", text, "is neither `whole-disk` nor `partition`")),
        }
    }
}

/// An image as Ironic's `instance_info` keys give it, unchecked.
#[derive(Debug, Clone, Default)]
pub struct ImageInput<'a> {
    /// `image_source`.
    pub source: &'a str,
    /// `image_checksum`: a digest or the URL of a checksum file.
    pub checksum: &'a str,
    /// `image_os_hash_algo`.
    pub os_hash_algo: &'a str,
    /// `image_os_hash_value`: a digest or the URL of a checksum file.
    pub os_hash_value: &'a str,
    /// `image_disk_format`.
    pub disk_format: &'a str,
    /// `image_type`.
    pub image_type: &'a str,
}

impl ImageSpec {
    /// Checks all that can be known without reading the image, by Ironic's rules.
    ///
    /// # Errors
    /// [`Invalid`] naming the field, relative to the image.
    pub fn try_new(input: &ImageInput<'_>) -> Result<Self, Invalid> {
        let source = check_source(input.source)?;
        input.image_type.parse::<ImageType>()?;
        let disk_format = match input.disk_format {
            "" => None,
            text => Some(DiskFormat::parse(text).ok_or_else(|| {
                let formats = DiskFormat::ALL.map(DiskFormat::as_str).join(", ");
                Invalid::new("disk_format", text, format!("is not one of {formats}"))
            })?),
        };
        let checksum = parse_checksum(input)?;
        // A registry knows its images' digests.
        let is_known = ["file://", "oci://"].iter().any(|scheme| source.starts_with(scheme));
        if checksum.is_none() && !is_known {
            return Err(Invalid::new(
                "checksum",
                "",
                format!(
                    "is required for {source}: give checksum, or os_hash_algo and os_hash_value"
                ),
            ));
        }
        Ok(Self { source, checksum, disk_format })
    }
}

fn check_source(source: &str) -> Result<String, Invalid> {
    if source.is_empty() {
        return Err(Invalid::new("source", "", "is required: the URL of the image"));
    }
    let known = ["http://", "https://", "s3://", "file://", "oci://"];
    let rest = known.iter().find_map(|scheme| source.strip_prefix(scheme));
    refuse_password("source", source)?;
    match rest {
        Some(rest) if !rest.is_empty() => Ok(source.to_owned()),
        Some(_) => Err(Invalid::new("source", source, "names no image after the scheme")),
        None => Err(Invalid::new(
            "source",
            source,
            "is not a URL that begins with http://, https://, s3://, file:// or oci://",
        )),
    }
}

/// History keeps what it is told: a URL must not hold a password.
pub(super) fn refuse_password(field: &'static str, url: &str) -> Result<(), Invalid> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => Err(Invalid::new(
            field,
            host,
            "holds a password, which history would keep; [[http.credentials]] of the image cache are for images' passwords",
        )),
        Some(_) | None => Ok(()),
    }
}

fn checksum_file(field: &'static str, url: &str) -> Result<ImageChecksum, Invalid> {
    refuse_password(field, url)?;
    Ok(ImageChecksum::File { url: url.to_owned() })
}

/// `os_hash_*` wins over `checksum`, as in Ironic; half a pair is refused.
fn parse_checksum(input: &ImageInput<'_>) -> Result<Option<ImageChecksum>, Invalid> {
    match (input.os_hash_algo, input.os_hash_value) {
        ("", "") => {}
        (algo, "") => {
            return Err(Invalid::new(
                "os_hash_value",
                "",
                format!("is required because os_hash_algo `{algo}` is set"),
            ));
        }
        ("", value) => {
            return Err(Invalid::new(
                "os_hash_algo",
                "",
                format!("is required because os_hash_value `{value}` is set"),
            ));
        }
        (algo, value) => {
            let algorithm: HashAlgorithm = algo.parse()?;
            if is_url(value) {
                return checksum_file("os_hash_value", value).map(Some);
            }
            return digest("os_hash_value", algorithm, value).map(Some);
        }
    }
    if input.checksum.is_empty() {
        return Ok(None);
    }
    if is_url(input.checksum) {
        return checksum_file("checksum", input.checksum).map(Some);
    }
    let algorithm = [HashAlgorithm::Md5, HashAlgorithm::Sha256, HashAlgorithm::Sha512]
        .into_iter()
        .find(|algorithm| algorithm.hex_digits() == input.checksum.len())
        .ok_or_else(|| {
            Invalid::new(
                "checksum",
                input.checksum,
                format!(
                    "has {} characters; md5 has 32, sha256 64 and sha512 128 hexadecimal digits",
                    input.checksum.len()
                ),
            )
        })?;
    digest("checksum", algorithm, input.checksum).map(Some)
}

fn is_url(text: &str) -> bool {
    ["http://", "https://", "file://"].iter().any(|scheme| text.starts_with(scheme))
}

fn digest(field: &str, algorithm: HashAlgorithm, value: &str) -> Result<ImageChecksum, Invalid> {
    if value.len() != algorithm.hex_digits() || !value.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Invalid::new(
            field,
            value,
            format!("is not a {algorithm} digest: {} hexadecimal digits", algorithm.hex_digits()),
        ));
    }
    Ok(ImageChecksum::Digest { algorithm, value: value.to_ascii_lowercase() })
}

/// First-boot configuration, in OpenStack's layout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigDrive {
    /// `meta_data.json`.
    pub meta_data: JsonMap,
    /// `network_data.json`.
    pub network_data: Option<JsonMap>,
    /// `user_data`, base64.
    pub user_data: Option<String>,
    /// `vendor_data.json`.
    pub vendor_data: Option<JsonMap>,
}

impl ConfigDrive {
    pub(super) fn size_bytes(&self) -> usize {
        let maps = [Some(&self.meta_data), self.network_data.as_ref(), self.vendor_data.as_ref()];
        let json: usize = maps
            .into_iter()
            .flatten()
            .map(|map| serde_json::to_vec(map).map_or(0, |bytes| bytes.len()))
            .sum();
        json + self.user_data.as_ref().map_or(0, String::len)
    }
}

/// What the image cache made of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedImage {
    /// BLAKE3 of its manifest, hexadecimal.
    pub id: String,
    /// What the source was.
    pub source_format: String,
    /// Size of the disk it describes.
    pub raw_size_bytes: u64,
    /// Algorithm of `raw_hash_value`.
    pub raw_hash_algo: String,
    /// Digest of the whole raw image, hexadecimal.
    pub raw_hash_value: String,
    /// Size of the pack.
    pub pack_size_bytes: u64,
}

/// How the disk was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteReport {
    /// Which disk.
    pub device: String,
    /// Size of the raw image.
    pub image_bytes: u64,
    /// Received, repeated ones included.
    pub wire_bytes: u64,
    /// Chunks that arrived damaged.
    pub refused_chunks: u64,
    /// Found right on the disk and not sent again: of an earlier attempt, or of what was there before.
    pub resumed_bytes: u64,
    /// From first to last byte, in the last attempt.
    pub duration_milliseconds: u64,
    /// Most memory that the agent held.
    pub agent_peak_rss_bytes: u64,
    /// UUID of the root file system, for an image of type `partition` whose file system has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_uuid: Option<String>,
}
