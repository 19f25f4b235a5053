//! Images: calls are passed on to the image caches.

use std::future::Future;
use std::time::Duration;

use bessemer_domain::rendezvous::preference;
use bessemer_proto::v1;
use bessemer_proto::v1::image_service_client::ImageServiceClient;
use bessemer_proto::v1::image_service_server::ImageService;
use bessemer_proto::v1::prepare_image_response::Update;
use bessemer_runtime::tls::Transport;
use bessemer_wire::Failure;
use futures::future::join_all;
use futures::{Stream, StreamExt, TryStreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::StartError;
use crate::api::{Answers, Api};

/// A cache that does not accept a connection in this time is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a cache that is silent while it works is asked whether it is there, and how long it has to answer: all its
/// cores may be busy.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Largest message taken from a cache: a list of thousands of images.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a cache may take to list its images for somebody who looks at a page.
const LIST_TIMEOUT: Duration = Duration::from_millis(1500);

/// Connections to the image caches.
#[derive(Clone, Debug)]
pub(crate) struct ImageCaches {
    urls: Vec<String>,
    channels: Vec<Channel>,
}

/// Who follows a preparation.
type Caller = mpsc::Sender<Result<v1::PrepareImageResponse, Status>>;

/// What a cache holds, or why it does not say.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) url: String,
    pub(crate) images: Result<Vec<v1::Image>, String>,
}

