//! Where things are in the data directory.
//!
//! ```text
//! images/ID.pack, images/ID.manifest   prepared images, immutable but for healing
//! catalogue/KEY.json                   what was asked for and which image it became
//! downloads/KEY.part, KEY.etag         an unfinished download, kept for resumption
//! staging/                             work in progress, emptied at start
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bessemer_image::pack::ManifestDigest;

use crate::catalogue::Key;
use crate::durable;

/// How long an unfinished download is kept for somebody to ask for it again.
const KEEP_DOWNLOAD: Duration = Duration::from_secs(24 * 3600);

/// The paths below a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the directories and clears what an earlier process left unfinished.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let layout = Self { root: root.to_owned() };
        if layout.staging_dir().exists() {
            fs::remove_dir_all(layout.staging_dir())?;
        }
        for name in ["images", "catalogue", "downloads", "staging"] {
            fs::create_dir_all(root.join(name))?;
        }
        layout.drop_stale_downloads()?;
        Ok(layout)
    }

    /// Removes unfinished downloads that cannot be resumed or that nobody came back for.
    fn drop_stale_downloads(&self) -> io::Result<()> {
        for file in fs::read_dir(self.downloads_dir())? {
            let part = file?.path();
            let has_etag = part.with_extension("etag").exists();
            let modified = fs::metadata(&part)?.modified()?;
            let age = modified.elapsed().unwrap_or_default();
            if !has_etag || age > KEEP_DOWNLOAD {
                durable::remove(&part)?;
            }
        }
        Ok(())
    }

    pub(crate) fn images_dir(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn catalogue_dir(&self) -> PathBuf {
        self.root.join("catalogue")
    }

    pub(crate) fn downloads_dir(&self) -> PathBuf {
        self.root.join("downloads")
    }

    fn staging_dir(&self) -> PathBuf {
        self.root.join("staging")
    }

    pub(crate) fn pack(&self, id: ManifestDigest) -> PathBuf {
        self.images_dir().join(format!("{id}.pack"))
    }

    pub(crate) fn manifest(&self, id: ManifestDigest) -> PathBuf {
        self.images_dir().join(format!("{id}.manifest"))
    }

    pub(crate) fn entry(&self, key: &Key) -> PathBuf {
        self.catalogue_dir().join(format!("{key}.json"))
    }

    pub(crate) fn part(&self, key: &Key) -> PathBuf {
        self.downloads_dir().join(format!("{key}.part"))
    }

    pub(crate) fn etag(&self, key: &Key) -> PathBuf {
        self.downloads_dir().join(format!("{key}.etag"))
    }

    /// A file of one preparation (or healing) in progress; at most one runs for a key.
    pub(crate) fn staged(&self, key: &Key, what: &str) -> PathBuf {
        self.staging_dir().join(format!("{key}.{what}"))
    }
}
