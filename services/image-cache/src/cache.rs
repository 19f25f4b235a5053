//! The cache itself: finds prepared images and starts preparations.

use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bessemer_image::checksum_file::{self, MAX_CHECKSUM_FILE_BYTES};
use bessemer_image::digest::Digest;
use bessemer_image::permit::PermitKey;
use bessemer_proto::v1;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalogue::{Catalogue, Entry, Key};
use crate::config::Config;
use crate::error::PrepareError;
use crate::fetch::{Origins, S3_SCHEME, check_root, fetch_small, open_local};
use crate::heal::Healer;
use crate::layout::Layout;
use crate::manifests::Manifests;
use crate::metrics::{Lookup, Metrics};
use crate::prepare::{Begun, Jobs, Joined, Preparation, Progress};
use crate::registry;
use crate::replicas::Replicas;
use crate::request::{Checksum, Request, Source};
use crate::serve::Shares;

/// Preparations at once. Each uses all cores; the second one fills the gaps in which the first
/// waits for its source. More would only make all of them later.
const MAX_PREPARATIONS: usize = 2;

/// What all parts of the cache work on.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) base_url: String,
    pub(crate) layout: Layout,
    pub(crate) catalogue: Catalogue,
    pub(crate) manifests: Manifests,
    pub(crate) healer: Healer,
    pub(crate) origins: Arc<Origins>,
    pub(crate) replicas: Replicas,
    pub(crate) shares: Shares,
    /// What permits to read may be signed with; without any, everybody may read.
    pub(crate) permit_keys: Vec<PermitKey>,
    pub(crate) metrics: Metrics,
    jobs: Jobs,
    slots: Semaphore,
    tasks: TaskTracker,
    cancelled: CancellationToken,
}

impl Shared {
    pub(crate) fn open(
        config: Config,
        base_url: String,
        origins: Origins,
        replicas: Replicas,
        permit_keys: Vec<PermitKey>,
        cancelled: CancellationToken,
    ) -> std::io::Result<Arc<Self>> {
        let layout = Layout::open(&config.data_dir)?;
        let catalogue = Catalogue::open(layout.clone())?;
        // The limit may be lower than it was, and an earlier process have ended before it made room.
        let keep_used = Duration::from_secs(config.keep_used_seconds);
        catalogue.shrink(config.cache_limit_bytes, keep_used)?;
        let shares =
            Shares::new(config.send_limit_bytes_per_second, config.client_limit_bytes_per_second);
        Ok(Arc::new(Self {
            catalogue,
            manifests: Manifests::default(),
            healer: Healer::default(),
            metrics: Metrics::default(),
            jobs: Jobs::default(),
            slots: Semaphore::new(MAX_PREPARATIONS),
            tasks: TaskTracker::new(),
            config,
            base_url,
            layout,
            origins: Arc::new(origins),
            replicas,
            shares,
            permit_keys,
            cancelled,
        }))
    }

    /// Finds a prepared image, joins a preparation in progress, or starts one.
    pub(crate) async fn prepare(
        self: &Arc<Self>,
        request: Request,
    ) -> Result<Joined, PrepareError> {
        let (key, expected) = self.resolve(&request).await?;
        let this = Arc::clone(self);
        // Looking up an entry may write it (name, time of use).
        let join = move || {
            let mut lookup = Lookup::Joined;
            let joined = this.jobs.join_or(&key, || {
                let found = this.catalogue.use_key(&key, &request.name).map_err(|source| {
                    PrepareError::storage("write", this.layout.entry(&key), source)
                })?;
                if let Some(entry) = found {
                    this.spread(&entry);
                    lookup = Lookup::Hit;
                    return Ok(Begun::Prepared(Box::new(entry)));
                }
                lookup = Lookup::Miss;
                let progress = Progress::new();
                this.spawn(Preparation {
                    shared: Arc::clone(&this),
                    request: request.clone(),
                    key: key.clone(),
                    expected,
                    progress: progress.clone(),
                    cancelled: this.cancelled.clone(),
                });
                Ok(Begun::Job(progress))
            });
            this.metrics.looked_up(lookup);
            joined
        };
        tokio::task::spawn_blocking(join).await.map_err(|_| PrepareError::Lost)?
    }

    fn spawn(self: &Arc<Self>, preparation: Preparation) {
        let this = Arc::clone(self);
        let key = preparation.key.clone();
        self.tasks.spawn(async move {
            let begun = Instant::now();
            // In a task of its own, so that a panic is an outcome too.
            let run = this.tasks.spawn(Arc::clone(&this).run(preparation));
            let outcome = run.await.unwrap_or(Err(PrepareError::Lost));
            match &outcome {
                Ok(entry) => this.spread(entry),
                Err(error) => {
                    tracing::warn!(%error, reason = error.reason(), "image not prepared");
                }
            }
            this.metrics.prepared(&outcome, begun);
            this.jobs.finish(&key, outcome);
        });
    }

    async fn run(self: Arc<Self>, preparation: Preparation) -> Result<Entry, PrepareError> {
        let waiting = self.metrics.waiting();
        let Ok(_slot) = self.slots.acquire().await else { return Err(PrepareError::Lost) };
        drop(waiting);
        let _running = self.metrics.running();
        self.shrink().await;
        let entry = tokio::select! {
            entry = preparation.run() => entry,
            () = self.cancelled.cancelled() => Err(PrepareError::Lost),
        }?;
        self.shrink().await;
        Ok(entry)
    }

