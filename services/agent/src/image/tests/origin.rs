//! An HTTP server for images whose network and disk misbehave on demand.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::StreamExt;

/// How much is sent in one piece, in bytes: small enough for cuts at any place.
const PIECE_BYTES: usize = 16 * 1024;

/// What happens to one request.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The connection is lost after so many bytes of the body.
    CutAfter(usize),
    /// The body ends early, as if it were all.
    ShortBy(usize),
    /// This answer, with a `Retry-After` of no seconds.
    Status(u16, &'static str),
}

/// A request as it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) path: String,
    pub(super) range: Range<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, Bytes>,
    /// Applied to requests for the pack or the raw image, one each.
    faults: VecDeque<Fault>,
    /// Bytes of a file that are flipped, so many times.
    damage: Vec<(String, usize, u32)>,
    /// Whether that is done only in answers to requests for ranges.
    damages_ranges_only: bool,
    served: Vec<Served>,
    knows_ranges: bool,
    watcher: Option<Watcher>,
}

/// Looks at the disk whenever the agent asks for data.
struct Watcher(Box<dyn Fn() + Send>);

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watcher")
    }
}

/// The server. Ends with the test's runtime.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) url: String,
    inner: Arc<Mutex<Inner>>,
}

impl Origin {
    /// Serves `files` by their paths.
    pub(super) async fn start(files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Self {
        let files = files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes.into()));
        let inner = Inner { files: files.collect(), knows_ranges: true, ..Inner::default() };
        let inner = Arc::new(Mutex::new(inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, inner }
    }

    /// The next requests for data meet these faults, one each.
    pub(super) fn add_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inner.lock().unwrap().faults.extend(faults);
    }

    /// Flips the byte at `offset` of `path` the next `times` times it is sent.
    pub(super) fn damage(&self, path: &str, offset: usize, times: u32) {
        self.inner.lock().unwrap().damage.push((path.to_owned(), offset, times));
    }

    /// The same, but only who asks for a range gets it.
    pub(super) fn damage_ranges(&self, path: &str, offset: usize, times: u32) {
        self.inner.lock().unwrap().damages_ranges_only = true;
        self.damage(path, offset, times);
    }

    /// Answers with whole files from now on.
    pub(super) fn forget_ranges(&self) {
        self.inner.lock().unwrap().knows_ranges = false;
    }

    /// Calls `watch` at each request for data from now on.
    pub(super) fn watch(&self, watch: impl Fn() + Send + 'static) {
        self.inner.lock().unwrap().watcher = Some(Watcher(Box::new(watch)));
    }

    /// What was sent so far.
    pub(super) fn served(&self) -> Vec<Served> {
        self.inner.lock().unwrap().served.clone()
    }
}

async fn answer(State(inner): State<Arc<Mutex<Inner>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let mut inner = inner.lock().unwrap();
    let Some(file) = inner.files.get(&path).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if path != "/manifest"
        && let Some(Watcher(watch)) = &inner.watcher
    {
        watch();
    }
    let fault = if path == "/manifest" { None } else { inner.faults.pop_front() };
    if let Some(Fault::Status(status, body)) = fault {
        let status = StatusCode::from_u16(status).unwrap();
        return (status, [(header::RETRY_AFTER, "0")], body).into_response();
    }
    let asked = requested(request.headers(), file.len()).filter(|_| inner.knows_ranges);
    let range = asked.clone().unwrap_or(0..file.len());
    let mut body = file.slice(range.clone()).to_vec();
    let is_damaged = asked.is_some() || !inner.damages_ranges_only;
    for (_, offset, times) in inner.damage.iter_mut().filter(|(damaged, ..)| *damaged == path) {
        if is_damaged && *times > 0 && range.contains(offset) {
            body[*offset - range.start] ^= 1;
            *times -= 1;
        }
    }
    let end = match fault {
        Some(Fault::CutAfter(bytes)) => range.start + bytes.min(body.len()),
        Some(Fault::ShortBy(bytes)) => range.end.saturating_sub(bytes).max(range.start),
        _ => range.end,
    };
    inner.served.push(Served { path, range: range.start..end });
    let sent = Bytes::from(body).slice(..end - range.start);

    let mut response = Response::new(match fault {
        Some(Fault::CutAfter(_)) => Body::from_stream(
            pieces(sent)
                .chain(futures::stream::once(async { Err(io::Error::other("cut on purpose")) })),
        ),
        _ => Body::from_stream(pieces(sent)),
    });
    let headers = response.headers_mut();
    if !matches!(fault, Some(Fault::ShortBy(_))) {
        headers.insert(header::CONTENT_LENGTH, range.len().into());
    }
    if asked.is_some() {
        let value = format!("bytes {}-{}/{}", range.start, range.end - 1, file.len());
        headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

fn pieces(bytes: Bytes) -> impl futures::Stream<Item = io::Result<Bytes>> + Send {
    let starts = (0..bytes.len()).step_by(PIECE_BYTES);
    let pieces: Vec<_> =
        starts.map(|at| Ok(bytes.slice(at..bytes.len().min(at + PIECE_BYTES)))).collect();
    futures::stream::iter(pieces)
}

fn requested(headers: &HeaderMap, length: usize) -> Option<Range<usize>> {
    let value = headers.get(header::RANGE)?.to_str().ok()?;
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let end = last.parse().map_or(length, |last: usize| last + 1);
    Some(first.parse().ok()?..end)
}
