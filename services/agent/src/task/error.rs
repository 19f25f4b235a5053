//! Why tasks fail: a stable reason for programs, a message for people.

use std::path::PathBuf;

use bessemer_image::digest::Digest;
use bessemer_image::format::FormatRefused;
use bessemer_image::pack::ChunkRefused;

use crate::disk::DiskError;
use crate::filesystem::FileSystemError;

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TaskError {
    #[error("cancelled")]
    Cancelled,
    #[error("task has {field} `{value}`, which {reason}")]
    Invalid { field: &'static str, value: String, reason: String },
    #[error("no disk matches root device hints {hints}; found: {found}")]
    NoRootDevice { hints: String, found: String },
    #[error(
        "several disks may be meant: {candidates}; name one with a root_device hint such as serial"
    )]
    AmbiguousRootDevice { candidates: String },
    #[error("image of {image_bytes} bytes is larger than {place} of {place_bytes} bytes")]
    ImageLargerThanDisk { image_bytes: u64, place: String, place_bytes: u64 },
    #[error(
        "the partitions asked for, with room for the tables and a config drive, need {needed_bytes} bytes; disk {disk} \
         has {disk_bytes}"
    )]
    PartitionsLargerThanDisk { needed_bytes: u64, disk: String, disk_bytes: u64 },
    #[error(
        "there is no ephemeral partition to preserve: disk {disk} has none of {size_bytes} bytes at byte {offset_bytes}"
    )]
    NoEphemeral { disk: String, offset_bytes: u64, size_bytes: u64 },
    #[error("the image is {content}; deploy it with image_type `{image_type}`")]
    ImageType { content: String, image_type: &'static str },
    #[error("the image brings no boot loader: {reason}")]
    NoBootLoader { reason: String },
    #[error(transparent)]
    FileSystem(#[from] FileSystemError),
    #[error(
        "the image's partition table is laid out for sectors of {image_sector_bytes} bytes, those \
         of disk {disk} have {disk_sector_bytes}: it would find no partition; use an image that \
         was made for such disks"
    )]
    SectorSize { image_sector_bytes: u32, disk: String, disk_sector_bytes: u64 },
    #[error("{url}: {refused}; correct image.disk_format, or use image_download_source `local`")]
    Format { url: String, refused: FormatRefused },
    #[error("{url}: {error}")]
    ImageUnreadable { url: String, error: bessemer_image::disk::DiskError },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("{refused}: {url} sent it damaged {times} times")]
    ChunkRefused { url: String, times: u32, refused: ChunkRefused },
    #[error("cannot get {url}: {message}")]
    SourceUnavailable { url: String, message: String },
    #[error("{url} cannot be used: {message}")]
    SourceCorrupt { url: String, message: String },
    #[error("image {url} has {algorithm} {found}, {expected} was asked for")]
    ChecksumMismatch { url: String, algorithm: String, found: String, expected: String },
    #[error("no room for a config drive of {drive_bytes} bytes on {disk}: {reason}")]
    NoRoomForConfigDrive { drive_bytes: u64, disk: String, reason: String },
    #[error("{disk} does not read as zeros at byte {offset_bytes} after erasing")]
    NotErased { disk: String, offset_bytes: u64 },
    #[error("the agent has no step `{step}`; its plug-ins offer: {offered}")]
    StepNotOffered { step: String, offered: String },
    #[error("{message}")]
    StepFailed { message: String },
    #[error(
        "step `{step}` was cut off half way, and its plug-in does not say that it can be repeated; look at what it left"
    )]
    StepInterrupted { step: String },
    #[error("rescue program {} {how}", program.display())]
    Rescue { program: PathBuf, how: String },
    #[error(
        "deploy interface `bootc` needs podman, and this ramdisk has no program {}; use a ramdisk with podman in it",
        program.display()
    )]
    NoPodman { program: PathBuf },
    #[error("{message}")]
    ContainerFailed { message: String },
    #[error(
        "disk {disk} of {disk_mib} MiB is too small: the container's root file system leaves {needed_mib} MiB free"
    )]
    DiskTooSmall { disk: String, disk_mib: u64, needed_mib: u64 },
    /// A defect of the agent.
    #[error("task ended abnormally: {message}")]
    Internal { message: String },
}

impl TaskError {
    /// What programs tell it by; never changes.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Cancelled => "CANCELLED",
            Self::Invalid { .. } => "INVALID_TASK",
            Self::NoRootDevice { .. } => "NO_ROOT_DEVICE",
            Self::AmbiguousRootDevice { .. } => "AMBIGUOUS_ROOT_DEVICE",
            Self::ImageLargerThanDisk { .. } => "IMAGE_LARGER_THAN_DISK",
            Self::SectorSize { .. } => "IMAGE_SECTOR_SIZE",
            Self::PartitionsLargerThanDisk { .. } => "PARTITIONS_LARGER_THAN_DISK",
            Self::NoEphemeral { .. } => "EPHEMERAL_NOT_FOUND",
            Self::ImageType { .. } => "IMAGE_TYPE_MISMATCH",
            Self::NoBootLoader { .. } => "NO_BOOT_LOADER",
            Self::FileSystem(_) => "FILE_SYSTEM",
            Self::Format { refused: FormatRefused::Mismatch { .. }, .. } => "IMAGE_FORMAT_MISMATCH",
            Self::Format { .. } => "IMAGE_FORMAT_UNSUPPORTED",
            Self::ImageUnreadable { error, .. } => error.fault.reason(),
            Self::Disk(_) | Self::NotErased { .. } => "DISK_IO",
            Self::ChunkRefused { .. } => "CHUNK_REFUSED",
            Self::SourceUnavailable { .. } => "SOURCE_UNAVAILABLE",
            Self::SourceCorrupt { .. } => "SOURCE_CORRUPT",
            Self::ChecksumMismatch { .. } => "IMAGE_CHECKSUM_MISMATCH",
            Self::NoRoomForConfigDrive { .. } => "NO_ROOM_FOR_CONFIG_DRIVE",
            Self::StepNotOffered { .. } => "STEP_NOT_OFFERED",
            Self::StepFailed { .. } => "STEP_FAILED",
            Self::StepInterrupted { .. } => "STEP_INTERRUPTED",
            Self::Rescue { .. } => "RESCUE_FAILED",
            Self::NoPodman { .. } => "NO_PODMAN",
            Self::ContainerFailed { .. } => "CONTAINER_FAILED",
            Self::DiskTooSmall { .. } => "DISK_TOO_SMALL",
            Self::Internal { .. } => "INTERNAL",
        }
    }

    pub(crate) fn checksum_mismatch(url: &str, found: Digest, expected: Digest) -> Self {
        Self::ChecksumMismatch {
            url: url.to_owned(),
            algorithm: expected.algorithm().to_string(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    pub(crate) fn invalid(
        field: &'static str,
        value: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Invalid { field, value: value.into(), reason: reason.into() }
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        line = format!("{line}: {cause}");
        source = cause.source();
    }
    line
}
