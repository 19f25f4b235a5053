//! Why an image cannot be prepared, and what a caller is told.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use bessemer_image::compression::Compression;
use bessemer_image::digest::Digest;
use bessemer_image::disk::DiskError;
use bessemer_image::format::FormatRefused;
use bessemer_image::pack::WritePackError;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The `domain` of every `google.rpc.ErrorInfo` of ours.
pub(crate) const ERROR_DOMAIN: &str = "bessemer";

/// Why an image cannot be prepared. Nothing of it was published.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum PrepareError {
    #[error("{field} `{value}`: {message}")]
    InvalidField { field: &'static str, value: String, message: String },
    #[error(
        "image.checksum is missing: source `{source_url}` is not a local file; give a sha256 or sha512, or the URL of a checksum file"
    )]
    ChecksumMissing { source_url: String },
    #[error("{field} `{value}`: {message}")]
    ChecksumInvalid { field: &'static str, value: String, message: String },
    #[error("source `{source_url}` has {} {found}, expected {expected}; correct image.checksum or the source", found.algorithm())]
    ChecksumMismatch { source_url: String, expected: Box<Digest>, found: Box<Digest> },
    #[error("source `{source_url}`: {refused}; correct image.disk_format or convert the source")]
    Format { source_url: String, refused: FormatRefused },
    #[error("source `{source_url}`: {error}")]
    Disk { source_url: String, error: DiskError },
    #[error(
        "source `{source_url}` is damaged: its {compression} stream does not unpack: {message}"
    )]
    NotUnpacked { source_url: String, compression: Compression, message: String },
    #[error(
        "source `{source_url}` takes at least {image_bytes} bytes, max_image_bytes is {limit_bytes}"
    )]
    TooLarge { source_url: String, image_bytes: u64, limit_bytes: u64 },
    #[error("source `{source_url}` is truncated: {message}")]
    Truncated { source_url: String, message: String },
    #[error("source `{source_url}` cannot be read: {message}; check that the cache can reach it")]
    SourceUnreachable { source_url: String, message: String },
    #[error("peer {peer} cannot be copied from: {message}")]
    Peer { peer: String, message: String },
    #[error("source `{source_url}` is refused: {message}")]
    SourceRefused { source_url: String, message: String },
    #[error("source `{source_url}` cannot be prepared: its decoder did not end well: {how}")]
    DecoderEnded { source_url: String, is_killed: bool, how: String },
    /// What the decoder said.
    #[error("{message}")]
    Decoding {
        reason: &'static str,
        code: Code,
        message: String,
        field: Option<&'static str>,
        value: String,
        may_be_damage: bool,
    },
    #[error("source `{source_url}` changed while it was read; prepare it again")]
    SourceChanged { source_url: String },
    #[error("no space left at `{}`; free some or lower cache_limit_bytes", path.display())]
    OutOfSpace { path: PathBuf },
    #[error("`{}` takes {needed_bytes} bytes and {free_bytes} are free; free some or lower cache_limit_bytes", path.display())]
    TooLittleSpace { path: PathBuf, needed_bytes: u64, free_bytes: u64 },
    #[error("cannot {action} `{}`", path.display())]
    Storage { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the preparation ended without a result; prepare the image again")]
    Lost,
}

