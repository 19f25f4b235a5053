//! Who may read an image from a cache, and until when.
//!
//! A permit is a part of an image's URL: deployment, time of expiry, and a BLAKE3 of both and the image, keyed with a
//! secret that conductors, which sign, and caches, which check, have in common. So nobody reads images without a
//! deployment, a permit is of use for one image only, and what was sent is known to be sent for a deployment.

use std::fmt;

use uuid::Uuid;

use crate::pack::ManifestDigest;

/// Shortest secret, in bytes: as long as the key that is derived from it.
pub const SECRET_BYTES_MIN: usize = 32;

/// What the derived keys are for; part of the format.
const PURPOSE: &str = "Bessemer 2026-11 permit to read an image";

/// What stands before an image's id in its URL, without a permit and with one.
const PLAIN: &str = "/v1/images/";
const PERMITTED: &str = "/v1/permits/";

/// Signs and checks permits.
#[derive(Clone)]
pub struct PermitKey([u8; 32]);

impl PermitKey {
    /// The key that follows from a secret.
    ///
    /// # Errors
    ///
    /// When the secret is shorter than [`SECRET_BYTES_MIN`].
    pub fn derive(secret: &[u8]) -> Result<Self, WeakSecret> {
        match secret.len() {
            SECRET_BYTES_MIN.. => Ok(Self(blake3::derive_key(PURPOSE, secret))),
            secret_bytes => Err(WeakSecret { secret_bytes }),
        }
    }
}

impl fmt::Debug for PermitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PermitKey")
    }
}

/// A secret that is too short to be one.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("a secret of {secret_bytes} bytes is too short, {SECRET_BYTES_MIN} are the least")]
pub struct WeakSecret {
    /// Its length.
    pub secret_bytes: usize,
}

/// Leave to read one image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Permit {
    /// For whom.
    pub deployment: Uuid,
    /// When it ends, in seconds since 1970.
    pub expires_unix_seconds: u64,
}

/// Why a permit is of no use.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum PermitRefused {
    /// It is not written as one.
    #[error("it is no permit")]
    Malformed,
    /// It was not signed with any of the keys, or not for this image.
    #[error("its signature does not fit")]
    Signature,
    /// It was good once.
    #[error("it expired {seconds} s ago")]
    Expired {
        /// How long ago.
        seconds: u64,
    },
}

impl Permit {
    /// The permit for an image as it is written: `DEPLOYMENT.EXPIRY.SIGNATURE`.
    pub fn sign(&self, image: ManifestDigest, key: &PermitKey) -> String {
        let signature = self.signature(image, key).to_hex();
        format!("{}.{}.{signature}", self.deployment.simple(), self.expires_unix_seconds)
    }

    /// Reads a permit for an image that was signed with one of the keys.
    ///
    /// # Errors
    ///
    /// When it is none, is another image's, or has expired at `now_unix_seconds`.
    pub fn check(
        text: &str,
        image: ManifestDigest,
        keys: &[PermitKey],
        now_unix_seconds: u64,
    ) -> Result<Self, PermitRefused> {
        let mut parts = text.split('.');
        let mut part = || parts.next().ok_or(PermitRefused::Malformed);
        let (deployment, expiry, signature) = (part()?, part()?, part()?);
        let deployment = Uuid::try_parse(deployment).map_err(|_| PermitRefused::Malformed)?;
        let expires_unix_seconds = expiry.parse().map_err(|_| PermitRefused::Malformed)?;
        let signature = blake3::Hash::from_hex(signature).map_err(|_| PermitRefused::Malformed)?;
        let permit = Self { deployment, expires_unix_seconds };
        // `Hash` compares in constant time.
        if !keys.iter().any(|key| permit.signature(image, key) == signature) {
            return Err(PermitRefused::Signature);
        }
        match now_unix_seconds.checked_sub(expires_unix_seconds) {
            None => Ok(permit),
            Some(seconds) => Err(PermitRefused::Expired { seconds }),
        }
    }

    fn signature(&self, image: ManifestDigest, key: &PermitKey) -> blake3::Hash {
        let mut signed = [0; 56];
        signed[..32].copy_from_slice(image.as_bytes());
        signed[32..48].copy_from_slice(self.deployment.as_bytes());
        signed[48..].copy_from_slice(&self.expires_unix_seconds.to_be_bytes());
        blake3::keyed_hash(&key.0, &signed)
    }

    /// An image's URL with a permit in it; none when it is not the URL of an image.
    pub fn sign_url(&self, url: &str, key: &PermitKey) -> Option<String> {
        let (base, id) = url.rsplit_once(PLAIN)?;
        let permit = self.sign(id.parse().ok()?, key);
        Some(format!("{base}{PERMITTED}{permit}/images/{id}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> PermitKey {
        PermitKey::derive(&[byte; SECRET_BYTES_MIN]).unwrap()
    }

    #[test]
    fn a_permit_is_good_for_its_image_until_it_expires_under_any_of_the_keys() {
        let image = ManifestDigest::of(b"image");
        let permit = Permit { deployment: Uuid::from_u128(7), expires_unix_seconds: 1000 };
        let text = permit.sign(image, &key(1));
        let check =
            |text: &str, image, keys: &[PermitKey], now| Permit::check(text, image, keys, now);
        assert_eq!(check(&text, image, &[key(1)], 999), Ok(permit));
        // While keys are exchanged.
        assert_eq!(check(&text, image, &[key(2), key(1)], 999), Ok(permit));
        assert_eq!(
            check(&text, image, &[key(1)], 1005),
            Err(PermitRefused::Expired { seconds: 5 })
        );

        let forged = Err(PermitRefused::Signature);
        assert_eq!(check(&text, ManifestDigest::of(b"other"), &[key(1)], 0), forged);
        assert_eq!(check(&text, image, &[key(2)], 0), forged);
        assert_eq!(check(&text, image, &[], 0), forged);
        assert_eq!(check(&text.replace(".1000.", ".2000."), image, &[key(1)], 0), forged);
        let other = Permit { deployment: Uuid::from_u128(8), ..permit };
        let stolen = text.replace(
            &permit.deployment.simple().to_string(),
            &other.deployment.simple().to_string(),
        );
        assert_eq!(check(&stolen, image, &[key(1)], 0), forged);
        for malformed in ["", "..", &text[1..], &text[..text.len() - 1], "x.1.y"] {
            let refused = check(malformed, image, &[key(1)], 0);
            assert_eq!(refused, Err(PermitRefused::Malformed), "{malformed}");
        }
    }

    #[test]
    fn urls_of_images_take_a_permit_and_others_none() {
        let id = ManifestDigest::of(b"image");
        let permit = Permit { deployment: Uuid::from_u128(7), expires_unix_seconds: 1000 };
        let signed = permit.sign_url(&format!("http://c:1/x/v1/images/{id}"), &key(1)).unwrap();
        let expected = permit.sign(id, &key(1));
        assert_eq!(signed, format!("http://c:1/x/v1/permits/{expected}/images/{id}"));
        assert_eq!(permit.sign_url("http://c/v1/images/x", &key(1)), None);
        assert_eq!(permit.sign_url("http://c/disk.img", &key(1)), None);
    }

    #[test]
    fn a_short_secret_is_none() {
        assert_eq!(PermitKey::derive(b"secret").unwrap_err(), WeakSecret { secret_bytes: 6 });
    }
}
