//! Manifests in memory: every read of a pack needs one.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bessemer_image::pack::{Manifest, ManifestDigest};

/// Manifests kept. A site deploys a handful of images at a time; a manifest is 48 bytes a MiB of
/// image, 5 MiB for one of 100 GiB.
const MANIFESTS_KEPT: usize = 8;

/// The manifests read last.
#[derive(Debug, Default)]
pub(crate) struct Manifests(Mutex<VecDeque<Arc<Manifest>>>);

impl Manifests {
    /// The manifest of an image, from memory or from its file, verified. A file that holds another
    /// manifest or none is `InvalidData`. Blocks.
    pub(crate) fn get(&self, id: ManifestDigest, path: &Path) -> io::Result<Arc<Manifest>> {
        if let Some(manifest) = self.lock().iter().find(|manifest| manifest.digest() == id) {
            return Ok(Arc::clone(manifest));
        }
        let manifest = Manifest::parse(std::fs::read(path)?, Some(&id))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        let manifest = Arc::new(manifest);
        let mut kept = self.lock();
        if kept.len() == MANIFESTS_KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&manifest));
        Ok(manifest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Manifest>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
