//! The gRPC service.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bessemer_proto::v1;
use bessemer_proto::v1::image_service_server::ImageService;
use bessemer_proto::v1::prepare_image_response::Update;
use futures::Stream;
use tonic::{Request, Response, Status};

use crate::cache::Shared;
use crate::error::PrepareError;
use crate::prepare::{Job, JobState, Joined};
use crate::request;

/// How often callers hear of progress: what a progress bar can show.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Answers gRPC calls.
pub(crate) struct Images(pub(crate) Arc<Shared>);

type PrepareStream = Pin<Box<dyn Stream<Item = Result<v1::PrepareImageResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ImageService for Images {
    type PrepareImageStream = PrepareStream;

    async fn prepare_image(
        &self,
        request: Request<v1::PrepareImageRequest>,
    ) -> Result<Response<PrepareStream>, Status> {
        let v1::PrepareImageRequest { image, name } = request.into_inner();
        let spec = image.unwrap_or_default().into();
        let request = request::Request::try_new(spec, name, self.0.config.allow_md5)
            .map_err(|error| error.to_status())?;
        let joined = self.0.prepare(request).await.map_err(|error| error.to_status())?;
        let base_url = self.0.base_url.clone();
        Ok(Response::new(match joined {
            Joined::Prepared(entry) => {
                let image = response(Update::Image(entry.to_proto(&base_url)));
                Box::pin(tokio_stream::once(Ok(image)))
            }
            Joined::Job(job) => Box::pin(follow(job, base_url)),
        }))
    }

    async fn get_image(
        &self,
        request: Request<v1::GetImageRequest>,
    ) -> Result<Response<v1::Image>, Status> {
        let reference = request.into_inner().image;
        match self.0.catalogue.find(&reference) {
            Ok(entry) => Ok(Response::new(entry.to_proto(&self.0.base_url))),
            Err(error) => Err(PrepareError::not_found(error.to_string(), &reference)),
        }
    }

    async fn list_images(
        &self,
        _: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let entries = self.0.catalogue.list();
        let images = entries.iter().map(|entry| entry.to_proto(&self.0.base_url)).collect();
        Ok(Response::new(v1::ListImagesResponse { images }))
    }
}

/// Progress now and then, and at the end the image or the error.
fn follow(
    job: Job,
    base_url: String,
) -> impl Stream<Item = Result<v1::PrepareImageResponse, Status>> {
    futures::stream::unfold((Some(job), true), move |(job, is_first)| {
        let base_url = base_url.clone();
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
                Some(Ok(entry)) => Ok(response(Update::Image(entry.to_proto(&base_url)))),
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
