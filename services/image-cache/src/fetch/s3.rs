//! Objects in S3, or in a store that speaks like it: fetched over HTTP by URLs that this cache signs (AWS Signature Version 4).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rusty_s3::{Bucket, Credentials, S3Action as _, UrlStyle};
use serde::Deserialize;
use url::Url;

/// How long a signed URL is good. Each request has one of its own.
const VALID_FOR: Duration = Duration::from_secs(900);

/// Where `s3://` sources are, and who the cache is there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// The store: `https://s3.eu-central-1.amazonaws.com`, `http://minio.example.org:9000`.
    pub endpoint: String,
    /// Its region; many stores of one's own take any.
    #[serde(default = "default_region")]
    pub region: String,
    /// Whether the bucket is the first part of the host's name, as AWS has it, rather than of the path.
    #[serde(default)]
    pub bucket_in_host: bool,
    /// The key; without one, only what everybody may read can be read.
    pub access_key_id: Option<String>,
    /// A file with the key's secret; white space around it does not count.
    pub secret_access_key_file: Option<PathBuf>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

/// A store, ready to be asked.
pub(super) struct Store {
    endpoint: Url,
    config: S3Config,
    credentials: Option<Credentials>,
}

impl Store {
    /// Reads the secret, and sees that buckets can be reached by the endpoint.
    pub(super) fn new(config: &S3Config) -> io::Result<Self> {
        let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
        let credentials = match (&config.access_key_id, &config.secret_access_key_file) {
            (Some(id), Some(path)) => {
                let secret = bessemer_runtime::config::secret(path)
                    .map_err(|error| invalid(format!("s3.secret_access_key_file: {error}")))?;
                let secret = String::from_utf8(secret).map_err(|_| {
                    invalid(format!("s3.secret_access_key_file `{}` is no text", path.display()))
                })?;
                Some(Credentials::new(id, secret))
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                let message = "s3.access_key_id and s3.secret_access_key_file go together";
                return Err(invalid(message.to_owned()));
            }
        };
        let unusable = |error: &dyn std::fmt::Display| {
            invalid(format!("s3.endpoint `{}` cannot be used: {error}", config.endpoint))
        };
        let endpoint = config.endpoint.parse().map_err(|error| unusable(&error))?;
        let store = Self { endpoint, config: config.clone(), credentials };
        store.bucket("bucket").map_err(|error| unusable(&error))?;
        Ok(store)
    }

    fn bucket(&self, name: &str) -> Result<Bucket, rusty_s3::BucketError> {
        let style = if self.config.bucket_in_host { UrlStyle::VirtualHost } else { UrlStyle::Path };
        let (endpoint, region) = (self.endpoint.clone(), self.config.region.clone());
        Bucket::new(endpoint, style, name.to_owned(), region)
    }

    /// Where an object `s3://BUCKET/KEY` can be had for the next minutes. None when there is no such URL.
    pub(super) fn signed(&self, object: &Url) -> Option<Url> {
        let bucket = self.bucket(object.host_str()?).ok()?;
        let key = object.path().strip_prefix('/')?;
        let key = percent_encoding::percent_decode_str(key).decode_utf8().ok()?;
        Some(bucket.get_object(self.credentials.as_ref(), &key).sign(VALID_FOR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(bucket_in_host: bool) -> S3Config {
        S3Config {
            endpoint: "https://s3.example:9000".to_owned(),
            region: "eu".to_owned(),
            bucket_in_host,
            access_key_id: None,
            secret_access_key_file: None,
        }
    }

    #[test]
    fn an_object_is_reached_in_its_bucket_and_signed_by_the_key() {
        let object = "s3://images/debian%2012/disk.qcow2".parse().unwrap();
        for (in_host, expected) in [
            (false, "https://s3.example:9000/images/debian%2012/disk.qcow2"),
            (true, "https://images.s3.example:9000/debian%2012/disk.qcow2"),
        ] {
            let url = Store::new(&config(in_host)).unwrap().signed(&object).unwrap();
            assert_eq!(url.as_str(), expected);
        }
        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), "secret\n").unwrap();
        let signing = S3Config {
            access_key_id: Some("KEY".to_owned()),
            secret_access_key_file: Some(secret.path().to_owned()),
            ..config(false)
        };
        let url = Store::new(&signing).unwrap().signed(&object).unwrap();
        let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(query["X-Amz-Algorithm"], "AWS4-HMAC-SHA256");
        assert!(query["X-Amz-Credential"].starts_with("KEY/"), "{query:?}");
        assert!(query["X-Amz-Credential"].ends_with("/eu/s3/aws4_request"), "{query:?}");
        assert_eq!(query["X-Amz-Signature"].len(), 64);
        assert!(!url.as_str().contains("secret"));
    }

    #[test]
    fn half_a_login_and_an_endpoint_that_is_none_are_refused() {
        let half = S3Config { access_key_id: Some("KEY".to_owned()), ..config(false) };
        assert!(Store::new(&half).is_err_and(|error| error.to_string().contains("go together")));
        for endpoint in ["ftp://s3.example", "s3.example"] {
            let wrong = S3Config { endpoint: endpoint.to_owned(), ..config(false) };
            assert!(Store::new(&wrong).is_err_and(|it| it.to_string().contains("s3.endpoint")));
        }
    }
}
