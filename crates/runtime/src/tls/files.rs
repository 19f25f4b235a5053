//! Certificates, keys and authorities, as their files have them now.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use super::config::InvalidTls;

/// Files are looked at when a connection is made, but not more often than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// SHA-256 of a certificate of an authority, in DER: what a machine is given that has no room for the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// That of a certificate.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    /// 64 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = String;

    /// 64 hexadecimal digits; colons between them do not count, as OpenSSL writes them.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not the SHA-256 of a certificate: 64 hexadecimal digits");
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
        let mut fingerprint = [0; 32];
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        for (byte, pair) in fingerprint.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(fingerprint))
    }
}

/// Which files.
#[derive(Debug)]
pub(super) struct Paths {
    /// Certificate and key.
    pub(super) own: Option<(PathBuf, PathBuf)>,
    pub(super) ca: Option<PathBuf>,
    pub(super) pinned: Option<Fingerprint>,
}

/// What they hold, ready for use.
#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) own: Option<Arc<CertifiedKey>>,
    /// None where servers are known by their authority's fingerprint.
    pub(super) servers: Option<Arc<dyn ServerCertVerifier>>,
    pub(super) callers: Option<Arc<dyn ClientCertVerifier>>,
    pub(super) pinned: Option<Fingerprint>,
}

/// The files, read again when they change.
#[derive(Debug)]
pub(super) struct Files {
    paths: Paths,
    held: Mutex<Held>,
}

struct Held {
    /// What was read last, whether it could be used or not.
    read: Vec<Vec<u8>>,
    looked_at: Instant,
    credentials: Arc<Credentials>,
}

impl fmt::Debug for Held {
    /// Without what was read, which holds the private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

impl Files {
    pub(super) fn open(paths: Paths) -> Result<Self, InvalidTls> {
        let read = paths.read().map_err(|problems| InvalidTls { problems })?;
        let credentials = paths.parse(&read).map_err(|problems| InvalidTls { problems })?;
        let held = Held { read, looked_at: Instant::now(), credentials: Arc::new(credentials) };
        Ok(Self { paths, held: Mutex::new(held) })
    }

    /// What is in force now.
    pub(super) fn now(&self) -> Arc<Credentials> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.looked_at.elapsed() >= LOOK_EVERY {
            held.looked_at = Instant::now();
            self.look(&mut held);
        }
        Arc::clone(&held.credentials)
    }

    fn look(&self, held: &mut Held) {
        let refused = |problems: Vec<String>| {
            let problems = problems.join("; ");
            tracing::error!(problems, "new certificates cannot be used; the ones before are kept");
        };
        let read = match self.paths.read() {
            Ok(read) if read == held.read => return,
            Ok(read) => read,
            // In the middle of being replaced, or gone: the next look tells.
            Err(problems) => return refused(problems),
        };
        match self.paths.parse(&read) {
            Ok(credentials) => {
                held.credentials = Arc::new(credentials);
                tracing::info!("certificates were read anew");
            }
            Err(problems) => refused(problems),
        }
        held.read = read;
    }
}

impl Paths {
    fn all(&self) -> impl Iterator<Item = &Path> {
        let own = self.own.iter().flat_map(|(certificate, key)| [certificate, key]);
        own.chain(&self.ca).map(PathBuf::as_path)
    }

    fn read(&self) -> Result<Vec<Vec<u8>>, Vec<String>> {
        let mut problems = Vec::new();
        let mut contents = Vec::new();
        for path in self.all() {
            match std::fs::read(path) {
                Ok(content) => contents.push(content),
                Err(error) => problems.push(format!("cannot read {}: {error}", path.display())),
            }
        }
        if problems.is_empty() { Ok(contents) } else { Err(problems) }
    }

    /// Makes of what [`Self::read`] gave what TLS needs.
    fn parse(&self, contents: &[Vec<u8>]) -> Result<Credentials, Vec<String>> {
        let mut problems = Vec::new();
        let mut contents = contents.iter();
        let own = self.own.as_ref().and_then(|(certificate_file, key_file)| {
            let (certificate, key) = (contents.next()?, contents.next()?);
            certified(certificate_file, certificate, key_file, key)
                .map_err(|problem| problems.push(problem))
                .ok()
        });
        let trusted = self.ca.as_ref().zip(contents.next()).and_then(|(path, content)| {
            authorities(path, content).map_err(|problem| problems.push(problem)).ok()
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        let (servers, callers) = trusted.unzip();
        Ok(Credentials { own: own.map(Arc::new), servers, callers, pinned: self.pinned })
    }
}

fn certified(
    certificate_file: &Path,
    certificate: &[u8],
    key_file: &Path,
    key: &[u8],
) -> Result<CertifiedKey, String> {
    let chain = certificates(certificate_file, certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| format!("{} holds no private key: {error}", key_file.display()))?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| {
        let (certificate, key) = (certificate_file.display(), key_file.display());
        format!("{certificate} and {key} cannot be used together: {error}")
    })
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(chain) if chain.is_empty() => Err(format!("{} holds no certificate", path.display())),
        Ok(chain) => Ok(chain),
        Err(error) => Err(format!("{} is not PEM: {error}", path.display())),
    }
}

type Verifiers = (Arc<dyn ServerCertVerifier>, Arc<dyn ClientCertVerifier>);

fn authorities(path: &Path, pem: &[u8]) -> Result<Verifiers, String> {
    let wrong = |error: &dyn fmt::Display| {
        format!("{} holds no authority that can be used: {error}", path.display())
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    let (roots, provider) = (Arc::new(roots), Arc::new(default_provider()));
    let servers =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let callers = WebPkiClientVerifier::builder_with_provider(roots, provider);
    Ok((
        servers.build().map_err(|error| wrong(&error))?,
        callers.build().map_err(|error| wrong(&error))?,
    ))
}
