//! What an operator can set.

use std::net::SocketAddr;
use std::path::PathBuf;

use bessemer_image::pack::MAX_RAW_BYTES;
use serde::Deserialize;
use url::Url;

use crate::fetch::{HttpConfig, S3Config};

/// Configuration of an image cache, one TOML file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where prepared images and unfinished downloads are kept.
    pub data_dir: PathBuf,
    /// Where the gRPC service listens.
    pub grpc_listen: SocketAddr,
    /// Where manifests, packs and raw images are served from.
    pub http_listen: SocketAddr,
    /// The base URL under which agents reach `http_listen`. Default: its address, which suits a single
    /// machine only.
    pub advertised_url: Option<String>,
    /// Directories whose files `file://` sources may name. None by default: a user who may name
    /// any file can deploy the cache's own secrets.
    pub file_roots: Vec<PathBuf>,
    /// Largest raw image that is prepared, and largest source that is downloaded, in bytes.
    pub max_image_bytes: u64,
    /// zstd level of packs.
    pub compression_level: i32,
    /// Bytes of prepared images to keep. Those used last are dropped first, those used within
    /// `keep_used_seconds` not at all: the limit is exceeded rather than a deployment broken.
    pub cache_limit_bytes: u64,
    /// How long an image is safe from being dropped after it was prepared, asked for or read.
    pub keep_used_seconds: u64,
    /// gRPC addresses of the site's other image caches. What one of them has is copied from it instead of being
    /// prepared again, and what this one prepares is copied by them.
    pub peers: Vec<String>,
    /// How many caches have each image, this one among them: with two, the death of one ends no deployment.
    pub copies: usize,
    /// Bytes a second that are sent to all who read, each with the same share; 0 is no limit.
    pub send_limit_bytes_per_second: u64,
    /// Bytes a second that one machine gets, in however many responses; 0 is no limit. Machines are told apart by the
    /// deployments that URLs are signed for, and by their addresses where URLs are not signed.
    pub client_limit_bytes_per_second: u64,
    /// Files with secrets of at least 32 bytes. If there are any, images are read only by URLs that a conductor has signed
    /// with one of them; the first is what this cache itself signs with, when it copies from a peer.
    pub url_key_files: Vec<PathBuf>,
    /// Whether md5 is accepted as a checksum, as Ironic does by default.
    pub allow_md5: bool,
    /// How sources are fetched over HTTP.
    pub http: HttpConfig,
    /// Where `s3://` sources are; unset, there are none.
    pub s3: Option<S3Config>,
    /// Certificates, for every listener and for what the cache asks of its peers.
    pub tls: bessemer_runtime::tls::Config,
    /// Where metrics and health are served; unset serves none.
    pub metrics_listen: Option<SocketAddr>,
    /// The program that decodes images, and does so when it finds the name that [`crate::is_decoder`] looks for. This
    /// very one, unless the cache runs in one that does not ask that.
    #[serde(skip)]
    pub decoder_program: PathBuf,
    /// Logs and traces.
    pub telemetry: bessemer_runtime::telemetry::Config,
}

/// The level of packs unless configured. Compression is the largest part of a preparation. On
/// operating-system files one core does 390 MB/s at level 1 (ratio 2.70) and 250 MB/s at level 3
/// (ratio 3.04): 1.6 times as fast for a pack an eighth larger, which agents do not notice on any
/// link faster than they can decompress.
pub const DEFAULT_COMPRESSION_LEVEL: i32 = 1;

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("/var/lib/bessemer/image-cache"),
            grpc_listen: SocketAddr::from(([127, 0, 0, 1], 6390)),
            http_listen: SocketAddr::from(([127, 0, 0, 1], 6391)),
            advertised_url: None,
            file_roots: Vec::new(),
            max_image_bytes: 1 << 40,
            compression_level: DEFAULT_COMPRESSION_LEVEL,
            cache_limit_bytes: 100 << 30,
            keep_used_seconds: 3600,
            peers: Vec::new(),
            copies: 2,
            send_limit_bytes_per_second: 0,
            client_limit_bytes_per_second: 0,
            url_key_files: Vec::new(),
            allow_md5: true,
            http: HttpConfig::default(),
            s3: None,
            tls: bessemer_runtime::tls::Config::default(),
            metrics_listen: None,
            // The one that runs, also when its file was replaced since.
            decoder_program: PathBuf::from("/proc/self/exe"),
            telemetry: bessemer_runtime::telemetry::Config::default(),
        }
    }
}

/// All that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
#[error("invalid configuration: {}", reasons.join("; "))]
pub struct InvalidConfig {
    /// One for each field that is wrong.
    pub reasons: Vec<String>,
}

impl Config {
    /// Checks what the types cannot, and names everything that is wrong.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        let mut reasons = Vec::new();
        if self.max_image_bytes == 0 || self.max_image_bytes > MAX_RAW_BYTES {
            let given = self.max_image_bytes;
            reasons.push(format!("max_image_bytes {given} is not within 1..={MAX_RAW_BYTES}"));
        }
        // zstd's own range; beyond 19 a level needs more memory than a worker should have.
        if !(-50..=19).contains(&self.compression_level) {
            let given = self.compression_level;
            reasons.push(format!("compression_level {given} is not within -50..=19"));
        }
        for root in self.file_roots.iter().filter(|root| !root.is_absolute()) {
            reasons.push(format!("file_roots entry `{}` is not absolute", root.display()));
        }
        for peer in self.peers.iter().filter(|peer| !is_http(peer)) {
            reasons.push(format!("peers entry `{peer}` is not an http or https URL"));
        }
        if self.copies == 0 {
            reasons.push("copies 0 is not at least 1, which is this cache's own".to_owned());
        }
        if let Some(text) = &self.advertised_url
            && !is_http(text)
        {
            reasons.push(format!("advertised_url `{text}` is not an http or https URL"));
        }
        if reasons.is_empty() { Ok(()) } else { Err(InvalidConfig { reasons }) }
    }
}

fn is_http(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}
