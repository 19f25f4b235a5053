//! `oci://host[:port]/repository[:tag][@sha256:digest]`.

use std::fmt;

use bessemer_image::digest::{Algorithm, Digest};
use url::Url;

/// Longest tag (OCI distribution specification 1.1, "Pulling manifests").
const TAG_CHARACTERS_MAX: usize = 128;

/// The tag of a reference without one.
const TAG_DEFAULT: &str = "latest";

/// An image in a registry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reference {
    /// `host` or `host:port`.
    pub(crate) host: String,
    pub(crate) repository: String,
    pub(crate) version: Version,
}

/// Which of a repository's images.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Version {
    /// Whatever the registry says today.
    Tag(String),
    /// The one whose manifest has this SHA-256.
    Digest(Digest),
}

impl Reference {
    /// Reads what follows `oci://`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        let (host, path) = name.split_once('/').ok_or("it names no repository after the host")?;
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        let is_host = Url::parse(&format!("https://{host}"))
            .is_ok_and(|url| url.path() == "/" && url.username().is_empty());
        if host.is_empty() || !is_host {
            return Err(format!("`{host}` is no host"));
        }
        if !repository.split('/').all(is_repository_part) {
            return Err(format!(
                "`{repository}` is no repository: lower-case letters, digits, and `.`, `_`, `-` between them"
            ));
        }
        let tag = tag.unwrap_or(TAG_DEFAULT);
        if !is_tag(tag) {
            return Err(format!("`{tag}` is no tag"));
        }
        // With a digest the tag is for people.
        let version = digest.map_or_else(|| Version::Tag(tag.to_owned()), Version::Digest);
        Ok(Self { host: host.to_ascii_lowercase(), repository: repository.to_owned(), version })
    }

    /// The last part of the repository's name.
    pub(crate) fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "sha256:{digest}"),
        }
    }
}

/// A digest as registries write it; they have only SHA-256 in common.
pub(super) fn parse_digest(text: &str) -> Result<Digest, String> {
    let digits = text.strip_prefix("sha256:").ok_or_else(|| format!("`{text}` is no sha256"))?;
    Digest::parse_as(Algorithm::Sha256, digits).map_err(|error| error.to_string())
}

fn is_repository_part(part: &str) -> bool {
    let is_edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    part.bytes().next().is_some_and(is_edge)
        && part.bytes().last().is_some_and(is_edge)
        && part.bytes().all(|byte| is_edge(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_CHARACTERS_MAX
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn references_are_read_as_other_tools_read_them() {
        let digest = || Version::Digest(Digest::parse(DIGEST).unwrap());
        let tag = |tag: &str| Version::Tag(tag.to_owned());
        for (text, host, repository, version) in [
            ("quay.io/os/debian", "quay.io", "os/debian", tag("latest")),
            ("Registry:5000/debian:12", "registry:5000", "debian", tag("12")),
            ("[::1]:5000/a/b.c/d__e:v1.0-x", "[::1]:5000", "a/b.c/d__e", tag("v1.0-x")),
            (&format!("h/r@sha256:{DIGEST}"), "h", "r", digest()),
            (&format!("h/r:12@sha256:{DIGEST}"), "h", "r", digest()),
        ] {
            let (host, repository) = (host.to_owned(), repository.to_owned());
            assert_eq!(Reference::parse(text), Ok(Reference { host, repository, version }));
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = format!("h/r:{}", "a".repeat(129));
        for text in [
            "",
            "host",
            "/r",
            "h/",
            "h/R",
            "h/r:",
            "h/r:-a",
            "h/../r",
            "h/r?x",
            "h/a//b",
            "me@h/r",
            "h/r@sha256:12",
            "h/r@md5:12",
            "h h/r",
            &long,
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }
}
