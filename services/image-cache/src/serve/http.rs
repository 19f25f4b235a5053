//! Manifests, packs and raw images over HTTP, with ranges. Everything served was verified.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bessemer_image::pack::ManifestDigest;
use futures::{Stream, StreamExt as _, TryStreamExt as _};

use super::frames::{OpenPack, View};
use super::pace::{Pace, paced};
use super::range::{self, Wanted};
use crate::cache::Shared;
use crate::heal;

/// What a client should wait before it asks again for an image that is being healed. A heal reads
/// the source once; most take a few seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The HTTP service.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/v1/images/{id}/manifest", get(manifest))
        .route("/v1/images/{id}/pack", get(pack))
        .route("/v1/images/{id}/raw", get(raw))
        .with_state(shared)
}

/// Why a request is not answered with bytes. The body says it for people and for programs.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

impl Problem {
    fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    fn healing(id: ManifestDigest) -> Self {
        let message = format!("image {id} is damaged and being healed; ask again");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "IMAGE_HEALING", message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "reason": self.reason, "message": self.message });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        response
    }
}

async fn manifest(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let (_, pack) = open(&shared, &id).await?;
    let body = bytes::Bytes::copy_from_slice(pack.manifest.encoded());
    shared.metrics.served("manifest").inc_by(body.len() as u64);
    Ok((headers(&id, View::Pack), body).into_response())
}

async fn pack(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    serve(shared, id, headers, View::Pack).await
}

async fn raw(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    serve(shared, id, headers, View::Raw).await
}

async fn serve(
    shared: Arc<Shared>,
    id: String,
    request: HeaderMap,
    view: View,
) -> Result<Response, Problem> {
    let (digest, pack) = open(&shared, &id).await?;
    let total_bytes = pack.total_bytes(view);
    let text = |name| request.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // A range of something else than the client holds would be of no use to it.
    let etag = etag(&id, view);
    let is_same = text(header::IF_RANGE).is_none_or(|condition| condition == etag);
    let wanted = range::parse(text(header::RANGE).filter(|_| is_same), total_bytes);
    let (status, range) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0..total_bytes),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        Wanted::Unsatisfiable => {
            let content_range = [(header::CONTENT_RANGE, format!("bytes */{total_bytes}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, content_range).into_response());
        }
    };
    let length = range.end - range.start;
    let mut response_headers = headers(&id, view);
    response_headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {}-{}/{total_bytes}", range.start, range.end - 1);
        let value = HeaderValue::try_from(value).map_err(|error| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "DEFECT", error.to_string())
        })?;
        response_headers.insert(header::CONTENT_RANGE, value);
    }
    let body = body(shared, digest, pack, view, range).await?;
    Ok((status, response_headers, body).into_response())
}

/// The body of a response. Its first piece is read before the response begins, so that damage
/// there is an answer; damage later cuts the response short, which every client notices.
async fn body(
    shared: Arc<Shared>,
    id: ManifestDigest,
    pack: OpenPack,
    view: View,
    range: Range<u64>,
) -> Result<Body, Problem> {
    let served = shared.metrics.served(view.name());
    let own = Pace::of(shared.config.response_limit_bytes_per_second).map(Arc::new);
    let paces: Arc<[_]> = shared.pace.iter().cloned().chain(own).collect();
    let stream = healing_on_error(shared, id, pack.stream(view, range));
    let stream = paced(stream, paces).inspect_ok(move |piece| {
        served.inc_by(piece.len() as u64);
    });
    let mut stream = Box::pin(stream);
    match stream.next().await {
        None => Ok(Body::empty()),
        Some(Ok(first)) => {
            let first = futures::stream::once(std::future::ready(Ok(first)));
            Ok(Body::from_stream(first.chain(stream)))
        }
        Some(Err(_)) => Err(Problem::healing(id)),
    }
}

fn healing_on_error(
    shared: Arc<Shared>,
    id: ManifestDigest,
    stream: impl Stream<Item = io::Result<bytes::Bytes>> + Send,
) -> impl Stream<Item = io::Result<bytes::Bytes>> + Send {
    stream.inspect_err(move |error| {
        tracing::error!(image.id = %id, %error, "pack cannot be served");
        shared.metrics.damaged();
        if let Ok(Some(entry)) = shared.catalogue.use_id(id) {
            heal::start(&shared, id, entry);
        }
    })
}

/// Opens an image that exists.
async fn open(shared: &Arc<Shared>, id: &str) -> Result<(ManifestDigest, OpenPack), Problem> {
    let not_found = |message| Problem::new(StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND", message);
    let digest: ManifestDigest = id.parse().map_err(|error| not_found(format!("{error}")))?;
    let this = Arc::clone(shared);
    let opened = tokio::task::spawn_blocking(move || {
        if this.catalogue.use_id(digest)?.is_none() {
            return Ok(None);
        }
        let manifest = this.manifests.get(digest, &this.layout.manifest(digest));
        let file = File::open(this.layout.pack(digest));
        match (manifest, file) {
            (Ok(manifest), Ok(file)) => Ok(Some(OpenPack { manifest, file: Arc::new(file) })),
            (Err(error), _) | (_, Err(error)) => {
                // Without its files an image cannot be served, without its manifest not be healed.
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) {
                    this.catalogue.drop_image(digest)?;
                }
                Err(error)
            }
        }
    });
    match opened.await {
        Ok(Ok(Some(pack))) => Ok((digest, pack)),
        Ok(Ok(None)) => match shared.healer.given_up(digest) {
            Some(given_up) => {
                Err(Problem::new(StatusCode::GONE, given_up.reason, given_up.message))
            }
            None => Err(not_found(format!("no image {digest} is prepared"))),
        },
        Ok(Err(error)) => {
            let status = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData => StatusCode::GONE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            let message = format!("image {digest} cannot be read: {error}; prepare it again");
            Err(Problem::new(status, "STORAGE_FAILED", message))
        }
        Err(_) => {
            let message = format!("image {digest} could not be opened");
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "DEFECT", message))
        }
    }
}

fn etag(id: &str, view: View) -> String {
    match view {
        View::Pack => format!("\"{id}\""),
        View::Raw => format!("\"{id}.raw\""),
    }
}

/// Headers of everything: immutable bytes, in ranges if wanted.
fn headers(id: &str, view: View) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Ok(etag) = HeaderValue::try_from(etag(id, view)) {
        headers.insert(header::ETAG, etag);
    }
    let immutable = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, immutable);
    headers
}
