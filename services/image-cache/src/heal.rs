//! Makes damaged frames of a pack again, from the image's source.
//!
//! Disks lose bits. A frame that does not match the manifest is never sent; instead the source is
//! fetched and verified, the damaged chunks are encoded again, and what comes out must be exactly
//! what the manifest says. An image that cannot be healed is dropped, so that the next preparation
//! makes it anew, and who still asks for it is told why.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bessemer_image::digest::Digest;
use bessemer_image::pack::ManifestDigest;
use url::Url;

use crate::cache::Shared;
use crate::catalogue::{Entry, Key};
use crate::decode::{Answer, Work, frame_is_whole};
use crate::durable;
use crate::error::PrepareError;
use crate::fetch::{open_local, whole};
use crate::prepare::{Preparation, Progress, download_whole};
use crate::request::{Request, Source};

/// Images whose healing failed and that are remembered, so that agents learn the reason. They are
/// dropped from the catalogue; a few dozen cover every deployment in progress.
const FAILURES_KEPT: usize = 64;

/// Why an image was given up.
#[derive(Clone, Debug)]
pub(crate) struct GivenUp {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Healings in progress and those that failed.
#[derive(Debug, Default)]
pub(crate) struct Healer(Mutex<HashMap<ManifestDigest, Option<GivenUp>>>);

impl Healer {
    fn lock(&self) -> MutexGuard<'_, HashMap<ManifestDigest, Option<GivenUp>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why an image was given up, if it was.
    pub(crate) fn given_up(&self, id: ManifestDigest) -> Option<GivenUp> {
        self.lock().get(&id).cloned().flatten()
    }

    /// Marks a healing as begun. Answers false when one is in progress.
    fn begin(&self, id: ManifestDigest) -> bool {
        let mut states = self.lock();
        if matches!(states.get(&id), Some(None)) {
            return false;
        }
        states.insert(id, None);
        true
    }

    fn end(&self, id: ManifestDigest, given_up: Option<GivenUp>) {
        let mut states = self.lock();
        states.remove(&id);
        if given_up.is_some() {
            if states.len() >= FAILURES_KEPT {
                states.retain(|_, state| state.is_none());
            }
            states.insert(id, given_up);
        }
    }
}

/// Why a healing failed.
#[derive(Debug, thiserror::Error)]
enum HealError {
    #[error("the source cannot be had again: {0}")]
    Source(#[from] PrepareError),
    #[error("the pack cannot be repaired: {0}")]
    Pack(#[from] io::Error),
    #[error("chunk {index} of the source, encoded again, is not what it was: the source changed")]
    Different { index: u64 },
}

impl HealError {
    fn reason(&self) -> &'static str {
        match self {
            Self::Source(error) => error.reason(),
            Self::Pack(_) => "STORAGE_FAILED",
            Self::Different { .. } => "IMAGE_SOURCE_CHANGED",
        }
    }
}

/// Starts healing an image, unless that is in progress.
pub(crate) fn start(shared: &Arc<Shared>, id: ManifestDigest, entry: Entry) {
    if !shared.healer.begin(id) {
        return;
    }
    tracing::warn!(image.id = %id, "image is damaged, healing it");
    let this = Arc::clone(shared);
    shared.spawn_task(async move {
        let healing = Arc::clone(&this);
        // In a task of its own, so that a panic does not leave the healing in progress for ever.
        let healed = match tokio::spawn(async move { heal(&healing, id, &entry).await }).await {
            Ok(healed) => healed,
            Err(_) => Err(HealError::Source(PrepareError::Lost)),
        };
        let given_up = match healed {
            Ok(frames) => {
                tracing::info!(image.id = %id, frames, "image healed");
                None
            }
            Err(error) => {
                tracing::error!(image.id = %id, %error, "image cannot be healed, dropped");
                let dropping = Arc::clone(&this);
                let dropped =
                    tokio::task::spawn_blocking(move || dropping.catalogue.drop_image(id));
                if let Ok(Err(error)) = dropped.await {
                    tracing::error!(image.id = %id, %error, "cannot drop image");
                }
                Some(GivenUp { reason: error.reason(), message: error.to_string() })
            }
        };
        this.healer.end(id, given_up);
    });
}

/// Reads all frames of an image and answers how many are damaged. If any are, healing begins.
/// `progress` hears after each frame how many bytes were checked and how many frames are damaged,
/// and answers whether to go on.
pub(crate) fn verify(
    shared: &Arc<Shared>,
    id: ManifestDigest,
    entry: &Entry,
    mut progress: impl FnMut(u64, u64) -> bool,
) -> io::Result<u64> {
    let manifest = shared.manifests.get(id, &shared.layout.manifest(id))?;
    let pack = File::open(shared.layout.pack(id))?;
    let mut damaged = 0;
    for chunk in manifest.chunks() {
        damaged += u64::from(!frame_is_whole(&manifest, &pack, &chunk));
        if !progress(chunk.frame_offset_bytes + chunk.frame_bytes as u64, damaged) {
            break;
        }
    }
    if damaged > 0 {
        start(shared, id, entry.clone());
    }
    Ok(damaged)
}

/// Heals an image; answers how many frames were made again.
async fn heal(shared: &Arc<Shared>, id: ManifestDigest, entry: &Entry) -> Result<usize, HealError> {
    let request = Request::try_new(entry.spec.clone(), entry.name.clone(), true)?;
    let expected = entry.source_digest.as_deref().and_then(|digest| Digest::parse(digest).ok());
    let key = Key::of(&["heal", &entry.id]);
    let staged = shared.layout.staged(&key, "source");
    let preparation = Arc::new(Preparation {
        shared: Arc::clone(shared),
        request,
        key,
        expected,
        progress: Progress::new(),
        cancelled: shared.stopping(),
    });
    let source = match &preparation.request.source {
        Source::File(path) => {
            let path = path.clone();
            preparation
                .blocking(move |this| open_local(&this.shared.config.file_roots, &path))
                .await?
        }
        Source::Http(url) => download_source(&preparation, url, &staged).await?,
        Source::Oci(reference) => {
            download_source(&preparation, &preparation.blob_url(reference), &staged).await?
        }
    };
    let work = Work::Repair {
        pack: shared.layout.pack(id),
        manifest: shared.layout.manifest(id),
        format: entry.source_format.parse().map_err(io::Error::other)?,
    };
    let growth = whole(&source)?;
    match preparation.run_decoder(work, entry.compression_level, source, growth).await? {
        Answer::Repaired { frames } => Ok(frames),
        Answer::Different { index } => Err(HealError::Different { index }),
        Answer::Converted { .. } => Err(PrepareError::Lost.into()),
    }
}

async fn download_source(
    preparation: &Arc<Preparation>,
    url: &Url,
    staged: &Path,
) -> Result<File, HealError> {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(staged)?;
    // The name is needed no longer; the space is free as soon as the file is closed.
    durable::remove(staged)?;
    let source = file.try_clone()?;
    download_whole(preparation, url, file).await?;
    Ok(source)
}
