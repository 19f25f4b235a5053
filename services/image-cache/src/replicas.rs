//! The site's other image caches: which of them has an image, and that enough of them have what this one prepared.
//!
//! Only peers of the configuration are asked: what they say an image is, is believed. Its bytes are not, they are
//! checked against its manifest like those of any source.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bessemer_proto::v1;
use bessemer_proto::v1::image_replica_service_client::ImageReplicaServiceClient;
use bessemer_proto::v1::image_service_client::ImageServiceClient;
use bessemer_proto::v1::prepare_image_response::Update;
use bessemer_runtime::tls::Transport;
use futures::future::join_all;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;

use crate::catalogue::{Entry, Key};
use crate::fetch::{HttpConfig, Origins};

/// How long a peer has to accept a connection, and to answer whether it has an image: it looks into its memory.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How often a peer that copies an image is asked whether it lives, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_LIMIT: Duration = Duration::from_secs(10);

/// How long a peer is believed to have an image. Asked again, it keeps the image as one that is in use.
const HOLDERS_BELIEVED: Duration = Duration::from_secs(300);

/// The peers, and which of them have what.
pub(crate) struct Replicas {
    peers: Vec<Peer>,
    copies: usize,
    /// Peers are reached without the proxy for sources, and told no passwords.
    pub(crate) origins: Arc<Origins>,
    holders: Mutex<BTreeMap<String, Holders>>,
}

struct Peer {
    url: String,
    channel: Channel,
}

/// Who else has an image.
struct Holders {
    urls: Vec<String>,
    /// When they were asked last; nobody asks them meanwhile.
    asked_at: Instant,
}

/// An image that a peer has.
pub(crate) struct Found {
    pub(crate) peer: String,
    pub(crate) image: v1::Image,
    pub(crate) compression_level: i32,
}

impl Replicas {
    /// Connects to each peer when it is first needed. At most `copies` caches are to have an image.
    pub(crate) fn new(peers: &[String], copies: usize, transport: &Transport) -> io::Result<Self> {
        let peers = peers
            .iter()
            .map(|url| {
                let endpoint = transport.endpoint(url).map_err(io::Error::other)?;
                let endpoint = endpoint
                    .connect_timeout(CONNECT_LIMIT)
                    .tcp_nodelay(true)
                    .http2_keep_alive_interval(PING_EVERY)
                    .keep_alive_timeout(PING_LIMIT);
                Ok(Peer { url: url.clone(), channel: transport.channel(&endpoint) })
            })
            .collect::<io::Result<_>>()?;
        let origins =
            Arc::new(Origins::new(&HttpConfig::default(), None, transport.http_client())?);
        Ok(Self { peers, copies, origins, holders: Mutex::default() })
    }

    /// A peer that has the image of `key`.
    pub(crate) async fn find(&self, key: &Key) -> Option<Found> {
        let answers = join_all(self.peers.iter().map(async |peer| {
            let answer = timeout(ANSWER_LIMIT, peer.find(key)).await;
            answer.unwrap_or_else(|_| Err(Status::unavailable("no answer"))).unwrap_or_else(
                |status| {
                    let (peer, error) = (&peer.url, status.message());
                    tracing::warn!(peer, error, "peer not asked for an image");
                    None
                },
            )
        }));
        answers.await.into_iter().flatten().next()
    }

    /// Where else the image with `id` can be had.
    pub(crate) fn holders_of(&self, id: &str) -> Vec<String> {
        self.lock().get(id).map(|holders| holders.urls.clone()).unwrap_or_default()
    }

    /// Notes that the peers at `urls` have the image with `id`.
    pub(crate) fn note_holders(&self, id: &str, urls: Vec<String>) {
        let holders = Holders { urls, asked_at: Instant::now() };
        self.lock().insert(id.to_owned(), holders);
    }

    /// Whether peers are to be asked to copy an image: they have not been for a while.
    pub(crate) fn wants_copies(&self, id: &str) -> bool {
        if self.copies < 2 || self.peers.is_empty() {
            return false;
        }
        let mut all = self.lock();
        all.retain(|_, holders| holders.asked_at.elapsed() < HOLDERS_BELIEVED);
        if all.contains_key(id) {
            return false;
        }
        all.insert(id.to_owned(), Holders { urls: Vec::new(), asked_at: Instant::now() });
        true
    }

    /// Has as many peers as wanted copy an image that this cache has.
    pub(crate) async fn spread(&self, entry: &Entry) {
        let mut urls = Vec::new();
        for peer in self.in_order(&entry.id) {
            if urls.len() + 1 >= self.copies {
                break;
            }
            match peer.copy(entry).await {
                Ok(url) => {
                    tracing::info!(image.id = entry.id, peer = peer.url, "peer has the image too");
                    urls.push(url);
                    self.note_holders(&entry.id, urls.clone());
                }
                Err(status) => {
                    let (peer, error) = (&peer.url, status.message());
                    tracing::warn!(image.id = entry.id, peer, error, "peer did not copy the image");
                }
            }
        }
        if urls.is_empty() {
            // The next one who asks for the image tries again.
            self.lock().remove(&entry.id);
        }
    }

    /// The peers, beginning at another one for each image.
    fn in_order(&self, id: &str) -> impl Iterator<Item = &Peer> {
        let start = id.bytes().map(usize::from).sum::<usize>() % self.peers.len().max(1);
        self.peers.iter().cycle().skip(start).take(self.peers.len())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Holders>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    async fn find(&self, key: &Key) -> Result<Option<Found>, Status> {
        let request = v1::FindPreparedImageRequest { key: key.to_string() };
        let mut client = ImageReplicaServiceClient::new(self.channel.clone());
        let v1::FindPreparedImageResponse { image, compression_level } =
            client.find_prepared_image(request).await?.into_inner();
        Ok(image.map(|image| Found { peer: self.url.clone(), image, compression_level }))
    }

    /// Has it prepare the image, which it will find here. Answers where it serves it.
    async fn copy(&self, entry: &Entry) -> Result<String, Status> {
        let request = v1::PrepareImageRequest {
            image: Some(entry.spec.clone().into()),
            name: entry.name.clone(),
            in_every_cache: false,
        };
        let mut client = ImageServiceClient::new(self.channel.clone());
        let mut updates = client.prepare_image(request).await?.into_inner();
        while let Some(message) = updates.message().await? {
            let Some(Update::Image(image)) = message.update else { continue };
            if image.manifest_digest != entry.id {
                let other = image.manifest_digest;
                return Err(Status::aborted(format!("it has made {other} of the same source")));
            }
            return image
                .urls
                .into_iter()
                .next()
                .ok_or_else(|| Status::aborted("it serves it nowhere"));
        }
        Err(Status::aborted("it ended its answer without an image"))
    }
}
