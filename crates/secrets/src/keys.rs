//! The keys, as their file has them now.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use ring::aead::{CHACHA20_POLY1305, LessSafeKey, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of a key of ChaCha20-Poly1305 (RFC 8439).
const KEY_BYTES: usize = 32;

/// The file is looked at when a secret is sealed or opened, but not more often than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A key and its name, by which sealed secrets say what opens them.
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) key: LessSafeKey,
}

/// A file of keys that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("secret_keys_file {} {reason}", path.display())]
pub struct InvalidKeyRing {
    /// Which.
    pub path: PathBuf,
    /// All that is wrong with it, without what it holds; reads on from the path.
    pub reason: String,
}

/// The keys of a file, read again when it changes: the first one seals, any of them opens. A file that cannot be used is
/// logged, and what it held before kept.
#[derive(Clone)]
pub struct KeyRing(Arc<File>);

struct File {
    path: PathBuf,
    held: Mutex<Held>,
}

struct Held {
    text: String,
    looked_at: Instant,
    keys: Arc<[Key]>,
}

impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRing").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl KeyRing {
    /// Reads the file: `NAME BASE64` in each line, as [`draw_key`] writes them, the newest first. Empty lines and those that
    /// begin with `#` do not count.
    ///
    /// # Errors
    /// [`InvalidKeyRing`] with every line that is wrong.
    pub fn open(path: &Path) -> Result<Self, InvalidKeyRing> {
        let invalid = |reason| InvalidKeyRing { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path)
            .map_err(|error| invalid(format!("cannot be read: {error}")))?;
        let keys = parse(&text).map_err(invalid)?.into();
        let held = Mutex::new(Held { text, looked_at: Instant::now(), keys });
        Ok(Self(Arc::new(File { path: path.to_owned(), held })))
    }

    pub(crate) fn keys(&self) -> Arc<[Key]> {
        let mut held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.looked_at.elapsed() >= LOOK_EVERY {
            held.looked_at = Instant::now();
            let file = self.0.path.display();
            match std::fs::read_to_string(&self.0.path) {
                Ok(text) if text == held.text => {}
                Ok(text) => {
                    match parse(&text) {
                        Ok(keys) => held.keys = keys.into(),
                        Err(reason) => tracing::error!(
                            %file, reason, "the keys cannot be used; those before are kept"
                        ),
                    }
                    held.text = text;
                }
                Err(error) => {
                    tracing::error!(%file, %error, "the keys cannot be read; those before are kept");
                }
            }
        }
        Arc::clone(&held.keys)
    }
}

fn parse(text: &str) -> Result<Vec<Key>, String> {
    let (mut keys, mut problems) = (Vec::<Key>::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match key(line) {
            Some(new) if keys.iter().any(|key| key.id == new.id) => {
                problems.push(format!("has the name of another key in line {number}"));
            }
            Some(new) => keys.push(new),
            None => problems.push(format!(
                "is not of the form NAME BASE64 of {KEY_BYTES} bytes in line {number}; `bessemer secrets key` makes one"
            )),
        }
    }
    if keys.is_empty() && problems.is_empty() {
        problems.push("holds no key; `bessemer secrets key` makes one".to_owned());
    }
    if problems.is_empty() { Ok(keys) } else { Err(problems.join("; ")) }
}

fn key(line: &str) -> Option<Key> {
    let (id, encoded) = line.split_once(char::is_whitespace)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let bytes = BASE64.decode(encoded.trim().trim_end_matches('=')).ok()?;
    if bytes.len() != KEY_BYTES || !id.chars().all(is_plain) {
        return None;
    }
    let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).ok()?;
    Some(Key { id: id.to_owned(), key: LessSafeKey::new(key) })
}

/// A new key as a line of the file, with a name of its own. None when the system has no randomness.
#[must_use]
pub fn draw_key() -> Option<String> {
    let random = SystemRandom::new();
    let (mut name, mut key) = ([0; 4], [0; KEY_BYTES]);
    random.fill(&mut name).ok()?;
    random.fill(&mut key).ok()?;
    let name = name.map(|byte| format!("{byte:02x}")).concat();
    Some(format!("k{name} {}", BASE64.encode(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_named_without_being_shown() {
        let good = draw_key().unwrap();
        assert_eq!(parse(&format!("# newest first\n\n{good}\n")).unwrap().len(), 1);
        for wrong in ["", "k1", "k1 c2hvcnQ", &format!("{good}\n{good}"), "k_1 AAAA"] {
            let error = parse(wrong).err().unwrap();
            assert!(!error.contains("c2hvcnQ"), "{error}");
        }
    }
}