impl ImageCaches {
    pub(crate) fn new(urls: &[String], transport: &Transport) -> Result<Self, StartError> {
        let connect = |url: &String| -> Result<Channel, StartError> {
            let endpoint = transport.endpoint(url).map_err(StartError::ImageCache)?;
            let endpoint = endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_ANSWER_LIMIT);
            Ok(transport.channel(&endpoint))
        };
        let channels = urls.iter().map(connect).collect::<Result<_, _>>()?;
        Ok(Self { urls: urls.to_vec(), channels })
    }

    /// What each cache holds, asked all at once.
    pub(crate) async fn held(&self) -> Vec<Held> {
        let asked = self.urls.iter().zip(&self.channels).map(async |(url, channel)| {
            let mut service = service(channel);
            let list = service.list_images(v1::ListImagesRequest {});
            let images = match tokio::time::timeout(LIST_TIMEOUT, list).await {
                Ok(Ok(answer)) => Ok(answer.into_inner().images),
                Ok(Err(status)) => Err(status.message().to_owned()),
                Err(_elapsed) => Err(format!("no answer within {LIST_TIMEOUT:?}")),
            };
            Held { url: url.clone(), images }
        });
        join_all(asked).await
    }

    /// The answer of the first cache that can be reached, of those that are to be asked for an image of `source`.
    async fn ask_first<T, F, Fut>(&self, source: &str, call: F) -> Result<T, Status>
    where
        F: Fn(ImageServiceClient<Channel>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut last = "none is configured".to_owned();
        for place in preference(source, &self.urls) {
            match call(service(&self.channels[place])).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if status.code() == Code::Unavailable => {
                    status.message().clone_into(&mut last);
                }
                Err(status) => return Err(status),
            }
        }
        Err(self.nobody(last))
    }

    /// What each cache answers.
    async fn ask_each<T, F, Fut>(&self, call: F) -> Vec<Result<T, Status>>
    where
        F: Fn(ImageServiceClient<Channel>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let answers = join_all(self.channels.iter().map(|channel| call(service(channel)))).await;
        answers.into_iter().map(|answer| answer.map(Response::into_inner)).collect()
    }

    /// The answers of the caches that can be reached, one at least.
    async fn ask_reachable<T, F, Fut>(&self, call: F) -> Result<Vec<T>, Status>
    where
        F: Fn(ImageServiceClient<Channel>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut last = "none is configured".to_owned();
        let mut answers = Vec::new();
        for answer in self.ask_each(call).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(status) if status.code() == Code::Unavailable => {
                    status.message().clone_into(&mut last);
                }
                Err(status) => return Err(status),
            }
        }
        if answers.is_empty() { Err(self.nobody(last)) } else { Ok(answers) }
    }

    /// The answers of all caches that hold an image, one at least.
    async fn ask_holders<T, F, Fut>(&self, call: F) -> Result<Vec<T>, Status>
    where
        F: Fn(ImageServiceClient<Channel>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut nobody = self.nobody("none is configured".to_owned());
        let mut answers = Vec::new();
        for answer in self.ask_each(call).await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(status) if status.code() == Code::NotFound => nobody = status,
                Err(status) => return Err(status),
            }
        }
        if answers.is_empty() { Err(nobody) } else { Ok(answers) }
    }

    /// Has every cache prepare an image. Progress of whichever tells some, and at the end the image with all places
    /// where it is.
    fn prefetch(
        &self,
        request: v1::PrepareImageRequest,
    ) -> impl Stream<Item = Result<v1::PrepareImageResponse, Status>> + use<> {
        let (sender, answers) = mpsc::channel(1);
        let caches = self.clone();
        tokio::spawn(async move {
            let answer = tokio::select! {
                prepared = caches.prepare_in_every(request, &sender) => prepared,
                () = sender.closed() => return,
            };
            let image =
                answer.map(|image| v1::PrepareImageResponse { update: Some(Update::Image(image)) });
            // Fails when the caller has gone.
            sender.send(image).await.ok();
        });
        ReceiverStream::new(answers)
    }

    async fn prepare_in_every(
        &self,
        request: v1::PrepareImageRequest,
        progress: &Caller,
    ) -> Result<v1::Image, Status> {
        let source = request.image.as_ref().map_or("", |image| &image.source);
        let mut places = preference(source, &self.urls).into_iter();
        let prepare = |place: usize| self.prepare_in(place, request.clone(), progress);
        let Some(first) = places.next() else {
            return Err(self.nobody("none is configured".to_owned()));
        };
        // The first one makes it of the source, so that those that know it copy it.
        let mut image = prepare(first).await?;
        for copy in join_all(places.map(prepare)).await {
            let new = copy?.urls.into_iter().filter(|url| !image.urls.contains(url));
            let new: Vec<_> = new.collect();
            image.urls.extend(new);
        }
        Ok(image)
    }

    /// Has one cache prepare an image.
    async fn prepare_in(
        &self,
        place: usize,
        request: v1::PrepareImageRequest,
        caller: &Caller,
    ) -> Result<v1::Image, Status> {
        let named = |status: Status| {
            let message = format!("image cache {}: {}", self.urls[place], status.message());
            Status::with_details(status.code(), message, status.details().to_vec().into())
        };
        let answers = service(&self.channels[place]).prepare_image(request).await;
        let mut updates = answers.map_err(named)?.into_inner();
        while let Some(response) = updates.message().await.map_err(named)? {
            match response.update {
                Some(Update::Image(image)) => return Ok(image),
                Some(Update::Progress(_)) => {
                    // A slow caller hears less often.
                    caller.try_send(Ok(response)).ok();
                }
                None => {}
            }
        }
        Err(named(Status::unavailable("it ended its answer without an image")))
    }

    fn nobody(&self, last: String) -> Status {
        Failure::NoImageCache { configured: self.channels.len(), last }.into()
    }
}

