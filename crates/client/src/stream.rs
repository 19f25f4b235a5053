//! Streams that go on at another member where the one before broke off.

use bessemer_proto::v1;
use bessemer_proto::v1::cluster_service_client::ClusterServiceClient;
use bessemer_proto::v1::conductor_service_client::ConductorServiceClient;
use bessemer_proto::v1::event_service_client::EventServiceClient;
use bessemer_proto::v1::image_service_client::ImageServiceClient;
use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::try_unfold;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use crate::retry::Attempts;
use crate::rpc::service;
use crate::{Client, Error};

type Opened<A> = BoxFuture<'static, Result<Response<Streaming<A>>, Status>>;

/// A stream and what it takes to open it again.
struct Resuming<Q, A> {
    client: Client,
    attempts: Attempts,
    /// Asks for what is still to come.
    request: Q,
    open: fn(Channel, Request<Q>) -> Opened<A>,
    /// Moves the request past a message.
    advance: fn(&mut Q, &A),
    /// Whether the server may end it; otherwise its end is a break.
    endless: bool,
    stream: Option<(usize, Streaming<A>)>,
}

impl<Q: Clone, A> Resuming<Q, A> {
    /// The next message; none at the end.
    async fn next(&mut self) -> Result<Option<A>, Error> {
        loop {
            let place = self.client.endpoints.current();
            let (place, mut stream) = match self.stream.take() {
                Some(open) => open,
                None => match self.open_at(place).await {
                    Ok(stream) => (place, stream),
                    Err(status) => {
                        self.attempts.failed(&self.client, place, status).await?;
                        continue;
                    }
                },
            };
            match stream.message().await {
                Ok(Some(message)) => {
                    (self.advance)(&mut self.request, &message);
                    self.attempts.succeeded();
                    self.stream = Some((place, stream));
                    return Ok(Some(message));
                }
                Ok(None) if !self.endless => return Ok(None),
                Ok(None) => {
                    let status = Status::unavailable("the member ended the stream");
                    self.attempts.failed(&self.client, place, status).await?;
                }
                Err(status) => self.attempts.failed(&self.client, place, status).await?,
            }
        }
    }

    async fn open_at(&self, place: usize) -> Result<Streaming<A>, Status> {
        let channel = self.client.endpoints.member(place).channel.clone();
        let request = self.client.request(self.request.clone());
        Ok((self.open)(channel, request).await?.into_inner())
    }
}

fn resuming<Q, A>(resuming: Resuming<Q, A>) -> impl Stream<Item = Result<A, Error>> + Send + Unpin
where
    Q: Clone + Send + Sync + 'static,
    A: Send + 'static,
{
    Box::pin(try_unfold(resuming, |mut resuming| async move {
        Ok(resuming.next().await?.map(|message| (message, resuming)))
    }))
}

impl Client {
    /// Events after a revision, for ever; no event is left out or comes twice, whichever members are lost meanwhile.
    /// Ends with an error only when the request is refused or no member answers within the deadline.
    pub fn watch(
        &self,
        request: v1::WatchRequest,
    ) -> impl Stream<Item = Result<v1::WatchResponse, Error>> + Send + Unpin + 'static {
        resuming(Resuming {
            client: self.clone(),
            attempts: Attempts::new("watch"),
            request,
            open: |channel, request| {
                Box::pin(
                    async move { service!(EventServiceClient on channel).watch(request).await },
                )
            },
            advance: |request, response| request.after_revision = Some(response.revision),
            endless: true,
            stream: None,
        })
    }

    /// The preparation of an image: progress, then the image. Asked again, it joins the preparation in progress.
    pub fn prepare_image(
        &self,
        request: v1::PrepareImageRequest,
    ) -> impl Stream<Item = Result<v1::PrepareImageResponse, Error>> + Send + Unpin + 'static {
        resuming(Resuming {
            client: self.clone(),
            attempts: Attempts::new("prepare_image"),
            request,
            open: |channel, request| {
                Box::pin(async move {
                    service!(ImageServiceClient on channel).prepare_image(request).await
                })
            },
            advance: |_, _| (),
            endless: false,
            stream: None,
        })
    }

    /// The check of an image: progress, and a last message with the image for each cache that holds it. Asked again, it
    /// begins anew.
    pub fn verify_image(
        &self,
        request: v1::VerifyImageRequest,
    ) -> impl Stream<Item = Result<v1::VerifyImageResponse, Error>> + Send + Unpin + 'static {
        resuming(Resuming {
            client: self.clone(),
            attempts: Attempts::new("verify_image"),
            request,
            open: |channel, request| {
                Box::pin(async move {
                    service!(ImageServiceClient on channel).verify_image(request).await
                })
            },
            advance: |_, _| (),
            endless: false,
            stream: None,
        })
    }

    /// The bytes of a backup, from one member. A stream that breaks must be begun anew.
    ///
    /// # Errors
    /// [`Error`] when it was refused, or no member answered in time.
    pub async fn backup(
        &self,
        request: v1::BackupRequest,
    ) -> Result<Streaming<v1::BackupResponse>, Error> {
        self.call("backup", request, |channel, request| async move {
            service!(ClusterServiceClient on channel).backup(request).await
        })
        .await
    }

    /// A copy of the replicated state, or the events after a revision, from one member. A stream that breaks must be
    /// opened again with the revision that was reached.
    ///
    /// # Errors
    /// [`Error`] when it was refused, or no member answered in time.
    pub async fn replicate(
        &self,
        request: v1::ReplicateRequest,
    ) -> Result<Streaming<v1::ReplicateResponse>, Error> {
        self.call("replicate", request, |channel, request| async move {
            service!(ConductorServiceClient on channel).replicate(request).await
        })
        .await
    }
}