impl PrepareError {
    /// An error of the cache's own disk.
    pub(crate) fn storage(
        action: &'static str,
        path: impl Into<PathBuf>,
        source: io::Error,
    ) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::OutOfSpace { path },
            _ => Self::Storage { action, path, source },
        }
    }

    /// The reason of `google.rpc.ErrorInfo`. A contract: never rename or reuse one.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidField { .. } => "INVALID_FIELD",
            Self::ChecksumMissing { .. } => "IMAGE_CHECKSUM_MISSING",
            Self::ChecksumInvalid { .. } => "IMAGE_CHECKSUM_INVALID",
            Self::ChecksumMismatch { .. } => "IMAGE_CHECKSUM_MISMATCH",
            Self::Format { refused, .. } => match refused {
                FormatRefused::Mismatch { .. } => "IMAGE_FORMAT_MISMATCH",
                FormatRefused::Unsupported { .. } => "IMAGE_FORMAT_UNSUPPORTED",
            },
            Self::Disk { error, .. } => error.fault.reason(),
            Self::NotUnpacked { .. } => "IMAGE_MALFORMED",
            Self::TooLarge { .. } => "IMAGE_TOO_LARGE",
            Self::Truncated { .. } => "IMAGE_TRUNCATED",
            Self::SourceUnreachable { .. } => "IMAGE_SOURCE_UNREACHABLE",
            Self::Peer { .. } => "IMAGE_PEER_FAILED",
            Self::SourceRefused { .. } => "IMAGE_SOURCE_REFUSED",
            Self::DecoderEnded { .. } => "IMAGE_DECODER_FAILED",
            Self::Decoding { reason, .. } => reason,
            Self::SourceChanged { .. } => "IMAGE_SOURCE_CHANGED",
            Self::OutOfSpace { .. } | Self::TooLittleSpace { .. } => "OUT_OF_SPACE",
            Self::Storage { .. } => "STORAGE_FAILED",
            Self::Lost => "IMAGE_PREPARATION_LOST",
        }
    }

    /// The gRPC code: who can do something about it.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Decoding { code, .. } => *code,
            // By the system, when it was short of memory: it may go better another time.
            Self::DecoderEnded { is_killed: true, .. } => Code::Unavailable,
            Self::InvalidField { .. }
            | Self::ChecksumMissing { .. }
            | Self::ChecksumInvalid { .. } => Code::InvalidArgument,
            Self::ChecksumMismatch { .. }
            | Self::Format { .. }
            | Self::Disk { .. }
            | Self::NotUnpacked { .. }
            | Self::TooLarge { .. }
            | Self::Truncated { .. }
            | Self::DecoderEnded { .. }
            | Self::SourceRefused { .. } => Code::FailedPrecondition,
            Self::SourceUnreachable { .. }
            | Self::SourceChanged { .. }
            | Self::Peer { .. }
            | Self::Lost => Code::Unavailable,
            Self::OutOfSpace { .. } | Self::TooLittleSpace { .. } => Code::ResourceExhausted,
            Self::Storage { .. } => Code::Internal,
        }
    }

    /// The field of the request to blame, if one is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::InvalidField { field, .. } | Self::ChecksumInvalid { field, .. } => Some(field),
            Self::ChecksumMissing { .. } | Self::ChecksumMismatch { .. } => Some("image.checksum"),
            Self::Format { refused: FormatRefused::Mismatch { .. }, .. } => {
                Some("image.disk_format")
            }
            Self::Decoding { field, .. } => *field,
            Self::Format { .. }
            | Self::Disk { .. }
            | Self::NotUnpacked { .. }
            | Self::TooLarge { .. }
            | Self::Truncated { .. }
            | Self::SourceUnreachable { .. }
            | Self::SourceRefused { .. }
            | Self::DecoderEnded { .. }
            | Self::SourceChanged { .. } => Some("image.source"),
            Self::OutOfSpace { .. }
            | Self::TooLittleSpace { .. }
            | Self::Storage { .. }
            | Self::Peer { .. }
            | Self::Lost => None,
        }
    }

    /// The value of that field.
    pub(crate) fn value(&self) -> String {
        match self {
            Self::InvalidField { value, .. }
            | Self::ChecksumInvalid { value, .. }
            | Self::Decoding { value, .. } => value.clone(),
            Self::ChecksumMismatch { expected, .. } => expected.to_string(),
            Self::Format { refused: FormatRefused::Mismatch { declared, .. }, .. } => {
                declared.to_string()
            }
            Self::Format { source_url, .. }
            | Self::Disk { source_url, .. }
            | Self::NotUnpacked { source_url, .. }
            | Self::TooLarge { source_url, .. }
            | Self::Truncated { source_url, .. }
            | Self::SourceUnreachable { source_url, .. }
            | Self::SourceRefused { source_url, .. }
            | Self::DecoderEnded { source_url, .. }
            | Self::SourceChanged { source_url } => source_url.clone(),
            Self::ChecksumMissing { .. }
            | Self::OutOfSpace { .. }
            | Self::TooLittleSpace { .. }
            | Self::Storage { .. }
            | Self::Peer { .. }
            | Self::Lost => String::new(),
        }
    }

    /// Whether the bytes of the source are to blame, so that its checksum, once known, tells more.
    pub(crate) fn may_be_damage(&self) -> bool {
        match self {
            Self::Truncated { .. } | Self::NotUnpacked { .. } | Self::DecoderEnded { .. } => true,
            Self::Decoding { may_be_damage, .. } => *may_be_damage,
            Self::Disk { error, .. } => error.fault.may_be_damage(),
            _ => false,
        }
    }

    /// What the caller is told.
    pub(crate) fn to_status(&self) -> Status {
        let mut metadata = HashMap::new();
        if let Some(field) = self.field() {
            metadata.insert("field".to_owned(), field.to_owned());
            metadata.insert("value".to_owned(), self.value());
        }
        let details = ErrorDetails::with_error_info(self.reason(), ERROR_DOMAIN, metadata);
        Status::with_error_details(self.code(), self.to_string(), details)
    }

    /// An image that the catalogue does not hold.
    pub(crate) fn not_found(message: String, reference: &str) -> Status {
        let metadata = HashMap::from([
            ("kind".to_owned(), "image".to_owned()),
            ("reference".to_owned(), reference.to_owned()),
        ]);
        let details = ErrorDetails::with_error_info("RESOURCE_NOT_FOUND", ERROR_DOMAIN, metadata);
        Status::with_error_details(Code::NotFound, message, details)
    }

    /// A raw image that could not be packed.
    pub(crate) fn from_pack<E>(
        error: WritePackError<E>,
        pack: PathBuf,
        read: impl FnOnce(E) -> Self,
        source_url: &str,
    ) -> Self
    where
        E: std::error::Error + 'static,
    {
        let internal = |message: String| io::Error::other(message);
        match error {
            WritePackError::TooLarge { raw_bytes } => Self::TooLarge {
                source_url: source_url.to_owned(),
                image_bytes: raw_bytes,
                limit_bytes: bessemer_image::pack::MAX_RAW_BYTES,
            },
            WritePackError::Read { source, .. } => read(source),
            WritePackError::Write { source, .. } => Self::storage("write", pack, source),
            WritePackError::Encode { source, .. } => {
                Self::storage("compress", pack, internal(format!("{source}: {}", source.source)))
            }
            WritePackError::Manifest { source } => {
                Self::storage("describe", pack, internal(source.to_string()))
            }
            WritePackError::WorkerDied { .. } => {
                Self::storage("compress", pack, internal(error.to_string()))
            }
        }
    }
}
