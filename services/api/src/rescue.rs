//! Rescue passwords: hashed here, before anything of them is kept.

use bessemer_domain::Invalid;
use bessemer_wire::Failure;
use sha_crypt::{Algorithm, Params, PasswordHasher, ShaCrypt};
use uuid::Uuid;

/// Rounds of SHA-512 crypt: four times what crypt(3) does by itself, some ten milliseconds.
const ROUNDS: u32 = 20_000;

/// crypt(3) takes 16 characters of salt, which these are in its Base64.
const SALT_BYTES: usize = 12;

/// Longest password; nobody types more.
const PASSWORD_BYTES_MAX: usize = 255;

/// The password as crypt(3) has it, by SHA-512.
pub(crate) async fn hash(password: String) -> Result<String, Failure> {
    // The value is left out of errors: it is the password.
    let refuse = |reason: &str| Err(Invalid::new("rescue_password", "", reason).into());
    if password.trim().is_empty() {
        return refuse("is required: what user `rescue` logs in with");
    }
    if password.len() > PASSWORD_BYTES_MAX {
        return refuse("is longer than 255 bytes");
    }
    if password.contains(['\0', '\n', '\r']) {
        return refuse("holds a line break or a zero byte, which nobody can type");
    }
    let hashed = tokio::task::spawn_blocking(move || {
        let params = Params::new(ROUNDS).expect("crypt(3) takes so many rounds");
        let random = Uuid::new_v4().into_bytes();
        let hasher = ShaCrypt::new(Algorithm::Sha512Crypt, params);
        let hash = hasher.hash_password_with_salt(password.as_bytes(), &random[..SALT_BYTES]);
        hash.expect("crypt(3) takes such a salt").to_string()
    });
    Ok(hashed.await.expect("hashing is not cut off"))
}

#[cfg(test)]
mod tests {
    use sha_crypt::{PasswordHash, PasswordVerifier};

    use super::*;

    #[tokio::test]
    async fn a_hash_is_of_its_password_and_each_has_its_own_salt() {
        let first = hash("correct horse".to_owned()).await.unwrap();
        let second = hash("correct horse".to_owned()).await.unwrap();
        assert_ne!(first, second);
        assert!(first.starts_with("$6$rounds=20000$"), "{first}");
        let read = PasswordHash::new(&first).unwrap();
        ShaCrypt::default().verify_password(b"correct horse", &read).unwrap();
        ShaCrypt::default().verify_password(b"correct house", &read).unwrap_err();
    }

    #[tokio::test]
    async fn what_nobody_can_type_is_refused_without_being_repeated() {
        for password in ["", "  ", "a\nb", &"x".repeat(256)] {
            let error = hash(password.to_owned()).await.unwrap_err().to_string();
            assert!(error.starts_with("rescue_password `` "), "{error}");
        }
    }
}