fn service(channel: &Channel) -> ImageServiceClient<Channel> {
    ImageServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// Each image once, the newest first, with all places where it can be had.
fn merged(lists: Vec<v1::ListImagesResponse>) -> Vec<v1::Image> {
    let mut images: Vec<v1::Image> = Vec::new();
    for image in lists.into_iter().flat_map(|list| list.images) {
        let same = |known: &&mut v1::Image| {
            known.manifest_digest == image.manifest_digest && known.spec == image.spec
        };
        match images.iter_mut().find(same) {
            Some(known) => {
                let new = image.urls.into_iter().filter(|url| !known.urls.contains(url));
                let new: Vec<_> = new.collect();
                known.urls.extend(new);
            }
            None => images.push(image),
        }
    }
    images
        .sort_by_key(|image| std::cmp::Reverse(image.prepared_at.map(|at| (at.seconds, at.nanos))));
    images
}

#[tonic::async_trait]
impl ImageService for Api {
    type PrepareImageStream = Answers<v1::PrepareImageResponse>;
    type VerifyImageStream = Answers<v1::VerifyImageResponse>;

    async fn prepare_image(
        &self,
        request: Request<v1::PrepareImageRequest>,
    ) -> Result<Response<Self::PrepareImageStream>, Status> {
        let request = request.into_inner();
        // Refused here if it can be known, so that no cache is needed to say so.
        let image = request.image.clone().unwrap_or_default();
        bessemer_wire::deployment::image_spec_from_proto(&image)
            .map_err(|invalid| Failure::from(invalid.under("image")))?;
        if request.in_every_cache {
            let progress = self.image_caches.prefetch(request);
            let stopped = self.stopping.clone().cancelled_owned();
            return Ok(Response::new(progress.take_until(stopped).boxed()));
        }
        let progress = self
            .image_caches
            .ask_first(&image.source, |mut cache| {
                let request = request.clone();
                async move { cache.prepare_image(request).await }
            })
            .await?;
        let stopped = self.stopping.clone().cancelled_owned();
        let answers = progress.into_stream().take_until(stopped).boxed();
        Ok(Response::new(answers))
    }

    async fn get_image(
        &self,
        request: Request<v1::GetImageRequest>,
    ) -> Result<Response<v1::Image>, Status> {
        let request = request.into_inner();
        let answers = self
            .image_caches
            .ask_each(|mut cache| {
                let request = request.clone();
                async move { cache.get_image(request).await }
            })
            .await;
        let mut error = None;
        for answer in answers {
            match answer {
                Ok(image) => return Ok(Response::new(image)),
                // That one cache cannot be reached says more than that another one does not have it.
                Err(status) if error.is_none() || status.code() != Code::NotFound => {
                    error = Some(status);
                }
                Err(_) => {}
            }
        }
        Err(error.unwrap_or_else(|| self.image_caches.nobody("none is configured".to_owned())))
    }

    async fn list_images(
        &self,
        _request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let lists = self
            .image_caches
            .ask_reachable(
                |mut cache| async move { cache.list_images(v1::ListImagesRequest {}).await },
            )
            .await?;
        Ok(Response::new(v1::ListImagesResponse { images: merged(lists) }))
    }

    async fn verify_image(
        &self,
        request: Request<v1::VerifyImageRequest>,
    ) -> Result<Response<Self::VerifyImageStream>, Status> {
        let request = request.into_inner();
        let caches = self
            .image_caches
            .ask_holders(|mut cache| {
                let request = request.clone();
                async move { cache.verify_image(request).await }
            })
            .await?;
        let stopped = self.stopping.clone().cancelled_owned();
        let answers = futures::stream::iter(caches).flatten_unordered(None).take_until(stopped);
        Ok(Response::new(answers.boxed()))
    }

    async fn pin_image(
        &self,
        request: Request<v1::PinImageRequest>,
    ) -> Result<Response<v1::Image>, Status> {
        let request = request.into_inner();
        let image = self
            .image_caches
            .ask_holders(|mut cache| {
                let request = request.clone();
                async move { cache.pin_image(request).await }
            })
            .await?;
        Ok(Response::new(image.into_iter().next().unwrap_or_default()))
    }

    async fn evict_image(
        &self,
        request: Request<v1::EvictImageRequest>,
    ) -> Result<Response<v1::EvictImageResponse>, Status> {
        let request = request.into_inner();
        let evicted = self
            .image_caches
            .ask_holders(|mut cache| {
                let request = request.clone();
                async move { cache.evict_image(request).await }
            })
            .await?;
        Ok(Response::new(evicted.into_iter().next().unwrap_or_default()))
    }
}
