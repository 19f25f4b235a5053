//! Tokens of people and programs: the file that lists them by their hashes, and new ones.
//!
//! A token is 32 random bytes, so its SHA-256 tells nothing of it, and needs neither salt nor slowness.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::{Identity, Role};

/// How a token begins, so that a scanner for leaked secrets knows it.
const PREFIX: &str = "bsm_";

/// The file is looked at when a token is shown, but not more often than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whom a token stands for, and until when, in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    identity: Identity,
    expires_unix_seconds: Option<u64>,
}

type Entries = HashMap<[u8; 32], Entry>;

/// A token file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("token_file {} {reason}", path.display())]
pub struct InvalidTokenFile {
    /// Which.
    pub path: PathBuf,
    /// All that is wrong with it; reads on from the path.
    pub reason: String,
}

/// The tokens of a file, read again when it changes; one that cannot be used is logged and what it said before kept.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    text: String,
    looked_at: Instant,
    entries: Arc<Entries>,
}

impl Tokens {
    /// Reads the file: `NAME ROLE [project=PROJECT] [expires=UNIX_SECONDS] sha256:HEX` in each line, as
    /// [`NewToken::line`] writes them. Empty lines and those that begin with `#` do not count.
    ///
    /// # Errors
    /// [`InvalidTokenFile`] with every line that is wrong.
    pub fn open(path: &Path) -> Result<Self, InvalidTokenFile> {
        let invalid = |reason| InvalidTokenFile { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path)
            .map_err(|error| invalid(format!("cannot be read: {error}")))?;
        let entries = Arc::new(parse(&text).map_err(invalid)?);
        let held = Held { text, looked_at: Instant::now(), entries };
        Ok(Self { path: path.to_owned(), held: Mutex::new(held) })
    }

    /// Whom a token stands for now.
    pub(crate) fn identity(&self, token: &str) -> Option<Identity> {
        let entries = self.entries();
        let entry = entries.get(&digest(token))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let holds = entry.expires_unix_seconds.is_none_or(|expires| now < expires);
        holds.then(|| entry.identity.clone())
    }

    fn entries(&self) -> Arc<Entries> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.looked_at.elapsed() >= LOOK_EVERY {
            held.looked_at = Instant::now();
            match std::fs::read_to_string(&self.path) {
                Ok(text) if text == held.text => {}
                Ok(text) => {
                    match parse(&text) {
                        Ok(entries) => held.entries = Arc::new(entries),
                        Err(reason) => tracing::error!(
                            file = %self.path.display(), reason,
                            "the token file cannot be used; what it said before is kept"
                        ),
                    }
                    held.text = text;
                }
                Err(error) => tracing::error!(
                    file = %self.path.display(), %error,
                    "the token file cannot be read; what it said before is kept"
                ),
            }
        }
        Arc::clone(&held.entries)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn parse(text: &str) -> Result<Entries, String> {
    let mut entries = Entries::new();
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match entry(line) {
            Ok((digest, entry)) => {
                if entries.insert(digest, entry).is_some() {
                    problems.push(format!("has a token twice, again in line {number}"));
                }
            }
            Err(reason) => problems.push(format!("is wrong in line {number}: {reason}")),
        }
    }
    if problems.is_empty() { Ok(entries) } else { Err(problems.join("; ")) }
}

fn entry(line: &str) -> Result<([u8; 32], Entry), String> {
    let mut words = line.split_whitespace();
    let (name, role) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let role: Role = role.parse().map_err(|error| format!("{error}"))?;
    if !role.is_of_a_person() {
        return Err(format!("`{role}` is the role of a service, which comes with a certificate"));
    }
    let (mut project, mut expires_unix_seconds, mut hash) = (None, None, None);
    for word in words {
        if let Some(value) = word.strip_prefix("project=") {
            project = Some(value);
        } else if let Some(value) = word.strip_prefix("expires=") {
            let seconds =
                value.parse().map_err(|_| format!("`{word}` is not in seconds since 1970"))?;
            expires_unix_seconds = Some(seconds);
        } else if let Some(value) = word.strip_prefix("sha256:") {
            let mut digest = [0; 32];
            hex::decode_to_slice(value, &mut digest)
                .map_err(|_| "what follows `sha256:` is not 64 hexadecimal digits".to_owned())?;
            hash = Some(digest);
        } else {
            // Not repeated: it may be a token, put here by mistake.
            return Err("it holds a word that is none of project=, expires= and sha256:".to_owned());
        }
    }
    let hash = hash.ok_or("it has no `sha256:`; `bessemer token issue` makes such lines")?;
    let identity = Identity::try_new(role, name, project).map_err(|error| error.to_string())?;
    Ok((hash, Entry { identity, expires_unix_seconds }))
}

/// A token that nobody knows yet.
#[derive(Clone)]
pub struct NewToken {
    /// What its holder shows. Not kept anywhere.
    pub token: String,
    /// The line for the token file.
    pub line: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("line", &self.line).finish_non_exhaustive()
    }
}

impl NewToken {
    /// Makes one of 32 `random` bytes, for a person or program. None for the role of a service.
    #[must_use]
    pub fn issue(
        identity: &Identity,
        expires_unix_seconds: Option<u64>,
        random: [u8; 32],
    ) -> Option<Self> {
        if !identity.role.is_of_a_person() {
            return None;
        }
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let mut line = format!("{} {}", identity.name, identity.role);
        if let Some(project) = &identity.project {
            line.push_str(&format!(" project={project}"));
        }
        if let Some(expires) = expires_unix_seconds {
            line.push_str(&format!(" expires={expires}"));
        }
        line.push_str(&format!(" sha256:{}", hex::encode(digest(&token))));
        Some(Self { token, line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(role: Role, expires: Option<u64>, random: u8) -> NewToken {
        let identity = Identity::try_new(role, "bob", Some("team-a")).unwrap();
        NewToken::issue(&identity, expires, [random; 32]).unwrap()
    }

    #[test]
    fn a_token_stands_for_whom_its_line_says() {
        let (good, old) = (issue(Role::Operator, None, 1), issue(Role::Reader, Some(1), 2));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("# people\n\n{}\n{}\n", good.line, old.line)).unwrap();
        let tokens = Tokens::open(file.path()).unwrap();
        let bob = tokens.identity(&good.token).unwrap();
        assert_eq!(bob.to_string(), "operator bob of project team-a");
        assert_eq!(tokens.identity(&old.token), None, "expired");
        for wrong in ["", "bsm_", &good.token.to_uppercase(), &good.line] {
            assert_eq!(tokens.identity(wrong), None, "{wrong}");
        }
        assert!(!good.line.contains(&good.token));
    }

    #[test]
    fn all_that_is_wrong_is_named_and_no_secret_repeated() {
        let text =
            "bob\nbob root sha256:00\nbob reader\nbob reader bsm_secret\nbob conductor sha256:00\n";
        let error = parse(text).unwrap_err();
        for number in 1..=5 {
            assert!(error.contains(&format!("line {number}")), "{error}");
        }
        assert!(!error.contains("bsm_secret"), "{error}");
    }

    #[test]
    fn services_have_no_tokens() {
        let conductor = Identity::try_new(Role::Conductor, "c1", None).unwrap();
        assert!(NewToken::issue(&conductor, None, [0; 32]).is_none());
    }
}
