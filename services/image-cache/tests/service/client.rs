//! A cache in this process and what tests ask of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bessemer_image_cache::{Config, Handle, start};
use bessemer_proto::v1;
use bessemer_proto::v1::image_service_client::ImageServiceClient;
use bessemer_proto::v1::prepare_image_response::Update;
use http::StatusCode;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Channel;
use tonic_types::StatusExt as _;

/// A running cache with a data directory and a directory for local images.
pub(crate) struct Cache {
    pub(crate) grpc: ImageServiceClient<Channel>,
    pub(crate) http: reqwest::Client,
    pub(crate) directory: TempDir,
    base_url: String,
    stop: CancellationToken,
    handle: Option<Handle>,
}

/// How a cache in a test is configured unless the test says otherwise.
pub(crate) fn config(directory: &Path) -> Config {
    let files = directory.join("files");
    std::fs::create_dir_all(&files).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    Config {
        data_dir: directory.join("data"),
        grpc_listen: any,
        http_listen: any,
        file_roots: vec![files],
        decoder_program: env!("CARGO_BIN_EXE_bessemer-image-cache").into(),
        ..Config::default()
    }
}

impl Cache {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), |_| {}).await
    }

    pub(crate) async fn start_in(directory: TempDir, change: impl FnOnce(&mut Config)) -> Self {
        bessemer_runtime::install_tls_provider();
        let mut config = config(directory.path());
        change(&mut config);
        let stop = CancellationToken::new();
        let handle = start(config, stop.clone()).await.unwrap();
        let grpc = connect(handle.grpc_address());
        Self {
            grpc: grpc.await.unwrap(),
            http: reqwest::Client::new(),
            directory,
            base_url: handle.base_url().to_owned(),
            stop,
            handle: Some(handle),
        }
    }

    /// Stops it and answers its directory.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.stop.cancel();
        self.handle.take().unwrap().finished().await.unwrap();
        self.directory
    }

    /// Puts a file where `file://` may name it; answers the URL.
    pub(crate) fn local(&self, name: &str, content: &[u8]) -> String {
        let path = self.directory.path().join("files").join(name);
        std::fs::write(&path, content).unwrap();
        format!("file://{}", path.display())
    }

    pub(crate) async fn prepare(&self, image: v1::ImageSpec) -> Result<v1::Image, Status> {
        prepare(&self.grpc, image).await
    }

    /// The body at `path` below an image's URL; `range` may be empty.
    pub(crate) async fn get(&self, id: &str, path: &str, range: &str) -> (StatusCode, Vec<u8>) {
        let url = format!("{}/{path}", self.url(id));
        let mut request = self.http.get(url);
        if !range.is_empty() {
            request = request.header(http::header::RANGE, range);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.bytes().await.unwrap_or_default().to_vec())
    }

    /// The URL of an image.
    pub(crate) fn url(&self, id: &str) -> String {
        format!("{}/v1/images/{id}", self.base_url)
    }

    /// Names of the files in a directory of the data directory.
    pub(crate) fn stored(&self, directory: &str) -> Vec<String> {
        list(&self.data(directory))
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.directory.path().join("data").join(name)
    }
}

/// Names of the files in a directory, none if there is no such directory yet.
pub(crate) fn list(directory: &Path) -> Vec<String> {
    let Ok(names) = std::fs::read_dir(directory) else { return Vec::new() };
    names.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// A client of the cache at an address, once it answers.
pub(crate) async fn connect(
    address: SocketAddr,
) -> Result<ImageServiceClient<Channel>, tonic::transport::Error> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?;
    Ok(ImageServiceClient::new(endpoint.connect().await?))
}

/// Prepares an image and follows the progress to its end.
pub(crate) async fn prepare(
    grpc: &ImageServiceClient<Channel>,
    image: v1::ImageSpec,
) -> Result<v1::Image, Status> {
    let request =
        v1::PrepareImageRequest { image: Some(image), ..v1::PrepareImageRequest::default() };
    let mut updates = grpc.clone().prepare_image(request).await?.into_inner();
    while let Some(response) = updates.message().await? {
        if let Some(Update::Image(image)) = response.update {
            return Ok(image);
        }
    }
    panic!("the stream ended without an image");
}

pub(crate) fn spec(source: &str, checksum: &str) -> v1::ImageSpec {
    v1::ImageSpec {
        source: source.to_owned(),
        checksum: checksum.to_owned(),
        ..v1::ImageSpec::default()
    }
}

/// The id of a prepared image.
pub(crate) fn id(image: &v1::Image) -> &str {
    &image.resolved.as_ref().unwrap().id
}

/// Reason and metadata of an error.
pub(crate) fn error_info(status: &Status) -> (String, HashMap<String, String>) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "bessemer");
    (info.reason.clone(), info.metadata.clone())
}

/// Asks again until the answer is something; a minute is long for everything here.
pub(crate) async fn wait_for<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
