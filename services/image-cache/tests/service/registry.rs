//! Images in container registries: Debian's own registry server, and one that asks for tokens.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bessemer_image_cache::CredentialsConfig;
use http::{StatusCode, header};
use serde_json::json;
use tempfile::TempDir;

use crate::client::{Cache, error_info, id, spec};
use crate::images::{disk, qcow2, sha256};

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";

/// Debian's `docker-registry`.
struct Registry {
    process: Child,
    host: String,
    client: reqwest::Client,
    _directory: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Registry {
    fn start() -> Self {
        bessemer_runtime::install_tls_provider();
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry of the Debian package of that name");
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let host = lines
            .find_map(|line| {
                let line = line.unwrap();
                let (_, rest) = line.split_once("listening on ")?;
                Some(rest.split(['"', ' ', ',']).next().unwrap().to_owned())
            })
            .expect("the registry did not start");
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, host, client: reqwest::Client::new(), _directory: directory }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/v2/{path}", self.host)
    }

    /// Stores a blob and answers its digest.
    async fn put_blob(&self, repository: &str, content: &[u8]) -> String {
        let begun = self.client.post(self.url(&format!("{repository}/blobs/uploads/")));
        let begun = begun.send().await.unwrap();
        let location = begun.headers()[header::LOCATION].to_str().unwrap().to_owned();
        let digest = format!("sha256:{}", sha256(content));
        let upload = format!("{location}&digest={digest}");
        let ended = self.client.put(upload).body(content.to_vec()).send().await.unwrap();
        assert_eq!(ended.status(), StatusCode::CREATED);
        digest
    }

    /// Stores a manifest with these layers and answers its digest.
    async fn put_image(&self, repository: &str, tag: &str, layers: &[&[u8]]) -> String {
        let empty = self.put_blob(repository, b"{}").await;
        let mut descriptors = Vec::new();
        for layer in layers {
            let digest = self.put_blob(repository, layer).await;
            let media_type = "application/octet-stream";
            descriptors
                .push(json!({"mediaType": media_type, "digest": digest, "size": layer.len()}));
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
            "layers": descriptors,
        });
        self.put_manifest(repository, tag, MANIFEST_TYPE, &manifest).await
    }

    async fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        manifest: &serde_json::Value,
    ) -> String {
        let content = serde_json::to_vec(manifest).unwrap();
        let digest = format!("sha256:{}", sha256(&content));
        let put = self.client.put(self.url(&format!("{repository}/manifests/{tag}")));
        let put = put.header(header::CONTENT_TYPE, media_type).body(content).send().await.unwrap();
        assert_eq!(put.status(), StatusCode::CREATED, "{:?}", put.text().await);
        digest
    }

    async fn put_index(&self, repository: &str, tag: &str, images: &[(&str, &str)]) {
        let manifests: Vec<_> = images
            .iter()
            .map(|(digest, architecture)| {
                let platform = json!({"architecture": architecture, "os": "linux"});
                json!({"mediaType": MANIFEST_TYPE, "digest": digest, "size": 1, "platform": platform})
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests});
        self.put_manifest(repository, tag, INDEX_TYPE, &index).await;
    }
}

