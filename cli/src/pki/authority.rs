//! An authority, and what it signs: ECDSA on P-256, which every TLS library has.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bessemer_access::{Identity, Role};
use bessemer_runtime::tls::Fingerprint;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::failure::Failure;

/// How the authority's name begins, in its certificate and as the issuer in all others. What follows is made of its key.
const AUTHORITY_NAME: &str = "Bessemer authority";

/// Hexadecimal digits of the key's digest that tell authorities apart.
const NAME_DIGITS: usize = 16;

/// Clocks differ: a certificate holds from so long before it was made.
const BEFORE: Duration = Duration::from_secs(300);

/// Makes certificates.
pub(crate) struct Authority {
    certificate_pem: String,
    key: KeyPair,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate and what goes with it.
pub(crate) struct Issued {
    /// The certificate, and after it the authority's: a machine that knows only the authority's fingerprint is shown both.
    pub(crate) chain_pem: String,
    /// The private key.
    pub(crate) key_pem: String,
}

fn failed(error: rcgen::Error) -> Failure {
    Failure::failed(format!("no certificate was made: {error}"))
}

fn params(valid_for: Duration) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.not_before = OffsetDateTime::from(now - BEFORE);
    params.not_after = OffsetDateTime::from(now + valid_for);
    params.serial_number = Some(SerialNumber::from_slice(Uuid::new_v4().as_bytes()));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

/// What says of the authority that it is one; the same whenever it signs.
fn authority_params(key: &KeyPair, valid_for: Duration) -> CertificateParams {
    let mut params = params(valid_for);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let digest = hex::encode(Sha256::digest(key.public_key_raw()));
    let name = format!("{AUTHORITY_NAME} {}", &digest[..NAME_DIGITS]);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    /// A new one.
    pub(crate) fn make(valid_for: Duration) -> Result<Self, Failure> {
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = authority_params(&key, valid_for).self_signed(&key).map_err(failed)?;
        Ok(Self { certificate_pem: certificate.pem(), key })
    }

    /// One that was made before.
    pub(crate) fn read(certificate_pem: String, key_pem: &str) -> Result<Self, Failure> {
        let key = KeyPair::from_pem(key_pem).map_err(|error| {
            Failure::refused(format!("the authority's private key cannot be read: {error}"))
        })?;
        Ok(Self { certificate_pem, key })
    }

    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// What machines are given that have no room for the certificate.
    pub(crate) fn fingerprint(&self) -> Result<Fingerprint, Failure> {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject;
        let der = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes());
        let der = der.map_err(|error| {
            Failure::refused(format!("the authority's certificate cannot be read: {error}"))
        })?;
        Ok(Fingerprint::of(&der))
    }

    /// A certificate that says who somebody is, and by which hosts a service is reached.
    pub(crate) fn issue(
        &self,
        identity: &Identity,
        hosts: &[String],
        valid_for: Duration,
    ) -> Result<Issued, Failure> {
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(valid_for);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if matches!(identity.role, Role::Member | Role::Conductor | Role::ImageCache) {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.distinguished_name.push(DnType::CommonName, identity.actor());
        let name = |text: &str| {
            let refused = |error: rcgen::Error| Failure::refused(format!("`{text}`: {error}"));
            text.try_into().map_err(refused)
        };
        params.subject_alt_names.push(SanType::URI(name(&identity.uri())?));
        for host in hosts {
            params.subject_alt_names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name(host)?),
            });
        }
        let issuer = Issuer::new(authority_params(&self.key, valid_for), &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Issued {
            chain_pem: format!("{}{}", certificate.pem(), self.certificate_pem),
            key_pem: key.serialize_pem(),
        })
    }
}
