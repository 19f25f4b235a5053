//! What a caller asks for, checked before anything is fetched.

use std::path::PathBuf;

use bessemer_image::digest::{Algorithm, Digest};
use bessemer_image::format::DiskFormat;
use bessemer_proto::v1;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::PrepareError;
use crate::fetch::S3_SCHEME;
use crate::registry::Reference;

/// Longest text that is taken as a URL or a name: what servers and proxies commonly accept.
const MAX_TEXT_BYTES: usize = 4096;

/// An image as a user names it, kept with what was made of it.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageSpec {
    pub(crate) source: String,
    pub(crate) checksum: String,
    pub(crate) os_hash_algo: String,
    pub(crate) os_hash_value: String,
    pub(crate) disk_format: String,
    pub(crate) image_type: String,
}

impl From<v1::ImageSpec> for ImageSpec {
    fn from(spec: v1::ImageSpec) -> Self {
        let v1::ImageSpec {
            source,
            checksum,
            os_hash_algo,
            os_hash_value,
            disk_format,
            image_type,
        } = spec;
        Self { source, checksum, os_hash_algo, os_hash_value, disk_format, image_type }
    }
}

impl From<ImageSpec> for v1::ImageSpec {
    fn from(spec: ImageSpec) -> Self {
        let ImageSpec { source, checksum, os_hash_algo, os_hash_value, disk_format, image_type } =
            spec;
        Self { source, checksum, os_hash_algo, os_hash_value, disk_format, image_type }
    }
}

/// Where a source is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// By HTTP; an object in S3 too.
    Http(Url),
    File(PathBuf),
    /// In a container registry, which knows its digest.
    Oci(Reference),
}

/// What the source's content has to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Checksum {
    /// Only for local files.
    Unknown,
    Digest(Digest),
    /// A checksum file that lists the source.
    Listed(Url),
}

/// A request that can be tried.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) checksum: Checksum,
    pub(crate) declared: Option<DiskFormat>,
    pub(crate) spec: ImageSpec,
}

impl Request {
    /// Checks a request by Ironic's rules: `os_hash_value` before `checksum`, and a checksum for
    /// every source that is not a local file.
    pub(crate) fn try_new(
        spec: ImageSpec,
        name: String,
        allow_md5: bool,
    ) -> Result<Self, PrepareError> {
        for (field, value) in [("image.source", &spec.source), ("name", &name)] {
            if value.len() > MAX_TEXT_BYTES {
                let message =
                    format!("it has {} bytes, the limit is {MAX_TEXT_BYTES}", value.len());
                return Err(invalid(field, "…", message));
            }
        }
        let (source, file_name) = source(&spec.source)?;
        let checksum = checksum(&spec)?;
        match &checksum {
            Checksum::Unknown if matches!(source, Source::Http(_)) => {
                return Err(PrepareError::ChecksumMissing { source_url: spec.source });
            }
            Checksum::Digest(_) | Checksum::Listed(_)
                if matches!(source, Source::Oci(_)) && !is_sha256(&checksum) =>
            {
                let message = "an image in a registry is known by its sha256; give that or nothing";
                return Err(PrepareError::ChecksumInvalid {
                    field: "image.checksum",
                    value: spec.checksum,
                    message: message.to_owned(),
                });
            }
            Checksum::Digest(digest) if digest.algorithm() == Algorithm::Md5 && !allow_md5 => {
                let message = "md5 is not accepted here; give a sha256 or sha512";
                return Err(PrepareError::ChecksumInvalid {
                    field: "image.checksum",
                    value: digest.to_string(),
                    message: message.to_owned(),
                });
            }
            Checksum::Unknown | Checksum::Digest(_) | Checksum::Listed(_) => {}
        }
        let declared = match spec.disk_format.as_str() {
            "" => None,
            name => {
                Some(name.parse().map_err(|error: bessemer_image::format::UnknownDiskFormat| {
                    invalid("image.disk_format", name, error.to_string())
                })?)
            }
        };
        if !matches!(spec.image_type.as_str(), "" | "whole-disk" | "partition") {
            let message = "it is neither `whole-disk` nor `partition`".to_owned();
            return Err(invalid("image.image_type", &spec.image_type, message));
        }
        let name = if name.is_empty() { file_name } else { name };
        Ok(Self { name, source, checksum, declared, spec })
    }