async fn cache_of(host: &str) -> Cache {
    let host = host.to_owned();
    let change = move |config: &mut bessemer_image_cache::Config| {
        config.http.insecure_registries = vec![host];
    };
    Cache::start_in(tempfile::tempdir().unwrap(), change).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_in_a_registry_needs_no_checksum_and_its_tag_is_looked_up_each_time() {
    let registry = Registry::start();
    let cache = cache_of(&registry.host).await;
    let (first, second) = (qcow2(&disk(50), &[]), qcow2(&disk(51), &[]));
    let pinned = registry.put_image("os/debian", "12", &[&first]).await;
    let source = format!("oci://{}/os/debian:12", registry.host);

    let image = cache.prepare(spec(&source, "")).await.unwrap();
    assert_eq!(image.name, "debian");
    let resolved = image.resolved.clone().unwrap();
    assert_eq!(resolved.raw_hash_value, sha256(&disk(50)));
    let (_, pack) = cache.get(id(&image), "pack", "").await;
    assert!(zstd::decode_all(pack.as_slice()).unwrap() == disk(50));
    // Saying what it must be is allowed, and checked.
    cache.prepare(spec(&source, &sha256(&first))).await.unwrap();
    let error = cache.prepare(spec(&source, &sha256(b"other"))).await.unwrap_err();
    assert_eq!(error_info(&error).0, "IMAGE_CHECKSUM_MISMATCH");

    registry.put_image("os/debian", "12", &[&second]).await;
    let newer = cache.prepare(spec(&source, "")).await.unwrap();
    assert_eq!(newer.resolved.unwrap().raw_hash_value, sha256(&disk(51)));
    let by_digest = format!("oci://{}/os/debian@{pinned}", registry.host);
    let same = cache.prepare(spec(&by_digest, "")).await.unwrap();
    assert_eq!(id(&same), id(&image));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_with_one_image_is_followed_and_others_have_to_be_told_apart() {
    let registry = Registry::start();
    let cache = cache_of(&registry.host).await;
    let amd64 = registry.put_image("os/a", "amd64", &[&disk(52)]).await;
    let arm64 = registry.put_image("os/a", "arm64", &[&disk(53)]).await;
    registry.put_index("os/a", "one", &[(&amd64, "amd64"), (&arm64, "unknown")]).await;
    registry.put_index("os/a", "two", &[(&amd64, "amd64"), (&arm64, "arm64")]).await;
    registry.put_image("os/a", "layers", &[b"one", b"two"]).await;
    let source = |tag: &str| spec(&format!("oci://{}/os/a:{tag}", registry.host), "");

    let image = cache.prepare(source("one")).await.unwrap();
    assert_eq!(image.resolved.unwrap().raw_hash_value, sha256(&disk(52)));
    for (tag, said) in [
        ("two", format!("{arm64} (arm64)")),
        ("layers", "it has 2 layers".to_owned()),
        ("none", "404".to_owned()),
    ] {
        let error = cache.prepare(source(tag)).await.unwrap_err();
        assert_eq!(error_info(&error).0, "IMAGE_SOURCE_REFUSED", "{error}");
        assert!(error.message().contains(&said), "{error}");
    }
}

/// Lets nobody pass to the registry behind it without the newest token, and gives one to who knows the password.
#[derive(Clone)]
struct Guard {
    registry: String,
    own_host: String,
    client: reqwest::Client,
    token: Arc<std::sync::Mutex<u64>>,
}

async fn guarded(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).cloned();
    let says = |text: &str| authorization.as_ref().is_some_and(|it| it == text);
    if request.uri().path() == "/token" {
        // "user:secret".
        return if says("Basic dXNlcjpzZWNyZXQ=") {
            next.run(request).await
        } else {
            StatusCode::FORBIDDEN.into_response()
        };
    }
    let token = *guard.token.lock().unwrap();
    if token > 0 && says(&format!("Bearer token-{token}")) {
        let url = format!("http://{}{}", guard.registry, request.uri());
        let mut passed = guard.client.get(url);
        for name in [header::ACCEPT, header::RANGE, header::IF_RANGE] {
            if let Some(value) = request.headers().get(&name) {
                passed = passed.header(name, value);
            }
        }
        let answer = passed.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        let mut response = (status, answer.bytes().await.unwrap()).into_response();
        *response.headers_mut() = headers;
        return response;
    }
    let challenge = format!(
        r#"Bearer realm="http://{}/token",service="registry",scope="repository:os/b:pull""#,
        guard.own_host
    );
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
}

/// The second token ends the first: whoever asked earlier has to ask again.
async fn token(
    State(guard): State<Guard>,
    Query(asked): Query<std::collections::HashMap<String, String>>,
) -> String {
    assert_eq!(asked["scope"], "repository:os/b:pull");
    let mut token = guard.token.lock().unwrap();
    *token += 1;
    json!({"token": format!("token-{token}")}).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_for_a_token_is_shown_one() {
    let registry = Registry::start();
    registry.put_image("os/b", "1", &[&disk(54)]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own_host = listener.local_addr().unwrap().to_string();
    let guard = Guard {
        registry: registry.host.clone(),
        own_host: own_host.clone(),
        client: reqwest::Client::new(),
        token: Arc::default(),
    };
    let router = Router::new()
        .route("/token", get(token))
        .layer(from_fn_with_state(guard.clone(), guarded))
        .with_state(guard.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let source = format!("oci://{own_host}/os/b:1");

    let stranger = cache_of(&own_host).await;
    let error = stranger.prepare(spec(&source, "")).await.unwrap_err();
    assert_eq!(error_info(&error).0, "IMAGE_SOURCE_REFUSED");
    assert!(error.message().contains("[[http.credentials]]"), "{error}");

    let secrets = tempfile::tempdir().unwrap();
    let password_file = secrets.path().join("password");
    std::fs::write(&password_file, "secret\n").unwrap();
    let credentials =
        CredentialsConfig { host: own_host.clone(), username: "user".to_owned(), password_file };
    let known = Cache::start_in(tempfile::tempdir().unwrap(), |config| {
        config.http.insecure_registries = vec![own_host.clone()];
        config.http.credentials = vec![credentials];
    })
    .await;
    let image = known.prepare(spec(&source, "")).await.unwrap();
    assert_eq!(image.resolved.unwrap().raw_hash_value, sha256(&disk(54)));
    // The token that it has is worth nothing any more.
    *guard.token.lock().unwrap() += 1;
    known.prepare(spec(&source, "")).await.unwrap();
}
