//! The `[tls]` table of a configuration, and what is wrong with it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use serde::Deserialize;

use super::files::{Files, Fingerprint, Paths};
use super::trust::{Callers, Own, Servers};
use super::{Answering, Secure, Transport};

/// Names of the protocols within TLS (RFC 7301).
const HTTP_1: &[u8] = b"http/1.1";
const HTTP_2: &[u8] = b"h2";

/// The `[tls]` table: how a service proves who it is, and whom it believes. Without it everything is in the clear, which
/// only loopback addresses allow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Its own certificate and those up to the authority, PEM. The subject's alternative names hold its hosts and, as a
    /// URI, what it is: `bessemer://conductor/c1`.
    pub certificate_file: Option<PathBuf>,
    /// The private key of that certificate, PEM.
    pub key_file: Option<PathBuf>,
    /// The authorities whose certificates are believed, PEM; several while one takes the place of another.
    pub ca_file: Option<PathBuf>,
    /// Says that everything may be in the clear, and everybody do everything, on other addresses than loopback too.
    pub insecure: bool,
}

/// All that is wrong with a `[tls]` table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("; "))]
pub struct InvalidTls {
    /// One for each field that is wrong; says the way out.
    pub problems: Vec<String>,
}

impl Config {
    /// What a service speaks, that listens at `listeners`: each a field of its configuration and its address.
    ///
    /// # Errors
    /// [`InvalidTls`] with all problems: files that are missing or do not belong together, and addresses that others can
    /// reach without TLS when nobody said so.
    pub fn service(
        &self,
        listeners: &[(&str, Option<SocketAddr>)],
    ) -> Result<Transport, InvalidTls> {
        let mut problems = Vec::new();
        let fields = [
            ("certificate_file", self.certificate_file.is_some()),
            ("key_file", self.key_file.is_some()),
            ("ca_file", self.ca_file.is_some()),
        ];
        let given = fields.iter().filter(|(_, is_set)| *is_set).count();
        if given == 0 {
            for (field, address) in listeners {
                let open = address.filter(|address| !address.ip().is_loopback());
                if let Some(address) = open.filter(|_| !self.insecure) {
                    problems.push(format!(
                        "{field} {address} can be reached by others, without TLS: set tls.certificate_file, tls.key_file \
                         and tls.ca_file (`bessemer pki init` and `issue` make them), or say tls.insecure = true to let \
                         everybody in"
                    ));
                }
            }
        } else {
            for (field, _) in fields.iter().filter(|(_, is_set)| !is_set) {
                problems.push(format!(
                    "tls.{field} is missing: a service needs certificate_file, key_file and ca_file; \
                     `bessemer pki issue` makes them"
                ));
            }
            if self.insecure {
                problems.push(
                    "tls.insecure is true, yet there are certificates: remove the one or the others"
                        .to_owned(),
                );
            }
        }
        if !problems.is_empty() {
            return Err(InvalidTls { problems });
        }
        if given == 0 { Ok(Transport::plain()) } else { self.open(None) }
    }

    /// What a program speaks that only asks others: with an authority it is TLS, with a certificate it can say who asks.
    /// `pinned` is the authority's fingerprint where its certificate is not at hand.
    ///
    /// # Errors
    /// [`InvalidTls`] with all problems.
    pub fn client(&self, pinned: Option<Fingerprint>) -> Result<Transport, InvalidTls> {
        let mut problems = Vec::new();
        match (&self.certificate_file, &self.key_file) {
            (Some(_), None) => {
                problems.push("tls.key_file is missing: certificate_file needs it".to_owned());
            }
            (None, Some(_)) => {
                problems.push("tls.certificate_file is missing: key_file needs it".to_owned());
            }
            _ => {}
        }
        let has_trust = self.ca_file.is_some() || pinned.is_some();
        if self.certificate_file.is_some() && !has_trust {
            problems.push(
                "tls.ca_file is missing: without it no server of the cluster can be believed"
                    .to_owned(),
            );
        }
        if !problems.is_empty() {
            return Err(InvalidTls { problems });
        }
        if has_trust { self.open(pinned) } else { Ok(Transport::plain()) }
    }