    /// The name under which a checksum file lists the source.
    pub(crate) fn file_name(&self) -> String {
        match &self.source {
            Source::Http(url) => last_segment(url),
            Source::Oci(reference) => reference.name().to_owned(),
            Source::File(path) => {
                path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
            }
        }
    }
}

fn is_sha256(checksum: &Checksum) -> bool {
    matches!(checksum, Checksum::Digest(digest) if digest.algorithm() == Algorithm::Sha256)
}

fn invalid(field: &'static str, value: &str, message: String) -> PrepareError {
    PrepareError::InvalidField { field, value: value.to_owned(), message }
}

fn source(text: &str) -> Result<(Source, String), PrepareError> {
    let refused = |message: String| invalid("image.source", text, message);
    if let Some(rest) = text.strip_prefix("oci://") {
        let reference = Reference::parse(rest).map_err(refused)?;
        let name = reference.name().to_owned();
        return Ok((Source::Oci(reference), name));
    }
    let mut url = Url::parse(text).map_err(|error| refused(format!("not a URL: {error}")))?;
    let file_name = last_segment(&url);
    if url.password().is_some() {
        let message = "it holds a password, which would be kept; the cache's [[http.credentials]] \
                       are the place for it";
        // What had a password can be without.
        let _ = url.set_password(None);
        let _ = url.set_username("");
        return Err(invalid("image.source", url.as_str(), message.to_owned()));
    }
    match url.scheme() {
        "http" | "https" => Ok((Source::Http(url), file_name)),
        S3_SCHEME if url.host_str().is_none_or(str::is_empty) || url.path().len() < 2 => {
            Err(refused("it is not `s3://BUCKET/KEY`".to_owned()))
        }
        S3_SCHEME => Ok((Source::Http(url), file_name)),
        "file" => {
            let path = url
                .to_file_path()
                .map_err(|()| refused("a file URL names a path on this host".to_owned()))?;
            Ok((Source::File(path), file_name))
        }
        scheme => {
            Err(refused(format!("scheme `{scheme}` is not one of http, https, s3, file, oci")))
        }
    }
}

fn checksum(spec: &ImageSpec) -> Result<Checksum, PrepareError> {
    let ImageSpec { checksum, os_hash_algo, os_hash_value, .. } = spec;
    match (os_hash_algo.as_str(), os_hash_value.as_str()) {
        ("", "") => parse_checksum("image.checksum", checksum),
        (algorithm, "") => Err(PrepareError::ChecksumInvalid {
            field: "image.os_hash_value",
            value: String::new(),
            message: format!("os_hash_algo `{algorithm}` needs an os_hash_value"),
        }),
        ("", value) => parse_checksum("image.os_hash_value", value),
        (_, value) if is_url(value) => parse_checksum("image.os_hash_value", value),
        (algorithm, value) => {
            let refused = |field, value: &str, message: String| PrepareError::ChecksumInvalid {
                field,
                value: value.to_owned(),
                message,
            };
            let algorithm =
                algorithm.parse().map_err(|error: bessemer_image::digest::InvalidDigest| {
                    refused("image.os_hash_algo", algorithm, error.to_string())
                })?;
            Digest::parse_as(algorithm, value)
                .map(Checksum::Digest)
                .map_err(|error| refused("image.os_hash_value", value, error.to_string()))
        }
    }
}

fn is_url(text: &str) -> bool {
    text.contains("://")
}

fn parse_checksum(field: &'static str, value: &str) -> Result<Checksum, PrepareError> {
    let refused = |message| PrepareError::ChecksumInvalid {
        field,
        value: value.chars().take(200).collect(),
        message,
    };
    if value.is_empty() {
        return Ok(Checksum::Unknown);
    }
    if !is_url(value) {
        let digest = Digest::parse(value).map_err(|error| refused(error.to_string()))?;
        return Ok(Checksum::Digest(digest));
    }
    match Url::parse(value) {
        Ok(url) if url.password().is_some() => Err(PrepareError::ChecksumInvalid {
            field,
            value: url.host_str().unwrap_or_default().to_owned(),
            message: "it holds a password; the cache's [[http.credentials]] are the place for it"
                .to_owned(),
        }),
        Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(Checksum::Listed(url)),
        Ok(_) => Err(refused("a checksum file is fetched by http or https".to_owned())),
        Err(error) => Err(refused(format!("not a URL: {error}"))),
    }
}

