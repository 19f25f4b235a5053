//! The gRPC service.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bessemer_image::pack::ManifestDigest;
use bessemer_proto::v1;
use bessemer_proto::v1::image_replica_service_server::ImageReplicaService;
use bessemer_proto::v1::image_service_server::ImageService;
use bessemer_proto::v1::prepare_image_response::Update;
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::cache::Shared;
use crate::catalogue::{Entry, NotEvicted};
use crate::error::{ERROR_DOMAIN, PrepareError};
use crate::heal;
use crate::prepare::{Job, JobState, Joined};
use crate::request;

/// How often callers hear of progress: what a progress bar can show.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Answers gRPC calls.
pub(crate) struct Images(pub(crate) Arc<Shared>);

type PrepareStream = Pin<Box<dyn Stream<Item = Result<v1::PrepareImageResponse, Status>> + Send>>;

type VerifyStream = Pin<Box<dyn Stream<Item = Result<v1::VerifyImageResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ImageService for Images {
    type PrepareImageStream = PrepareStream;
    type VerifyImageStream = VerifyStream;

    async fn prepare_image(
        &self,
        request: Request<v1::PrepareImageRequest>,
    ) -> Result<Response<PrepareStream>, Status> {
        let v1::PrepareImageRequest { image, name, in_every_cache: _ } = request.into_inner();
        let spec = image.unwrap_or_default().into();
        let request = request::Request::try_new(spec, name, self.0.config.allow_md5)
            .map_err(|error| error.to_status())?;
        let joined = self.0.prepare(request).await.map_err(|error| error.to_status())?;
        Ok(Response::new(match joined {
            Joined::Prepared(entry) => {
                let image = response(Update::Image(self.0.image(&entry)));
                Box::pin(tokio_stream::once(Ok(image)))
            }
            Joined::Job(job) => Box::pin(follow(job, Arc::clone(&self.0))),
        }))
    }

    async fn get_image(
        &self,
        request: Request<v1::GetImageRequest>,
    ) -> Result<Response<v1::Image>, Status> {
        let (entry, _) = self.find(&request.into_inner().image)?;
        Ok(Response::new(self.0.image(&entry)))
    }

    async fn list_images(
        &self,
        _: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let entries = self.0.catalogue.list();
        let images = entries.iter().map(|entry| self.0.image(entry)).collect();
        Ok(Response::new(v1::ListImagesResponse { images }))
    }

    async fn verify_image(
        &self,
        request: Request<v1::VerifyImageRequest>,
    ) -> Result<Response<VerifyStream>, Status> {
        let (entry, id) = self.find(&request.into_inner().image)?;
        let shared = Arc::clone(&self.0);
        let (sender, answers) = mpsc::channel(1);
        tokio::task::spawn_blocking(move || {
            let answer = verify(&shared, id, &entry, &sender);
            // Fails when the caller has gone.
            let _ = sender.blocking_send(answer.map_err(|error| error.to_status()));
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn pin_image(
        &self,
        request: Request<v1::PinImageRequest>,
    ) -> Result<Response<v1::Image>, Status> {
        let v1::PinImageRequest { image, pinned } = request.into_inner();
        let (_, id) = self.find(&image)?;
        let shared = Arc::clone(&self.0);
        blocking(move || shared.catalogue.pin(id, pinned)).await?.map_err(|source| {
            PrepareError::storage("write", self.0.layout.catalogue_dir(), source).to_status()
        })?;
        let (entry, _) = self.find(&image)?;
        Ok(Response::new(self.0.image(&entry)))
    }

    async fn evict_image(
        &self,
        request: Request<v1::EvictImageRequest>,
    ) -> Result<Response<v1::EvictImageResponse>, Status> {
        let v1::EvictImageRequest { image, force } = request.into_inner();
        let (entry, id) = self.find(&image)?;
        let (shared, dropped) = (Arc::clone(&self.0), entry.clone());
        let keep_used = Duration::from_secs(self.0.config.keep_used_seconds);
        blocking(move || shared.catalogue.evict(&dropped, id, keep_used, force))
            .await?
            .map_err(|error| not_evicted(error, &self.0.layout.pack(id)))?;
        tracing::info!(image.id = %id, image.name = entry.name, force, "image evicted");
        let image = Some(self.0.image(&entry));
        Ok(Response::new(v1::EvictImageResponse { image }))
    }
}

#[tonic::async_trait]
impl ImageReplicaService for Images {
    async fn find_prepared_image(
        &self,
        request: Request<v1::FindPreparedImageRequest>,
    ) -> Result<Response<v1::FindPreparedImageResponse>, Status> {
        let entry = self.0.catalogue.get(&request.into_inner().key);
        Ok(Response::new(entry.map_or_else(Default::default, |entry| {
            v1::FindPreparedImageResponse {
                image: Some(self.0.image(&entry)),
                compression_level: entry.compression_level,
            }
        })))
    }
}

impl Images {
    fn find(&self, reference: &str) -> Result<(Entry, ManifestDigest), Status> {
        let entry = self
            .0
            .catalogue
            .find(reference)
            .map_err(|error| PrepareError::not_found(error.to_string(), reference))?;
        // The catalogue holds no entry whose id is none.
        let id = entry.id.parse().map_err(|_| PrepareError::Lost.to_status())?;
        Ok((entry, id))
    }
}

/// Verifies an image; tells the caller now and then how far it is.
fn verify(
    shared: &Arc<Shared>,
    id: ManifestDigest,
    entry: &Entry,
    caller: &mpsc::Sender<Result<v1::VerifyImageResponse, Status>>,
) -> Result<v1::VerifyImageResponse, PrepareError> {
    let total_bytes = entry.pack_bytes;
    let mut told = Instant::now();
    let damaged_chunk_count = heal::verify(shared, id, entry, |checked_bytes, damaged| {
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let progress = v1::VerifyImageResponse {
                image: None,
                checked_bytes,
                total_bytes,
                damaged_chunk_count: damaged,
            };
            // A slow caller hears less often.
            let _ = caller.try_send(Ok(progress));
        }
        !caller.is_closed() && !shared.stopping().is_cancelled()
    })
    .map_err(|source| PrepareError::storage("read", shared.layout.pack(id), source))?;
    Ok(v1::VerifyImageResponse {
        image: Some(shared.image(entry)),
        checked_bytes: total_bytes,
        total_bytes,
        damaged_chunk_count,
    })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work).await.map_err(|_| PrepareError::Lost.to_status())
}

fn not_evicted(error: NotEvicted, pack: &Path) -> Status {
    let reason = match error {
        NotEvicted::Storage(source) => {
            return PrepareError::storage("remove", pack, source).to_status();
        }
        NotEvicted::Pinned { .. } => "IMAGE_PINNED",
        NotEvicted::InUse { .. } => "IMAGE_IN_USE",
    };
    let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, []);
    Status::with_error_details(Code::FailedPrecondition, error.to_string(), details)
}

