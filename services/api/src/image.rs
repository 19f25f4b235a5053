//! Images: calls are passed on to the image caches.

use std::future::Future;
use std::time::Duration;

use bessemer_proto::v1;
use bessemer_proto::v1::image_service_client::ImageServiceClient;
use bessemer_proto::v1::image_service_server::ImageService;
use bessemer_wire::Failure;
use futures::{StreamExt, TryStreamExt};
use tonic::transport::{Channel, Endpoint};
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

/// Connections to the image caches.
#[derive(Debug)]
pub(crate) struct ImageCaches {
    channels: Vec<Channel>,
}

impl ImageCaches {
    pub(crate) fn new(urls: &[String]) -> Result<Self, StartError> {
        let connect = |url: &String| -> Result<Channel, StartError> {
            let endpoint = Endpoint::from_shared(url.clone()).map_err(|source| {
                StartError::ImageCache { url: url.clone(), source: Box::new(source) }
            })?;
            Ok(endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_ANSWER_LIMIT)
                .connect_lazy())
        };
        Ok(Self { channels: urls.iter().map(connect).collect::<Result<_, _>>()? })
    }

    /// The answer of the first cache that can be reached.
    async fn ask<T, F, Fut>(&self, call: F) -> Result<T, Status>
    where
        F: Fn(ImageServiceClient<Channel>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut last = "none is configured".to_owned();
        for channel in &self.channels {
            let service = ImageServiceClient::new(channel.clone())
                .max_decoding_message_size(MESSAGE_BYTES_MAX);
            match call(service).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if status.code() == Code::Unavailable => {
                    status.message().clone_into(&mut last);
                }
                Err(status) => return Err(status),
            }
        }
        Err(Failure::NoImageCache { configured: self.channels.len(), last }.into())
    }

    /// The answers of all caches that hold an image, one at least.
    async fn ask_holders<T, F, Fut>(&self, call: F) -> Result<Vec<T>, Status>
    where
        F: Fn(ImageServiceClient<Channel>) -> Fut,
        Fut: Future<Output = Result<Response<T>, Status>>,
    {
        let mut answers = Vec::new();
        let last = "none is configured".to_owned();
        let mut nobody = Failure::NoImageCache { configured: 0, last }.into();
        for channel in &self.channels {
            match call(ImageServiceClient::new(channel.clone())).await {
                Ok(response) => answers.push(response.into_inner()),
                Err(status) if status.code() == Code::NotFound => nobody = status,
                Err(status) => return Err(status),
            }
        }
        if answers.is_empty() { Err(nobody) } else { Ok(answers) }
    }
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
        let progress = self
            .image_caches
            .ask(|mut cache| {
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
        let image = self
            .image_caches
            .ask(|mut cache| {
                let request = request.clone();
                async move { cache.get_image(request).await }
            })
            .await?;
        Ok(Response::new(image))
    }

    async fn list_images(
        &self,
        _request: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        let images = self
            .image_caches
            .ask(|mut cache| async move { cache.list_images(v1::ListImagesRequest {}).await })
            .await?;
        Ok(Response::new(images))
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
