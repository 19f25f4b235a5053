//! Digests over whole images: md5, sha256 and sha512, as users give them.

use std::fmt;
use std::str::FromStr;

use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::digest::Digest as _;
use sha2::{Sha256, Sha512};

/// A digest algorithm, weakest first, so that `max` picks the strongest.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// 128 bits. Finds accidents, not attackers; Ironic still accepts it.
    Md5,
    /// 256 bits.
    Sha256,
    /// 512 bits.
    Sha512,
}

impl Algorithm {
    /// All of them, weakest first.
    pub const ALL: [Self; 3] = [Self::Md5, Self::Sha256, Self::Sha512];

    /// The name users write: `md5`, `sha256`, `sha512`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of a digest in bytes.
    pub const fn digest_bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The algorithm whose digests have `digits` hexadecimal digits.
    pub fn from_hex_length(digits: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.digest_bytes() * 2 == digits)
    }

    /// The algorithm of the raw image's digest, by Ironic's rule: a sha512 of the source asks for a
    /// sha512 of the raw image, anything else gets sha256. A source that is raw already and came
    /// with a checksum keeps that one: it is the raw image's digest.
    pub fn for_raw(given: Option<Self>, source_is_raw: bool) -> Self {
        match given {
            Some(given) if source_is_raw => given,
            Some(Self::Sha512) => Self::Sha512,
            Some(Self::Md5 | Self::Sha256) | None => Self::Sha256,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Self::ALL
            .into_iter()
            .find(|algorithm| text.eq_ignore_ascii_case(algorithm.name()))
            .ok_or_else(|| InvalidDigest::UnknownAlgorithm { name: text.to_owned() })
    }
}

/// A text that is no digest or no algorithm.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidDigest {
    /// Not one of md5, sha256, sha512.
    #[error("digest algorithm `{name}` is not one of md5, sha256, sha512")]
    UnknownAlgorithm {
        /// What was given.
        name: String,
    },
    /// Not hexadecimal, or of a length that no known algorithm has.
    #[error(
        "`{text}` is not a digest: 32 (md5), 64 (sha256) or 128 (sha512) hexadecimal digits expected"
    )]
    NotADigest {
        /// What was given.
        text: String,
    },
    /// Hexadecimal, but not as long as the named algorithm's digests.
    #[error("`{text}` has {digits} digits, a {algorithm} digest has {}", algorithm.digest_bytes() * 2)]
    WrongLength {
        /// What was given.
        text: String,
        /// How many digits that is.
        digits: usize,
        /// The algorithm it was said to be of.
        algorithm: Algorithm,
    },
}

/// A digest and its algorithm. Prints as lower-case hexadecimal.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Digest {
    algorithm: Algorithm,
    /// The first `algorithm.digest_bytes()` are the digest, the rest is zero.
    bytes: [u8; 64],
}

impl Digest {
    /// A digest whose algorithm follows from its length. Upper and lower case are the same.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        Algorithm::from_hex_length(text.len())
            .and_then(|algorithm| Self::from_hex(algorithm, text))
            .ok_or_else(|| InvalidDigest::NotADigest { text: text.to_owned() })
    }

    /// A digest of a named algorithm. Upper and lower case are the same.
    pub fn parse_as(algorithm: Algorithm, text: &str) -> Result<Self, InvalidDigest> {
        if text.len() != algorithm.digest_bytes() * 2 {
            let digits = text.chars().count();
            return Err(InvalidDigest::WrongLength { text: text.to_owned(), digits, algorithm });
        }
        Self::from_hex(algorithm, text)
            .ok_or_else(|| InvalidDigest::NotADigest { text: text.to_owned() })
    }

    fn from_hex(algorithm: Algorithm, text: &str) -> Option<Self> {
        let mut bytes = [0; 64];
        hex::decode_to_slice(text, &mut bytes[..algorithm.digest_bytes()]).ok()?;
        Some(Self { algorithm, bytes })
    }

    fn from_bytes(algorithm: Algorithm, digest: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes[..digest.len()].copy_from_slice(digest);
        Self { algorithm, bytes }
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.algorithm.digest_bytes()]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.algorithm)
    }
}

/// Computes one digest over bytes given piece by piece.
#[derive(Clone, Debug)]
pub struct Hasher(State);

#[derive(Clone, Debug)]
enum State {
    Md5(Md5),
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Md5 => State::Md5(Md5::new()),
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Md5(state) => state.update(bytes),
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes seen.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Md5(state) => Digest::from_bytes(Algorithm::Md5, &state.finalize()),
            State::Sha256(state) => Digest::from_bytes(Algorithm::Sha256, &state.finalize()),
            State::Sha512(state) => Digest::from_bytes(Algorithm::Sha512, &state.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The digests of "abc" from RFC 1321 and FIPS 180-2.
    const ABC: [(Algorithm, &str); 3] = [
        (Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
        (Algorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            Algorithm::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ];

    #[test]
    fn digests_are_the_published_ones_however_the_bytes_are_split() {
        for (algorithm, expected) in ABC {
            let mut hasher = Hasher::new(algorithm);
            hasher.update(b"a");
            hasher.update(b"");
            hasher.update(b"bc");
            assert_eq!(hasher.finish().to_string(), expected);
        }
    }

    #[test]
    fn the_algorithm_follows_from_the_length_and_case_does_not_matter() {
        for (algorithm, text) in ABC {
            let digest = Digest::parse(&text.to_uppercase()).unwrap();
            assert_eq!(digest.algorithm(), algorithm);
            assert_eq!(digest, Digest::parse_as(algorithm, text).unwrap());
        }
    }

    #[test]
    fn what_is_no_digest_is_refused_with_what_was_given() {
        let sha1 = "a9993e364706816aba3e25717850c26c9cd0d89d";
        assert!(Digest::parse(sha1).unwrap_err().to_string().contains(sha1));
        assert!(Digest::parse(&"g".repeat(64)).is_err());
        assert!(Digest::parse(&"é".repeat(32)).is_err());
        assert_eq!(
            Digest::parse_as(Algorithm::Sha256, sha1).unwrap_err(),
            InvalidDigest::WrongLength {
                text: sha1.to_owned(),
                digits: 40,
                algorithm: Algorithm::Sha256
            }
        );
        assert!("sha1".parse::<Algorithm>().is_err());
        assert_eq!("SHA512".parse::<Algorithm>(), Ok(Algorithm::Sha512));
    }

    #[test]
    fn the_raw_digest_follows_ironics_rule() {
        use Algorithm::{Md5, Sha256, Sha512};
        for (given, source_is_raw, expected) in [
            (None, false, Sha256),
            (None, true, Sha256),
            (Some(Md5), false, Sha256),
            (Some(Md5), true, Md5),
            (Some(Sha256), false, Sha256),
            (Some(Sha512), false, Sha512),
            (Some(Sha512), true, Sha512),
        ] {
            assert_eq!(Algorithm::for_raw(given, source_is_raw), expected, "{given:?}");
        }
    }
}