/// Progress now and then, and at the end the image or the error.
fn follow(
    job: Job,
    shared: Arc<Shared>,
) -> impl Stream<Item = Result<v1::PrepareImageResponse, Status>> {
    futures::stream::unfold((Some(job), true), move |(job, is_first)| {
        let shared = Arc::clone(&shared);
        async move {
            let mut job = job?;
            let interval = if is_first { Duration::ZERO } else { PROGRESS_INTERVAL };
            let ended = tokio::time::timeout(interval, job.wait_for(|s| s.outcome.is_some()))
                .await
                .map(|ended| ended.map(|state| state.outcome.clone()));
            let outcome = match ended {
                Ok(Ok(outcome)) => outcome,
                // The job was dropped without an outcome.
                Ok(Err(_)) => None,
                Err(_) => {
                    let progress = progress(&job.borrow());
                    return Some((Ok(response(Update::Progress(progress))), (Some(job), false)));
                }
            };
            let last = match outcome.as_deref() {
                Some(Ok(entry)) => Ok(response(Update::Image(shared.image(entry)))),
                Some(Err(error)) => Err(error.to_status()),
                None => Err(PrepareError::Lost.to_status()),
            };
            Some((last, (None, false)))
        }
    })
}

fn response(update: Update) -> v1::PrepareImageResponse {
    v1::PrepareImageResponse { update: Some(update) }
}

fn progress(state: &JobState) -> v1::PrepareProgress {
    let milliseconds = state.phase_since.elapsed().as_millis().max(1);
    let rate = u128::from(state.done_bytes) * 1000 / milliseconds;
    v1::PrepareProgress {
        phase: state.phase.name().to_owned(),
        done_bytes: state.done_bytes,
        total_bytes: state.total_bytes,
        bytes_per_second: u64::try_from(rate).unwrap_or(u64::MAX),
    }
}
