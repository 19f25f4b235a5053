//! A prepared image behind HTTP, and a gate that holds its bytes back.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bessemer_image::digest::Algorithm;
use bessemer_image::pack::{Manifest, PackOptions, SequentialSource, write_pack};
use bessemer_proto::v1::start_task::Task;
use bessemer_proto::v1::write_image_task::Source;
use bessemer_proto::v1::{PackSource, StartTask, WriteImageTask};
use bytes::Bytes;
use tokio::sync::watch;

use crate::conductor::PATIENCE;

const PIECE_BYTES: usize = 64 * 1024;

pub(crate) struct Cache {
    address: SocketAddr,
    pub(crate) manifest: Manifest,
    pub(crate) pack_bytes: usize,
    files: Arc<Files>,
}

struct Files {
    manifest: Bytes,
    pack: Bytes,
    /// Bytes of the pack behind this one are not sent yet.
    gate: watch::Sender<usize>,
    /// The farthest byte of the pack that was sent.
    reached: watch::Sender<usize>,
    /// Bytes of the pack that were sent, repeated ones included.
    sent_bytes: AtomicU64,
}

impl Cache {
    /// Serves `raw`, the first `gate` bytes of its pack at once.
    pub(crate) async fn start(raw: &[u8], gate_percent: usize) -> Self {
        let options =
            PackOptions { level: 1, raw_algorithm: Algorithm::Sha256, workers: NonZeroUsize::MIN };
        let mut pack = Vec::new();
        let source = SequentialSource::new(raw, Some(raw.len() as u64));
        let manifest = write_pack(&source, &mut pack, &options, |_| {}).unwrap().manifest;
        let pack_bytes = pack.len();
        let files = Arc::new(Files {
            manifest: manifest.encoded().to_vec().into(),
            pack: pack.into(),
            gate: watch::Sender::new(pack_bytes / 100 * gate_percent),
            reached: watch::Sender::new(0),
            sent_bytes: AtomicU64::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().fallback(answer).with_state(Arc::clone(&files));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, manifest, pack_bytes, files }
    }

    pub(crate) fn open_gate(&self) {
        self.files.gate.send_replace(usize::MAX);
    }

    /// Sends the bytes below `position`.
    pub(crate) fn open_gate_to(&self, position: usize) {
        self.files.gate.send_replace(position);
    }

    /// Waits until the bytes below `position` have been sent, as far as whole pieces go.
    pub(crate) async fn sent(&self, position: usize) {
        let mut reached = self.files.reached.subscribe();
        let wanted = reached.wait_for(|reached| reached + PIECE_BYTES >= position);
        tokio::time::timeout(PATIENCE, wanted).await.expect("not fetched").unwrap();
    }

    /// How many bytes of the pack have been sent in all.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.files.sent_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn task(&self, task_id: &str, resume: bool) -> StartTask {
        let pack = PackSource {
            urls: vec![format!("http://{}", self.address)],
            manifest_digest: self.manifest.digest().as_bytes().to_vec(),
            raw_size_bytes: self.manifest.raw_bytes(),
        };
        let write =
            WriteImageTask { source: Some(Source::Pack(pack)), ..WriteImageTask::default() };
        let task = Some(Task::WriteImage(write));
        StartTask { task_id: task_id.to_owned(), epoch: 0, resume, task }
    }
}

async fn answer(State(files): State<Arc<Files>>, request: Request) -> Response {
    if request.uri().path() == "/manifest" {
        return files.manifest.clone().into_response();
    }
    let range = request.headers()[header::RANGE].to_str().unwrap().strip_prefix("bytes=").unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let (start, end): (usize, usize) = (first.parse().unwrap(), last.parse::<usize>().unwrap() + 1);
    let content_range = format!("bytes {start}-{last}/{}", files.pack.len());
    let pieces = futures::stream::unfold(start, move |at| {
        let files = Arc::clone(&files);
        async move {
            let piece_end = end.min(at + PIECE_BYTES);
            files.gate.subscribe().wait_for(|gate| *gate >= piece_end).await.ok()?;
            let piece = (at < end).then(|| files.pack.slice(at..piece_end))?;
            files.sent_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            files.reached.send_if_modified(|reached| {
                let is_farther = piece_end > *reached;
                *reached = piece_end.max(*reached);
                is_farther
            });
            Some((Ok::<_, std::io::Error>(piece), piece_end))
        }
    });
    let headers = [
        (header::CONTENT_RANGE, content_range),
        (header::CONTENT_LENGTH, (end - start).to_string()),
    ];
    (StatusCode::PARTIAL_CONTENT, headers, Body::from_stream(pieces)).into_response()
}
