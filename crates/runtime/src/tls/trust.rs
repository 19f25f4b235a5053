//! What TLS asks in every handshake: who we are, and whether the other side is believed. Answered from the files as they
//! are now.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::files::{Files, Fingerprint};

/// Signatures of handshakes are checked in the same way whoever made them; the traits of both sides ask for it.
macro_rules! signatures_by_ring {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = default_provider().signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signed, &algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = default_provider().signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signed, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            default_provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Our own certificate.
#[derive(Debug)]
pub(super) struct Own(pub(super) Arc<Files>);

impl ResolvesClientCert for Own {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.now().own.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.now().own.is_some()
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.now().own.clone()
    }
}

/// Which servers are believed.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    files: Arc<Files>,
    /// Who judges those that our authorities do not know.
    others: Option<Arc<dyn ServerCertVerifier>>,
}

impl Servers {
    pub(super) fn of(files: Arc<Files>) -> Self {
        Self { files, others: None }
    }

    pub(super) fn beside(&self, others: Option<Arc<dyn ServerCertVerifier>>) -> Self {
        Self { files: Arc::clone(&self.files), others }
    }

    fn verify_own(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let credentials = self.files.now();
        let pinned;
        let verifier: &dyn ServerCertVerifier = match (&credentials.servers, credentials.pinned) {
            (Some(verifier), _) => verifier.as_ref(),
            (None, Some(fingerprint)) => {
                pinned = pinned_authority(fingerprint, intermediates)?;
                pinned.as_ref()
            }
            (None, None) => return Err(CertificateError::UnknownIssuer.into()),
        };
        verifier.verify_server_cert(own, intermediates, name, ocsp, now)
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match (self.verify_own(own, intermediates, name, ocsp, now), &self.others) {
            (Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)), Some(others)) => {
                others.verify_server_cert(own, intermediates, name, ocsp, now)
            }
            (verdict, _) => verdict,
        }
    }

    signatures_by_ring!();
}

/// Believes the authority with a fingerprint, whose certificate the server must have sent, and no other.
fn pinned_authority(
    pinned: Fingerprint,
    sent: &[CertificateDer<'_>],
) -> Result<Arc<WebPkiServerVerifier>, Error> {
    let unknown = || Error::from(CertificateError::UnknownIssuer);
    let authority = sent
        .iter()
        .find(|certificate| Fingerprint::of(certificate) == pinned)
        .ok_or_else(unknown)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned())?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .build()
        .map_err(|_| unknown())
}

/// Which callers are believed. Those without a certificate are let in as nobody: what nobody may do is said elsewhere.
#[derive(Debug)]
pub(super) struct Callers(pub(super) Arc<Files>);

impl ClientCertVerifier for Callers {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match &self.0.now().callers {
            Some(verifier) => verifier.verify_client_cert(own, others, now),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    signatures_by_ring!();
}
