//! What a decoder is told and what it tells: JSON behind its length, over a socket.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use bessemer_image::digest::Algorithm;
use bessemer_image::format::DiskFormat;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::error::PrepareError;

/// Longest message; a decoder that sends more is not believed.
pub(super) const MESSAGE_BYTES_MAX: u32 = 64 << 10;

/// What a decoder is to do. Its first message.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Job {
    pub(crate) source_url: String,
    /// What the caller says the image is.
    pub(crate) declared: Option<DiskFormat>,
    pub(crate) max_image_bytes: u64,
    /// zstd level of the chunks.
    pub(crate) level: i32,
    pub(crate) workers: NonZeroUsize,
    /// Where to put an image that was compressed as a whole and is read at random. It has no name for long.
    pub(crate) expanded: PathBuf,
    pub(crate) work: Work,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) enum Work {
    /// Make a pack and its manifest.
    Convert {
        pack: PathBuf,
        /// Space to take for the pack beforehand.
        reserved_bytes: u64,
        manifest: PathBuf,
        /// What the source's digest was given in.
        given: Option<Algorithm>,
    },
    /// Make damaged frames of a pack again.
    Repair { pack: PathBuf, manifest: PathBuf, format: DiskFormat },
}

/// How much of the source is there. Told whenever it changes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Growth {
    pub(crate) available_bytes: u64,
    /// If it is known.
    pub(crate) total_bytes: Option<u64>,
    /// No more will come.
    pub(crate) ended: bool,
}

/// What a decoder tells.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Said {
    /// It begins. `unconfined`: what it could not give up, and why.
    Begun {
        unconfined: Option<String>,
    },
    Progress {
        done_bytes: u64,
        /// 0 while unknown.
        total_bytes: u64,
    },
    Converted {
        format: DiskFormat,
        raw_algorithm: Algorithm,
        raw_digest: String,
    },
    Repaired {
        frames: usize,
    },
    /// The source has another chunk than the pack had.
    Different {
        index: u64,
    },
    Failed(Failure),
}

/// A [`PrepareError`] on its way.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Failure {
    reason: String,
    code: i32,
    message: String,
    field: Option<String>,
    value: String,
    may_be_damage: bool,
}

/// What a decoder may give as the reason, and which field it may blame: both are contracts, and it is not trusted.
const REASONS: [&str; 12] = [
    "IMAGE_BACKING_FILE",
    "IMAGE_ENCRYPTED",
    "IMAGE_EXTERNAL_DATA_FILE",
    "IMAGE_FORMAT_MISMATCH",
    "IMAGE_FORMAT_UNSUPPORTED",
    "IMAGE_MALFORMED",
    "IMAGE_SOURCE_UNREACHABLE",
    "IMAGE_TOO_LARGE",
    "IMAGE_TRUNCATED",
    "OUT_OF_SPACE",
    "STORAGE_FAILED",
    "IMAGE_PREPARATION_LOST",
];
const FIELDS: [&str; 2] = ["image.source", "image.disk_format"];

impl From<&PrepareError> for Failure {
    fn from(error: &PrepareError) -> Self {
        Self {
            reason: error.reason().to_owned(),
            code: error.code() as i32,
            message: error.to_string(),
            field: error.field().map(str::to_owned),
            value: error.value(),
            may_be_damage: error.may_be_damage(),
        }
    }
}

impl From<Failure> for PrepareError {
    fn from(failure: Failure) -> Self {
        let Failure { reason, code, message, field, value, may_be_damage } = failure;
        let reason = REASONS.into_iter().find(|known| *known == reason);
        Self::Decoding {
            reason: reason.unwrap_or("IMAGE_MALFORMED"),
            code: Code::from(code),
            message,
            field: FIELDS.into_iter().find(|known| Some(*known) == field.as_deref()),
            value,
            may_be_damage,
        }
    }
}

/// A message as it is sent.
pub(super) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    Ok([length.to_be_bytes().as_slice(), &body].concat())
}

/// Sends a message.
pub(super) fn send(mut socket: impl Write, message: &impl Serialize) -> io::Result<()> {
    socket.write_all(&encode(message)?)
}

/// The next message; blocks until it is there.
pub(super) fn receive<T: DeserializeOwned>(mut socket: impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut body = vec![0; length as usize];
    socket.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_the_same_on_the_other_side_and_no_more_than_it_may() {
        let error = PrepareError::TooLarge {
            source_url: "http://h/x".to_owned(),
            image_bytes: 2,
            limit_bytes: 1,
        };
        let sent = encode(&Said::Failed(Failure::from(&error))).unwrap();
        let Said::Failed(failure) = receive(sent.as_slice()).unwrap() else { panic!() };
        let told = PrepareError::from(failure);
        assert_eq!(told.to_string(), error.to_string());
        assert_eq!((told.reason(), told.code()), (error.reason(), error.code()));
        assert_eq!((told.field(), told.value()), (error.field(), error.value()));

        let invented = Failure {
            reason: "ALL_IS_WELL".to_owned(),
            field: Some("nobody".to_owned()),
            ..Failure::from(&error)
        };
        let told = PrepareError::from(invented);
        assert_eq!((told.reason(), told.field()), ("IMAGE_MALFORMED", None));
    }

    #[test]
    fn a_message_that_is_too_long_is_not_read() {
        let error = receive::<Said>([0xff; 16].as_slice()).unwrap_err();
        assert!(error.to_string().contains("4294967295 bytes"), "{error}");
    }
}
