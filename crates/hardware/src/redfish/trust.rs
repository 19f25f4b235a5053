//! Whose certificates are taken: `redfish_verify_ca`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use serde_json::{Map, Value};

use crate::HardwareError;
use crate::driver_info::wrong;

/// Largest file of certificates; all of Mozilla's authorities are a fifth of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// `redfish_verify_ca`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Trust {
    /// The system's authorities.
    System,
    /// Anybody.
    Anybody,
    /// The certificates in this file, as read: the file may be replaced while we run.
    These { path: PathBuf, pem: Vec<u8> },
}

impl Trust {
    pub(super) fn read(info: &Map<String, Value>) -> Result<Self, HardwareError> {
        let value = match info.get("redfish_verify_ca") {
            None | Some(Value::Null | Value::Bool(true)) => return Ok(Self::System),
            Some(Value::Bool(false)) => return Ok(Self::Anybody),
            Some(value) => value,
        };
        let words = value.as_str().unwrap_or_default();
        // The words that Ironic takes for truth values.
        match words.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "on" | "1" => Ok(Self::System),
            "false" | "f" | "no" | "n" | "off" | "0" => Ok(Self::Anybody),
            _ if words.starts_with('/') => {
                let path = PathBuf::from(words);
                let pem = contents(&path)?;
                Ok(Self::These { path, pem })
            }
            _ => {
                let reason = "is neither true, nor false, nor the absolute path of a PEM file";
                Err(wrong("redfish_verify_ca", value, reason))
            }
        }
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, HardwareError> {
    let failed = |source| HardwareError::Io { action: "read", path: path.to_owned(), source };
    // A pipe would be waited for without end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        let reason = "is not a file";
        return Err(wrong("redfish_verify_ca", &path.to_string_lossy().into(), reason));
    }
    let mut pem = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut pem).map_err(failed)?;
    Ok(pem)
}

/// Takes a certificate that is one of these, or that one of these has signed. BMCs come with self-signed certificates, and
/// many of those call themselves authorities or bear no name that the BMC is reached by: the strict rules for chains refuse
/// them, but a BMC that has the key of just this certificate is the one that was meant.
#[derive(Debug)]
struct OneOfThese {
    certificates: Vec<CertificateDer<'static>>,
    as_authorities: Arc<WebPkiServerVerifier>,
}

/// TLS that trusts the certificates in a PEM file alone.
pub(super) fn tls(pem: &[u8]) -> Result<ClientConfig, Error> {
    let provider = CryptoProvider::get_default()
        .ok_or_else(|| Error::General("no TLS provider is installed".to_owned()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = certificates
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let mut roots = RootCertStore::empty();
    for certificate in &certificates {
        roots.add(certificate.clone())?;
    }
    let as_authorities =
        WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
    Ok(ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(OneOfThese { certificates, as_authorities }))
        .with_no_client_auth())
}

impl ServerCertVerifier for OneOfThese {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.certificates.iter().any(|one| one == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let others = &self.as_authorities;
        others.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.as_authorities.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.as_authorities.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.as_authorities.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whose_certificates_are_trusted() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("ca.pem");
        std::fs::write(&file, "pem").unwrap();
        let of =
            |value: Value| Trust::read(json!({"redfish_verify_ca": value}).as_object().unwrap());
        assert!(of(json!("True")).is_ok_and(|trust| trust == Trust::System));
        assert!(of(json!(false)).is_ok_and(|trust| trust == Trust::Anybody));
        let trust = of(json!(file.to_str())).unwrap();
        assert!(trust == Trust::These { path: file, pem: b"pem".to_vec() });
        assert!(
            of(json!(home.path().to_str()))
                .is_err_and(|error| error.to_string().ends_with("not a file"))
        );
    }
}
