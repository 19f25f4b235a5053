//! What can be wrong with a disk image.

use std::io;

use crate::format::DiskFormat;

/// Why a disk image cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the {format} image {fault}")]
pub struct DiskError {
    /// The format that it was read as.
    pub format: DiskFormat,
    /// What is wrong.
    pub fault: DiskFault,
}

/// What is wrong with a disk image.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum DiskFault {
    #[error("has no mark of its format where one belongs")]
    NoMark,
    #[error("has version {version}; {readable} can be read")]
    Version { version: u32, readable: &'static str },
    #[error("is of the kind `{kind}`; {readable} can be read, so convert it with `qemu-img`")]
    Kind { kind: String, readable: &'static str },
    #[error("has a backing file (`{name}`); flatten it with `qemu-img convert`")]
    BackingFile { name: String },
    #[error("keeps its data in an external file; convert it with `qemu-img convert`")]
    ExternalDataFile,
    #[error("is encrypted (method {method}); decrypt it with `qemu-img convert`")]
    Encrypted { method: u32 },
    #[error("is marked dirty: it was not closed; repair it with `qemu-img check -r all`")]
    Dirty,
    #[error("is marked corrupt; repair it with `qemu-img check -r all`")]
    Corrupt,
    #[error("uses unknown features {bits:#x}")]
    UnknownFeatures { bits: u64 },
    #[error("uses an unknown feature: {name}")]
    UnknownFeature { name: String },
    #[error("uses unknown compression type {compression_type}")]
    UnknownCompression { compression_type: u16 },
    #[error("has a virtual size of {virtual_bytes} bytes, the limit is {limit_bytes}")]
    TooLarge { virtual_bytes: u64, limit_bytes: u64 },
    #[error(
        "is truncated: its {what} takes {needed_bytes} bytes at offset {offset_bytes}, the file \
         has {source_bytes} bytes"
    )]
    Truncated { what: &'static str, offset_bytes: u64, needed_bytes: u64, source_bytes: u64 },
    #[error("is malformed: {what} is {value:#x}")]
    Malformed { what: &'static str, value: u64 },
    #[error(
        "is damaged: the block at guest offset {guest_offset_bytes} does not unpack: {message}"
    )]
    Unpack { guest_offset_bytes: u64, message: String },
    #[error("cannot be read: its {what} at byte {offset_bytes}: {error}")]
    Read { what: &'static str, offset_bytes: u64, error: io::Error },
}

impl DiskFault {
    pub(super) fn malformed(what: &'static str, value: impl Into<u64>) -> Self {
        Self::Malformed { what, value: value.into() }
    }

    /// The fault of an image that was read as a format.
    pub(super) fn of(self, format: DiskFormat) -> DiskError {
        DiskError { format, fault: self }
    }

    /// What programs tell it by: the reason of `google.rpc.ErrorInfo`. A contract: never rename or reuse one.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BackingFile { .. } => "IMAGE_BACKING_FILE",
            Self::ExternalDataFile => "IMAGE_EXTERNAL_DATA_FILE",
            Self::Encrypted { .. } => "IMAGE_ENCRYPTED",
            Self::TooLarge { .. } => "IMAGE_TOO_LARGE",
            Self::Truncated { .. } => "IMAGE_TRUNCATED",
            Self::Read { error, .. } if error.kind() == io::ErrorKind::UnexpectedEof => {
                "IMAGE_TRUNCATED"
            }
            Self::Read { .. } => "IMAGE_SOURCE_UNREACHABLE",
            Self::Kind { .. } => "IMAGE_FORMAT_UNSUPPORTED",
            Self::NoMark
            | Self::Version { .. }
            | Self::Dirty
            | Self::Corrupt
            | Self::UnknownFeatures { .. }
            | Self::UnknownFeature { .. }
            | Self::UnknownCompression { .. }
            | Self::Malformed { .. }
            | Self::Unpack { .. } => "IMAGE_MALFORMED",
        }
    }

    /// Whether damage of the source's bytes explains it.
    pub fn may_be_damage(&self) -> bool {
        match self {
            Self::Truncated { .. }
            | Self::Malformed { .. }
            | Self::Unpack { .. }
            | Self::Read { .. } => true,
            Self::NoMark
            | Self::Version { .. }
            | Self::Kind { .. }
            | Self::BackingFile { .. }
            | Self::ExternalDataFile
            | Self::Encrypted { .. }
            | Self::Dirty
            | Self::Corrupt
            | Self::UnknownFeatures { .. }
            | Self::UnknownFeature { .. }
            | Self::UnknownCompression { .. }
            | Self::TooLarge { .. } => false,
        }
    }
}