    /// Has peers copy an image, unless they have it.
    fn spread(self: &Arc<Self>, entry: &Entry) {
        // Without a digest a local file means something else on another machine.
        let is_elsewhere_too = entry.source_digest.is_some();
        if is_elsewhere_too && self.replicas.wants_copies(&entry.id) {
            let (this, entry) = (Arc::clone(self), entry.clone());
            self.tasks.spawn(async move {
                tokio::select! {
                    () = this.replicas.spread(&entry) => {}
                    () = this.cancelled.cancelled() => {}
                }
            });
        }
    }

    /// What clients are told of an image: where it can be had, here first.
    pub(crate) fn image(&self, entry: &Entry) -> v1::Image {
        let mut image = entry.to_proto(&self.base_url);
        image.urls.extend(self.replicas.holders_of(&entry.id));
        image
    }

    /// Makes room, as far as the limit asks for and images in use allow.
    async fn shrink(self: &Arc<Self>) {
        let this = Arc::clone(self);
        let shrunk = tokio::task::spawn_blocking(move || {
            let keep_used = Duration::from_secs(this.config.keep_used_seconds);
            this.catalogue.shrink(this.config.cache_limit_bytes, keep_used)
        });
        if let Ok(Err(error)) = shrunk.await {
            tracing::warn!(%error, "cannot drop old images");
        }
    }

    /// Ends all preparations and waits for them.
    pub(crate) async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn spawn_task(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    pub(crate) fn stopping(&self) -> CancellationToken {
        self.cancelled.clone()
    }

    /// What makes the request the same as another, and the digest that its source must have.
    async fn resolve(
        self: &Arc<Self>,
        request: &Request,
    ) -> Result<(Key, Option<Digest>), PrepareError> {
        if let Source::File(path) = &request.source {
            check_root(&self.config.file_roots, path)?;
        }
        if let Source::Http(url) = &request.source
            && url.scheme() == S3_SCHEME
            && !self.origins.has_s3()
        {
            return Err(PrepareError::InvalidField {
                field: "image.source",
                value: request.spec.source.clone(),
                message: "the image cache has no [s3] in its configuration".to_owned(),
            });
        }
        let expected = match &request.checksum {
            Checksum::Unknown => None,
            Checksum::Digest(digest) => Some(*digest),
            Checksum::Listed(url) => Some(self.listed(request, url).await?),
        };
        let expected = match &request.source {
            Source::Oci(reference) => {
                let found = registry::resolve(&self.origins, reference).await?;
                same_digest(request, expected, found)?
            }
            Source::File(_) | Source::Http(_) => expected,
        };
        let content = match (&expected, &request.source) {
            (Some(digest), _) => format!("{}:{digest}", digest.algorithm()),
            (None, Source::File(path)) => {
                let (this, path) = (Arc::clone(self), path.clone());
                tokio::task::spawn_blocking(move || file_version(&this.config, &path))
                    .await
                    .map_err(|_| PrepareError::Lost)??
            }
            (None, Source::Http(_) | Source::Oci(_)) => {
                let source_url = request.spec.source.clone();
                return Err(PrepareError::ChecksumMissing { source_url });
            }
        };
        let declared = request.declared.map_or("", bessemer_image::format::DiskFormat::name);
        Ok((Key::of(&[&request.spec.source, &content, declared]), expected))
    }

    /// The source's digest in a checksum file.
    async fn listed(&self, request: &Request, url: &url::Url) -> Result<Digest, PrepareError> {
        let file = fetch_small(&self.origins, url, MAX_CHECKSUM_FILE_BYTES as u64, None).await?;
        let invalid = |message| PrepareError::ChecksumInvalid {
            field: "image.checksum",
            value: url.to_string(),
            message,
        };
        let digest = checksum_file::find(&file, &request.file_name())
            .map_err(|error| invalid(error.to_string()))?;
        if digest.algorithm() == bessemer_image::digest::Algorithm::Md5 && !self.config.allow_md5 {
            return Err(invalid("it lists only an md5, which is not accepted here".to_owned()));
        }
        Ok(digest)
    }
}

/// The digest that a registry has for an image, if it is the one that was asked for.
fn same_digest(
    request: &Request,
    asked: Option<Digest>,
    found: Digest,
) -> Result<Option<Digest>, PrepareError> {
    match asked {
        Some(expected) if expected != found => Err(PrepareError::ChecksumMismatch {
            source_url: request.spec.source.clone(),
            expected: Box::new(expected),
            found: Box::new(found),
        }),
        Some(_) | None => Ok(Some(found)),
    }
}

/// What changes when a file's content does.
fn file_version(config: &Config, path: &std::path::Path) -> Result<String, PrepareError> {
    let metadata = open_local(&config.file_roots, path)?.metadata().map_err(|error| {
        PrepareError::SourceUnreachable {
            source_url: format!("file://{}", path.display()),
            message: error.to_string(),
        }
    })?;
    let (inode, bytes) = (metadata.ino(), metadata.len());
    Ok(format!("{inode}/{bytes}/{}.{:09}", metadata.mtime(), metadata.mtime_nsec()))
}
