//! The image caches, as the conductor asks them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bessemer_domain::ids::CommandId;
use bessemer_domain::rendezvous::preference;
use bessemer_image::permit::{Permit, PermitKey};
use bessemer_proto::v1::container_service_client::ContainerServiceClient;
use bessemer_proto::v1::image_service_client::ImageServiceClient;
use bessemer_proto::v1::prepare_image_response::Update;
use bessemer_proto::v1::{
    Image, ImageSpec, PinContainerRequest, PinnedContainer, PrepareImageRequest, PrepareProgress,
};
use bessemer_runtime::tls::{InvalidUrl, Transport};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::cluster::noticing_silence;

/// How long a cache has to answer a ping. All its cores may be busy with an image, and another cache would begin with
/// it anew.
const PING_ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long a signed URL holds at the least: as long as a step that writes an image may take.
const VALID_FOR: Duration = Duration::from_secs(6 * 3600);

/// How long a cache that did not answer is asked last.
const SHUNNED: Duration = Duration::from_secs(15);

/// The caches of this site. Each image has one that is asked first, by all conductors, so that one of them prepares it.
#[derive(Debug)]
pub(crate) struct ImageCaches {
    urls: Vec<String>,
    channels: Vec<Channel>,
    /// When each failed last, as far as it matters.
    failed_at: Mutex<Vec<Option<Instant>>>,
    /// Signs URLs, if they are signed.
    key: Option<PermitKey>,
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
    pub(crate) fn new(
        urls: &[String],
        key: Option<PermitKey>,
        transport: &Transport,
    ) -> Result<Self, InvalidUrl> {
        let channels = urls
            .iter()
            .map(|url| {
                let endpoint = noticing_silence(transport.endpoint(url)?, PING_ANSWER_LIMIT);
                Ok(transport.channel(&endpoint))
            })
            .collect::<Result<_, InvalidUrl>>()?;
        let failed_at = Mutex::new(vec![None; urls.len()]);
        Ok(Self { urls: urls.to_vec(), channels, failed_at, key })
    }

    /// Has an image prepared, or finds it prepared: by the first cache that answers.
    pub(crate) async fn prepare(
        &self,
        image: &ImageSpec,
        on_progress: impl Fn(PrepareProgress),
    ) -> Result<Image, PrepareError> {
        self.first_answer(&image.source, |channel| ask(channel, image, &on_progress)).await
    }

    /// Looks up which container is meant: by the first cache that answers.
    pub(crate) async fn pin_container(
        &self,
        request: &PinContainerRequest,
    ) -> Result<PinnedContainer, PrepareError> {
        self.first_answer(&request.source, |channel| pin(channel, request.clone())).await
    }

    /// What the first cache that answers says of a source.
    async fn first_answer<T, F: Future<Output = Result<T, Status>>>(
        &self,
        source: &str,
        ask: impl Fn(Channel) -> F,
    ) -> Result<T, PrepareError> {
        let mut last = PrepareError::Refused {
            reason: "NO_IMAGE_CACHE".to_owned(),
            message: "the conductor's configuration names no image cache; set image_caches"
                .to_owned(),
        };
        for place in self.in_order(source) {
            let status = match ask(self.channels[place].clone()).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            if is_refusal(status.code()) {
                let reason = status
                    .get_details_error_info()
                    .map_or_else(|| "IMAGE_REFUSED".to_owned(), |info| info.reason);
                return Err(PrepareError::Refused { reason, message: status.message().to_owned() });
            }
            self.lock()[place] = Some(Instant::now());
            let url = self.urls[place].clone();
            tracing::warn!(url, error = status.message(), "image cache does not answer");
            last = PrepareError::Unreachable { url, message: status.message().to_owned() };
        }
        Err(last)
    }

    /// Where an image can be read for a deployment: signed, if caches want that.
    pub(crate) fn urls_for(&self, deployment: CommandId, image: &Image) -> Vec<String> {
        let Some(key) = &self.key else { return image.urls.clone() };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let permit = Permit {
            deployment: deployment.as_uuid(),
            expires_unix_seconds: expiry(now).as_secs(),
        };
        let sign = |url: &String| permit.sign_url(url, key).unwrap_or_else(|| url.clone());
        image.urls.iter().map(sign).collect()
    }

    /// The caches as they are to be asked for an image; those that did not answer a moment ago last.
    fn in_order(&self, source: &str) -> Vec<usize> {
        let failed_at = self.lock();
        let is_shunned = |place: &usize| failed_at[*place].is_some_and(|at| at.elapsed() < SHUNNED);
        let mut places = preference(source, &self.urls);
        places.sort_by_key(is_shunned);
        places
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a URL that is signed now expires: once or twice [`VALID_FOR`] from now, at a time that stays the same, so that an
/// image's URL is known again when it is asked for another time.
fn expiry(now: Duration) -> Duration {
    VALID_FOR * u32::try_from(now.as_secs() / VALID_FOR.as_secs() + 2).unwrap_or(u32::MAX)
}

async fn pin(channel: Channel, request: PinContainerRequest) -> Result<PinnedContainer, Status> {
    ContainerServiceClient::new(channel)
        .pin_container(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn ask(
    channel: Channel,
    image: &ImageSpec,
    on_progress: &impl Fn(PrepareProgress),
) -> Result<Image, Status> {
    let request =
        PrepareImageRequest { image: Some(image.clone()), ..PrepareImageRequest::default() };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_outlives_the_step_that_it_is_for_and_stays_the_same_meanwhile() {
        let first = Duration::from_secs(1_800_000_000);
        for seconds in [0, 1, VALID_FOR.as_secs() - 1, VALID_FOR.as_secs(), 1_000_000] {
            let now = first + Duration::from_secs(seconds);
            let left = expiry(now) - now;
            assert!(left >= VALID_FOR && left <= 2 * VALID_FOR, "{left:?}");
        }
        let window = VALID_FOR * 1000;
        assert_eq!(expiry(window), expiry(window + VALID_FOR - Duration::from_secs(1)));
    }
}
