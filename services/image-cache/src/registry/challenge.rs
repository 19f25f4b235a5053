//! Tokens: what a registry asks for and another server gives out.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

/// What a registry wants to see a token for (RFC 6750, and the Docker token specification).
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Challenge {
    realm: Url,
    parameters: BTreeMap<String, String>,
}

/// The answer of a token server. Some call it one way, some the other.
#[derive(Deserialize)]
pub(crate) struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Token {
    pub(crate) fn into_text(self) -> Option<String> {
        self.token.or(self.access_token)
    }
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header, if it is about tokens.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = parameters(rest)?;
        let realm: Url = parameters.remove("realm")?.parse().ok()?;
        matches!(realm.scheme(), "http" | "https").then_some(Self { realm, parameters })
    }

    /// Where the token is had.
    pub(crate) fn token_url(&self) -> Url {
        let mut url = self.realm.clone();
        for name in ["service", "scope"] {
            if let Some(value) = self.parameters.get(name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        url
    }
}

/// `name="value"` pairs between commas. None when it is something else.
fn parameters(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    loop {
        text = text.trim_start_matches([' ', ',']);
        if text.is_empty() {
            return Some(found);
        }
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        found.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        text = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_says_where_the_token_is_had() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push""#,
                Some(
                    "https://auth.example/token?service=registry&scope=repository%3Aa%2Fb%3Apull%2Cpush",
                ),
            ),
            ("bearer realm=http://h/t, error=\"invalid_token\"", Some("http://h/t")),
            (r#"Basic realm="x""#, None),
            (r#"Bearer realm="file:///etc/passwd""#, None),
            (r#"Bearer service="x""#, None),
            ("Bearer realm=\"open", None),
            ("Bearer", None),
        ] {
            let found = Challenge::parse(header).map(|challenge| challenge.token_url().to_string());
            assert_eq!(found.as_deref(), expected, "{header}");
        }
    }
}
