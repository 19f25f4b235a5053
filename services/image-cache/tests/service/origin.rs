//! A web server with files, ranges and ETags, that can cut, stall and change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// One file of the origin and what it does to those who get it.
#[derive(Clone, Default)]
pub(crate) struct Served {
    pub(crate) content: Bytes,
    pub(crate) etag: Option<&'static str>,
    /// Connections break after so many bytes, each time.
    pub(crate) cut_after: Option<usize>,
    /// Connections stall for ever after so many bytes.
    pub(crate) stall_after: Option<usize>,
    /// The `Content-Length`, if it is not true.
    pub(crate) announced_bytes: Option<u64>,
    /// No `Content-Length`, no ranges.
    pub(crate) chunked: bool,
    /// The only `Authorization` that is let in.
    pub(crate) authorization: Option<&'static str>,
    /// Answers only by URLs that are signed with this key, as S3 wants it.
    pub(crate) signed_with: Option<&'static str>,
    /// Sends who asks somewhere else.
    pub(crate) location: Option<String>,
}

#[derive(Default)]
struct Files {
    served: Mutex<HashMap<String, Served>>,
    /// `path range` of every request.
    requests: Mutex<Vec<String>>,
    /// Ends what stalls.
    breaking: Notify,
}

/// A running origin.
#[derive(Clone)]
pub(crate) struct Origin {
    files: Arc<Files>,
    url: String,
}

impl Origin {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let files = Arc::new(Files::default());
        let router = Router::new()
            .route("/{name}", get(serve))
            .route("/bucket/{name}", get(serve))
            .with_state(Arc::clone(&files));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { files, url }
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Serves a file and answers its URL.
    pub(crate) fn put(&self, name: &str, served: Served) -> String {
        self.files.served.lock().unwrap().insert(name.to_owned(), served);
        format!("{}/{name}", self.url)
    }

    pub(crate) fn put_bytes(&self, name: &str, content: &[u8]) -> String {
        let content = Bytes::copy_from_slice(content);
        self.put(name, Served { content, etag: Some("\"1\""), ..Served::default() })
    }

    /// Breaks the connections that have stalled.
    pub(crate) fn break_connections(&self) {
        self.files.breaking.notify_waiters();
    }

    pub(crate) fn remove(&self, name: &str) {
        self.files.served.lock().unwrap().remove(name);
    }

    /// The ranges asked of a file so far, empty for all of it.
    pub(crate) fn requests(&self, name: &str) -> Vec<String> {
        let all = self.files.requests.lock().unwrap();
        let prefix = format!("{name} ");
        all.iter().filter_map(|request| request.strip_prefix(&prefix)).map(str::to_owned).collect()
    }
}

async fn serve(
    State(files): State<Arc<Files>>,
    Path(name): Path<String>,
    uri: http::Uri,
    headers: HeaderMap,
) -> Response {
    let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    let range = text(header::RANGE).unwrap_or_default();
    files.requests.lock().unwrap().push(format!("{name} {range}"));
    let Some(served) = files.served.lock().unwrap().get(&name).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some(location) = served.location {
        return (StatusCode::FOUND, [(header::LOCATION, location)]).into_response();
    }
    let query = uri.query().unwrap_or_default();
    if let Some(key) = served.signed_with
        && !(query.contains(&format!("X-Amz-Credential={key}%2F"))
            && query.contains("X-Amz-Signature="))
    {
        return StatusCode::FORBIDDEN.into_response();
    }
    if served.authorization.is_some() && text(header::AUTHORIZATION) != served.authorization {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let total = served.content.len();
    let is_same = text(header::IF_RANGE).is_none_or(|etag| Some(etag) == served.etag);
    let start = range
        .strip_prefix("bytes=")
        .and_then(|range| range.strip_suffix('-'))
        .map(|start| start.parse::<usize>().unwrap())
        .filter(|_| is_same && !served.chunked);
    let mut response = Response::builder();
    if let Some(etag) = served.etag {
        response = response.header(header::ETAG, etag);
    }
    if let Some(start) = start {
        if start >= total {
            return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
        }
        let content_range = format!("bytes {start}-{}/{total}", total - 1);
        response = response
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, content_range);
    }
    let content = served.content.slice(start.unwrap_or(0)..);
    if !served.chunked {
        let announced_bytes = served.announced_bytes.unwrap_or(content.len() as u64);
        response = response.header(header::CONTENT_LENGTH, announced_bytes);
    }
    response.body(body(files, &served, content)).unwrap()
}

fn body(files: Arc<Files>, served: &Served, content: Bytes) -> Body {
    let limit = served.cut_after.or(served.stall_after).unwrap_or(content.len());
    let sent = content.slice(..limit.min(content.len()));
    let is_whole = sent.len() == content.len();
    let pieces: Vec<_> =
        sent.chunks(64 << 10).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    let pieces = futures::stream::iter(pieces);
    if is_whole {
        return Body::from_stream(pieces);
    }
    if served.stall_after.is_some() {
        let broken = futures::stream::once(async move {
            files.breaking.notified().await;
            Err(std::io::Error::other("broken"))
        });
        return Body::from_stream(pieces.chain(broken));
    }
    let cut = futures::stream::once(async {
        // Lets hyper send what it has before the connection breaks.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut"))
    });
    Body::from_stream(pieces.chain(cut))
}
