//! Manifests, packs and raw images over HTTP, with ranges. Everything served was verified.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bessemer_image::pack::ManifestDigest;
use futures::{Stream, StreamExt as _, TryStreamExt as _};

use super::frames::{OpenPack, View};
use super::pace::paced;
use super::problem::Problem;
use super::range::{self, Wanted};
use super::reader::Reader;
use crate::cache::Shared;
use crate::heal;

/// The HTTP service.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let image = || {
        Router::new()
            .route("/manifest", get(manifest))
            .route("/pack", get(pack))
            .route("/raw", get(raw))
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .nest("/v1/images/{id}", image())
        .nest("/v1/permits/{permit}/images/{id}", image())
        .with_state(shared)
}

async fn manifest(State(shared): State<Arc<Shared>>, reader: Reader) -> Result<Response, Problem> {
    let pack = open(&shared, reader.image).await?;
    let body = bytes::Bytes::copy_from_slice(pack.manifest.encoded());
    shared.metrics.served("manifest").inc_by(body.len() as u64);
    Ok((headers(reader.image, View::Pack), body).into_response())
}

async fn pack(
    State(shared): State<Arc<Shared>>,
    reader: Reader,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    serve(shared, reader, headers, View::Pack).await
}

async fn raw(
    State(shared): State<Arc<Shared>>,
    reader: Reader,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    serve(shared, reader, headers, View::Raw).await
}

async fn serve(
    shared: Arc<Shared>,
    reader: Reader,
    request: HeaderMap,
    view: View,
) -> Result<Response, Problem> {
    let id = reader.image;
    let pack = open(&shared, id).await?;
    let total_bytes = pack.total_bytes(view);
    let text = |name| request.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // A range of something else than the client holds would be of no use to it.
    let etag = etag(id, view);
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
    let mut response_headers = headers(id, view);
    response_headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT {
        let value = format!("bytes {}-{}/{total_bytes}", range.start, range.end - 1);
        let value = HeaderValue::try_from(value).map_err(|error| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "DEFECT", error.to_string())
        })?;
        response_headers.insert(header::CONTENT_RANGE, value);
    }
    let body = body(shared, reader, pack, view, range).await?;
    Ok((status, response_headers, body).into_response())
}

/// The body of a response. Its first piece is read before the response begins, so that damage
/// there is an answer; damage later cuts the response short, which every client notices.
async fn body(
    shared: Arc<Shared>,
    reader: Reader,
    pack: OpenPack,
    view: View,
    range: Range<u64>,
) -> Result<Body, Problem> {
    let Reader { image: id, client } = reader;
    let served = shared.metrics.served(view.name());
    let share = shared.shares.of(client);
    let stream = healing_on_error(shared, id, pack.stream(view, range));
    let stream = paced(stream, share).inspect_ok(move |piece| {
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
async fn open(shared: &Arc<Shared>, digest: ManifestDigest) -> Result<OpenPack, Problem> {
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
        Ok(Ok(Some(pack))) => Ok(pack),
        Ok(Ok(None)) => match shared.healer.given_up(digest) {
            Some(given_up) => {
                Err(Problem::new(StatusCode::GONE, given_up.reason, given_up.message))
            }
            None => Err(Problem::not_found(format!("no image {digest} is prepared"))),
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

fn etag(id: ManifestDigest, view: View) -> String {
    match view {
        View::Pack => format!("\"{id}\""),
        View::Raw => format!("\"{id}.raw\""),
    }
}

/// Headers of everything: immutable bytes, in ranges if wanted.
fn headers(id: ManifestDigest, view: View) -> HeaderMap {
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