    fn open(&self, pinned: Option<Fingerprint>) -> Result<Transport, InvalidTls> {
        let own = self.certificate_file.clone().zip(self.key_file.clone());
        let has_own = own.is_some();
        let files = Arc::new(Files::open(Paths { own, ca: self.ca_file.clone(), pinned })?);
        let servers = Servers::of(Arc::clone(&files));
        // What is agreed on once must not outlive the certificates: every connection shows them anew.
        let mut client = ClientConfig::builder_with_protocol_versions(&[&TLS13])
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(servers.clone()))
            .with_client_cert_resolver(Arc::new(Own(Arc::clone(&files))));
        client.resumption = Resumption::disabled();
        let mut grpc = client.clone();
        grpc.alpn_protocols = vec![HTTP_2.to_vec()];
        let answering = has_own.then(|| {
            let answer = |protocol: &[u8]| {
                let mut server = ServerConfig::builder_with_protocol_versions(&[&TLS13])
                    .with_client_cert_verifier(Arc::new(Callers(Arc::clone(&files))))
                    .with_cert_resolver(Arc::new(Own(Arc::clone(&files))));
                server.session_storage = Arc::new(NoServerSessionStorage {});
                server.send_tls13_tickets = 0;
                server.alpn_protocols = vec![protocol.to_vec()];
                Arc::new(server)
            };
            Answering { grpc: answer(HTTP_2), http: answer(HTTP_1) }
        });
        let secure =
            Secure { asking_grpc: Arc::new(grpc), asking_http: client, servers, answering };
        Ok(Transport(Some(Arc::new(secure))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: &Config, listen: &str) -> Vec<String> {
        let listen = listen.parse().unwrap();
        let listeners = [("listen", Some(listen)), ("metrics_listen", Some(listen))];
        config.service(&listeners).map_or_else(|invalid| invalid.problems, |_| Vec::new())
    }

    fn file(name: &str) -> Option<PathBuf> {
        Some(PathBuf::from(format!("/nonexistent/{name}")))
    }

    #[test]
    fn others_are_not_let_in_by_mistake() {
        let config = Config::default();
        assert_eq!(problems(&config, "127.0.0.1:1"), Vec::<String>::new());
        assert_eq!(problems(&config, "[::1]:1"), Vec::<String>::new());
        let told = problems(&config, "0.0.0.0:6385");
        assert_eq!(told.len(), 2, "all at once: {told:?}");
        assert!(told[0].starts_with("listen 0.0.0.0:6385 can be reached by others"), "{told:?}");
        assert!(told[0].contains("tls.insecure = true"), "says the way out: {told:?}");
        let insecure = Config { insecure: true, ..config };
        assert_eq!(problems(&insecure, "0.0.0.0:6385"), Vec::<String>::new());
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let half = Config { key_file: file("key"), insecure: true, ..Config::default() };
        let told = problems(&half, "127.0.0.1:1").join("\n");
        for field in ["tls.certificate_file is missing", "tls.ca_file is missing", "tls.insecure"] {
            assert!(told.contains(field), "{told}");
        }
        let whole = Config {
            certificate_file: file("certificate"),
            key_file: file("key"),
            ca_file: file("ca"),
            insecure: false,
        };
        let told = problems(&whole, "127.0.0.1:1").join("\n");
        for name in ["certificate", "key", "ca"] {
            assert!(told.contains(&format!("cannot read /nonexistent/{name}:")), "{told}");
        }
    }

    #[test]
    fn who_only_asks_needs_an_authority_to_be_somebody() {
        assert!(!Config::default().client(None).unwrap().is_secure());
        let own = Config { certificate_file: file("c"), key_file: file("k"), ..Config::default() };
        let told = own.client(None).unwrap_err().to_string();
        assert!(told.contains("tls.ca_file is missing"), "{told}");
        let half = Config { certificate_file: file("c"), ..Config::default() };
        let told = half.client(Some(Fingerprint::of(b"x"))).unwrap_err().to_string();
        assert!(told.contains("tls.key_file is missing"), "{told}");
    }

    #[test]
    fn urls_say_what_is_spoken() {
        let plain = Transport::plain();
        assert_eq!(plain.endpoint("https://h:1").unwrap_err().url, "https://h:1");
        plain.endpoint("http://h:1").unwrap();
        let tls = Config::default().client(Some(Fingerprint::of(b"x"))).unwrap();
        let told = tls.endpoint("http://h:1").unwrap_err().to_string();
        assert!(told.contains("write https://"), "{told}");
        tls.endpoint("https://h:1").unwrap();
        for wrong in ["h:1", "", "https://", "https://a b"] {
            tls.endpoint(wrong).unwrap_err();
        }
    }

    #[test]
    fn fingerprints_are_read_as_they_are_written() {
        let fingerprint = Fingerprint::of(b"certificate");
        let text = fingerprint.to_string();
        assert_eq!(text.parse(), Ok(fingerprint));
        let bytes: Vec<_> = text.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
        assert_eq!(bytes.join(":").to_uppercase().parse(), Ok(fingerprint));
        for wrong in ["", "ab", &text[1..], &format!("{text}0"), &text.replace(&text[..1], "g")] {
            wrong.parse::<Fingerprint>().unwrap_err();
        }
    }
}