/// The last part of a URL's path, percent-decoded.
fn last_segment(url: &Url) -> String {
    let segment = url.path_segments().and_then(Iterator::last).unwrap_or_default();
    percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn request(change: impl FnOnce(&mut ImageSpec)) -> Result<Request, PrepareError> {
        let mut spec = ImageSpec {
            source: "https://images.example/a%20b/disk%20one.qcow2?x=1".to_owned(),
            checksum: SHA256.to_owned(),
            ..ImageSpec::default()
        };
        change(&mut spec);
        Request::try_new(spec, String::new(), false)
    }

    #[test]
    fn a_request_without_a_name_is_named_after_its_source() {
        let request = request(|_| {}).unwrap();
        assert_eq!((request.name.as_str(), request.declared), ("disk one.qcow2", None));
        assert_eq!(request.file_name(), "disk one.qcow2");
        assert_eq!(request.checksum, Checksum::Digest(Digest::parse(SHA256).unwrap()));
    }

    #[test]
    fn os_hash_value_comes_before_checksum() {
        let request = request(|spec| {
            spec.os_hash_algo = "SHA512".to_owned();
            spec.os_hash_value = "A".repeat(128);
        });
        let Checksum::Digest(digest) = request.unwrap().checksum else { panic!() };
        assert_eq!(digest.to_string(), "a".repeat(128));
    }

    /// Each wrong field on its own, with the reason and the field that the caller is told.
    #[test]
    fn every_refusal_names_its_field() {
        type Change = fn(&mut ImageSpec);
        let cases: [(Change, &str, &str); 11] = [
            (|s| s.source = "disk.img".into(), "INVALID_FIELD", "image.source"),
            (|s| s.source = "ftp://h/x".into(), "INVALID_FIELD", "image.source"),
            (|s| s.source = "http://me:secret@h/x".into(), "INVALID_FIELD", "image.source"),
            (|s| s.checksum.clear(), "IMAGE_CHECKSUM_MISSING", "image.checksum"),
            (
                |s| s.checksum = "http://a:secret@h/".into(),
                "IMAGE_CHECKSUM_INVALID",
                "image.checksum",
            ),
            (|s| s.checksum = "abc".into(), "IMAGE_CHECKSUM_INVALID", "image.checksum"),
            (|s| s.checksum = "file:///sums".into(), "IMAGE_CHECKSUM_INVALID", "image.checksum"),
            (|s| s.checksum = "a".repeat(32), "IMAGE_CHECKSUM_INVALID", "image.checksum"),
            (|s| s.os_hash_algo = "sha512".into(), "IMAGE_CHECKSUM_INVALID", "image.os_hash_value"),
            (|s| s.disk_format = "qed".into(), "INVALID_FIELD", "image.disk_format"),
            (|s| s.image_type = "half-disk".into(), "INVALID_FIELD", "image.image_type"),
        ];
        for (change, reason, field) in cases {
            let error = request(change).unwrap_err();
            assert_eq!((error.reason(), error.field()), (reason, Some(field)), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let error = request(|spec| {
            spec.os_hash_algo = "sha1".to_owned();
            spec.os_hash_value = SHA256.to_owned();
        });
        assert_eq!(error.unwrap_err().field(), Some("image.os_hash_algo"));
    }

    #[test]
    fn a_local_file_needs_no_checksum() {
        let request = request(|spec| {
            spec.source = "file:///images/disk%231.img".to_owned();
            spec.checksum.clear();
        });
        let request = request.unwrap();
        assert_eq!(request.source, Source::File(PathBuf::from("/images/disk#1.img")));
        assert_eq!((request.checksum, request.name.as_str()), (Checksum::Unknown, "disk#1.img"));
    }
}
