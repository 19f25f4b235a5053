//! The image caches, as the conductor asks them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bessemer_proto::v1::image_service_client::ImageServiceClient;
use bessemer_proto::v1::prepare_image_response::Update;
use bessemer_proto::v1::{Image, ImageSpec, PrepareImageRequest, PrepareProgress};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::cluster::noticing_silence;

/// How long a cache has to answer a ping. All its cores may be busy with an image, and another cache would begin with
/// it anew.
const PING_ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The caches of this site. One is asked until it fails, then the next.
#[derive(Debug)]
pub(crate) struct ImageCaches {
    channels: Vec<(String, Channel)>,
    current: AtomicUsize,
}

/// Why an image was not prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    /// The cache understood and refuses: asking again gives the same answer.
    #[error("{message}")]
    Refused {
        /// The cache's own reason, such as `IMAGE_CHECKSUM_MISMATCH`.
        reason: String,
        /// In its words.
        message: String,
    },
    /// The cache cannot be reached, or has trouble of its own.
    #[error("image cache {url} does not answer: {message}")]
    Unreachable {
        /// Which one.
        url: String,
        /// What it, or the network, said.
        message: String,
    },
}

impl ImageCaches {
    /// Connects lazily to each.
    ///
    /// # Errors
    /// When an address is none.
    pub(crate) fn new(urls: &[String]) -> Result<Self, tonic::transport::Error> {
        let channels = urls
            .iter()
            .map(|url| {
                let endpoint = Endpoint::from_shared(url.clone())?;
                let endpoint = noticing_silence(endpoint, PING_ANSWER_LIMIT);
                Ok((url.clone(), endpoint.connect_lazy()))
            })
            .collect::<Result<_, tonic::transport::Error>>()?;
        Ok(Self { channels, current: AtomicUsize::new(0) })
    }

    /// Has an image prepared, or finds it prepared.
    pub(crate) async fn prepare(
        &self,
        image: &ImageSpec,
        on_progress: impl Fn(PrepareProgress),
    ) -> Result<Image, PrepareError> {
        let place = self.current.load(Ordering::Relaxed) % self.channels.len().max(1);
        let Some((url, channel)) = self.channels.get(place) else {
            return Err(PrepareError::Refused {
                reason: "NO_IMAGE_CACHE".to_owned(),
                message: "the conductor's configuration names no image cache; set image_caches"
                    .to_owned(),
            });
        };
        let outcome = ask(channel.clone(), image, on_progress).await;
        outcome.map_err(|status| {
            if is_refusal(status.code()) {
                let reason = status
                    .get_details_error_info()
                    .map_or_else(|| "IMAGE_REFUSED".to_owned(), |info| info.reason);
                return PrepareError::Refused { reason, message: status.message().to_owned() };
            }
            self.current.store(place + 1, Ordering::Relaxed);
            PrepareError::Unreachable { url: url.clone(), message: status.message().to_owned() }
        })
    }
}

async fn ask(
    channel: Channel,
    image: &ImageSpec,
    on_progress: impl Fn(PrepareProgress),
) -> Result<Image, Status> {
    let request = PrepareImageRequest { image: Some(image.clone()), name: String::new() };
    let mut updates = ImageServiceClient::new(channel).prepare_image(request).await?.into_inner();
    while let Some(message) = updates.message().await? {
        match message.update {
            Some(Update::Progress(progress)) => on_progress(progress),
            Some(Update::Image(image)) => return Ok(image),
            None => {}
        }
    }
    Err(Status::unavailable("it ended its answer without an image"))
}

/// Whether the cache judged the request, rather than failed at it.
const fn is_refusal(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => false,
    }
}
