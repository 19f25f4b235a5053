//! Which images are prepared: one small file each, all in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bessemer_image::pack::{CHUNK_BYTES, ManifestDigest};
use bessemer_proto::v1;
use serde::{Deserialize, Serialize};

use crate::durable;
use crate::layout::Layout;
use crate::request::ImageSpec;

/// Digits of an id that name an image: 32 bits tell a few thousand images apart.
const MIN_ID_DIGITS: usize = 8;
/// The format of entries that this build writes and reads. Another one is an image to prepare
/// again, not an error: the catalogue is a cache's.
const ENTRY_VERSION: u32 = 1;
/// An entry's file is touched at most so often when it is used; restarts need no finer order.
const TOUCH_INTERVAL: Duration = Duration::from_secs(60);

/// What makes two requests the same: source, expected content and declared format (and for a
/// local file without checksum, its size and time). Prints as hexadecimal.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn of(parts: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Self(hasher.finalize().to_hex().to_string())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A prepared image and the request that it answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Entry {
    pub(crate) entry_version: u32,
    pub(crate) name: String,
    pub(crate) spec: ImageSpec,
    pub(crate) id: String,
    pub(crate) source_format: String,
    /// The digest that the source was checked against, `algorithm:digits`; none for a local file.
    pub(crate) source_digest: Option<String>,
    pub(crate) source_bytes: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) raw_hash_algo: String,
    pub(crate) raw_hash_value: String,
    pub(crate) pack_bytes: u64,
    pub(crate) manifest_bytes: u64,
    pub(crate) chunk_count: u64,
    pub(crate) zero_chunk_count: u64,
    /// Needed to make a damaged frame again.
    pub(crate) compression_level: i32,
    pub(crate) prepared_at_unix_seconds: u64,
    /// Kept whatever the cache's limit.
    #[serde(default)]
    pub(crate) pinned: bool,
}

impl Entry {
    pub(crate) const VERSION: u32 = ENTRY_VERSION;

    fn stored_bytes(&self) -> u64 {
        self.pack_bytes + self.manifest_bytes
    }

    pub(crate) fn to_proto(&self, base_url: &str) -> v1::Image {
        v1::Image {
            name: self.name.clone(),
            spec: Some(self.spec.clone().into()),
            resolved: Some(v1::ResolvedImage {
                id: self.id.clone(),
                source_format: self.source_format.clone(),
                raw_size_bytes: self.raw_bytes,
                raw_hash_algo: self.raw_hash_algo.clone(),
                raw_hash_value: self.raw_hash_value.clone(),
                pack_size_bytes: self.pack_bytes,
            }),
            prepared_at: Some(
                (UNIX_EPOCH + Duration::from_secs(self.prepared_at_unix_seconds)).into(),
            ),
            source_size_bytes: self.source_bytes,
            chunk_size_bytes: CHUNK_BYTES as u32,
            chunk_count: self.chunk_count,
            zero_chunk_count: self.zero_chunk_count,
            urls: vec![format!("{base_url}/v1/images/{}", self.id)],
            manifest_digest: self.id.clone(),
            pinned: self.pinned,
        }
    }
}

/// Why a reference names no image.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum NoImage {
    #[error(
        "no prepared image has the id, beginning of an id (8 digits at least) or name `{reference}`"
    )]
    Unknown { reference: String },
    #[error("`{reference}` begins the ids of {count} images; give more digits")]
    Ambiguous { reference: String, count: usize },
}

struct Kept {
    entry: Entry,
    id: ManifestDigest,
    used_at: SystemTime,
    touched_at: SystemTime,
}

/// Why an image is not dropped though somebody asked for it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotEvicted {
    #[error("image `{name}` is pinned; unpin it first")]
    Pinned { name: String },
    #[error("image `{name}` was used {idle_seconds} s ago; evict it later, or by force")]
    InUse { name: String, idle_seconds: u64 },
    #[error("cannot remove it: {0}")]
    Storage(#[from] io::Error),
}

/// How an image is used.
struct Usage {
    used_at: SystemTime,
    stored_bytes: u64,
    pinned: bool,
}

/// What all images take together.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) images: i64,
    pub(crate) stored_bytes: u64,
    /// Of those, what is kept whatever the limit.
    pub(crate) pinned_bytes: u64,
}

/// All entries, in memory and on disk.
pub(crate) struct Catalogue {
    layout: Layout,
    kept: Mutex<BTreeMap<Key, Kept>>,
}

impl Catalogue {
    /// Reads the entries, drops those whose files are not there as they should be, and removes the
    /// files that no entry needs.
    pub(crate) fn open(layout: Layout) -> io::Result<Self> {
        let mut kept = BTreeMap::new();
        for file in fs::read_dir(layout.catalogue_dir())? {
            let path = file?.path();
            let key = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            let key = Key(key.to_owned());
            match read_entry(&layout, &key) {
                Some(entry) => {
                    kept.insert(key, entry);
                }
                None => {
                    tracing::warn!(entry = %path.display(), "catalogue entry is unusable, dropped");
                    durable::remove(&path)?;
                }
            }
        }
        let ids: BTreeSet<_> = kept.values().map(|kept| kept.entry.id.clone()).collect();
        for file in fs::read_dir(layout.images_dir())? {
            let path = file?.path();
            let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if !ids.contains(id) {
                durable::remove(&path)?;
            }
        }
        Ok(Self { layout, kept: Mutex::new(kept) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of a key; counts as a use. A caller's other name for it becomes its name.
    pub(crate) fn use_key(&self, key: &Key, name: &str) -> io::Result<Option<Entry>> {
        let mut all = self.lock();
        let Some(kept) = all.get_mut(key) else { return Ok(None) };
        self.mark_used(key, kept)?;
        if kept.entry.name != name {
            name.clone_into(&mut kept.entry.name);
            self.write(key, &kept.entry)?;
        }
        Ok(Some(kept.entry.clone()))
    }

    /// The entry of a key, as text; is no use of it.
    pub(crate) fn get(&self, key: &str) -> Option<Entry> {
        self.lock().get(&Key(key.to_owned())).map(|kept| kept.entry.clone())
    }

    /// The entry of an image that is read; counts as a use.
    pub(crate) fn use_id(&self, id: ManifestDigest) -> io::Result<Option<Entry>> {
        let mut all = self.lock();
        let Some((key, kept)) = all.iter_mut().find(|(_, kept)| kept.id == id) else {
            return Ok(None);
        };
        self.mark_used(key, kept)?;
        Ok(Some(kept.entry.clone()))
    }

    fn mark_used(&self, key: &Key, kept: &mut Kept) -> io::Result<()> {
        kept.used_at = SystemTime::now();
        let since_touched = kept.used_at.duration_since(kept.touched_at).unwrap_or_default();
        if since_touched >= TOUCH_INTERVAL {
            kept.touched_at = kept.used_at;
            File::open(self.layout.entry(key))?.set_modified(kept.used_at)?;
        }
        Ok(())
    }

    /// The image that a user refers to by id, beginning of an id, or name. Of several images of
    /// one name the newest.
    pub(crate) fn find(&self, reference: &str) -> Result<Entry, NoImage> {
        let entries = self.list();
        if let Some(named) = entries.iter().find(|entry| entry.name == reference) {
            return Ok(named.clone());
        }
        let digits = reference.to_ascii_lowercase();
        let matching: Vec<_> = entries
            .iter()
            .filter(|entry| digits.len() >= MIN_ID_DIGITS && entry.id.starts_with(&digits))
            .collect();
        let ids: BTreeSet<_> = matching.iter().map(|entry| &entry.id).collect();
        let reference = reference.to_owned();
        match (matching.first(), ids.len()) {
            (None, _) => Err(NoImage::Unknown { reference }),
            (Some(entry), 1) => Ok((*entry).clone()),
            (Some(_), count) => Err(NoImage::Ambiguous { reference, count }),
        }
    }

    /// All entries, newest first.
    pub(crate) fn list(&self) -> Vec<Entry> {
        let mut entries: Vec<_> = self.lock().values().map(|kept| kept.entry.clone()).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.prepared_at_unix_seconds));
        entries
    }

    /// Adds an entry whose image is in place.
    pub(crate) fn insert(&self, key: Key, id: ManifestDigest, entry: Entry) -> io::Result<()> {
        let mut all = self.lock();
        self.write(&key, &entry)?;
        let now = SystemTime::now();
        all.insert(key, Kept { entry, id, used_at: now, touched_at: now });
        Ok(())
    }

    /// Forgets an image, under all its keys, and removes its files. Who reads them still can.
    pub(crate) fn drop_image(&self, id: ManifestDigest) -> io::Result<()> {
        let mut all = self.lock();
        let keys: Vec<_> =
            all.iter().filter(|(_, kept)| kept.id == id).map(|(key, _)| key.clone()).collect();
        // Entries first: an entry without image would be an answer that is not true.
        for key in keys {
            durable::remove(&self.layout.entry(&key))?;
            all.remove(&key);
        }
        durable::remove(&self.layout.pack(id))?;
        durable::remove(&self.layout.manifest(id))
    }

    /// Pins an image, under all its keys, or lets it go.
    pub(crate) fn pin(&self, id: ManifestDigest, pinned: bool) -> io::Result<()> {
        for (key, kept) in self.lock().iter_mut().filter(|(_, kept)| kept.id == id) {
            kept.entry.pinned = pinned;
            self.write(key, &kept.entry)?;
        }
        Ok(())
    }

    /// Drops an image that is not pinned and, unless by force, was not used within `keep_used`.
    pub(crate) fn evict(
        &self,
        entry: &Entry,
        id: ManifestDigest,
        keep_used: Duration,
        force: bool,
    ) -> Result<(), NotEvicted> {
        let name = entry.name.clone();
        let usage = self.usage();
        let Some(usage) = usage.get(&id) else { return Ok(()) };
        let idle = usage.used_at.elapsed().unwrap_or_default();
        if usage.pinned {
            return Err(NotEvicted::Pinned { name });
        }
        if idle < keep_used && !force {
            return Err(NotEvicted::InUse { name, idle_seconds: idle.as_secs() });
        }
        Ok(self.drop_image(id)?)
    }

    /// How each image is used, all its keys together.
    fn usage(&self) -> BTreeMap<ManifestDigest, Usage> {
        let mut images = BTreeMap::new();
        for kept in self.lock().values() {
            let image = images.entry(kept.id).or_insert_with(|| Usage {
                used_at: kept.used_at,
                stored_bytes: kept.entry.stored_bytes(),
                pinned: false,
            });
            image.used_at = image.used_at.max(kept.used_at);
            image.pinned |= kept.entry.pinned;
        }
        images
    }

    /// What all images take together.
    pub(crate) fn used(&self) -> Used {
        self.usage().values().fold(Used::default(), |used, image| Used {
            images: used.images + 1,
            stored_bytes: used.stored_bytes + image.stored_bytes,
            pinned_bytes: used.pinned_bytes + if image.pinned { image.stored_bytes } else { 0 },
        })
    }

    /// Drops the images used least recently until the rest takes at most `limit_bytes`, but none
    /// that is pinned or was used within `keep_used`. Answers how many were dropped.
    pub(crate) fn shrink(&self, limit_bytes: u64, keep_used: Duration) -> io::Result<usize> {
        let images = self.usage();
        let mut total: u64 = images.values().map(|image| image.stored_bytes).sum();
        let mut oldest_first: Vec<_> =
            images.into_iter().filter(|(_, image)| !image.pinned).collect();
        oldest_first.sort_by_key(|(_, image)| image.used_at);
        let mut dropped = 0;
        for (id, image) in oldest_first {
            let idle = image.used_at.elapsed().unwrap_or_default();
            if total <= limit_bytes || idle < keep_used {
                break;
            }
            self.drop_image(id)?;
            let bytes = image.stored_bytes;
            tracing::info!(image = %id, bytes, "image dropped to keep within cache_limit_bytes");
            total -= bytes;
            dropped += 1;
        }
        Ok(dropped)
    }

    fn write(&self, key: &Key, entry: &Entry) -> io::Result<()> {
        let json = serde_json::to_vec_pretty(entry).map_err(io::Error::other)?;
        durable::replace(&self.layout.entry(key), &self.layout.staged(key, "json"), &json)
    }
}

/// An entry that can be read and whose files are there with the right lengths.
fn read_entry(layout: &Layout, key: &Key) -> Option<Kept> {
    let path = layout.entry(key);
    let entry: Entry = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    let id: ManifestDigest = entry.id.parse().ok()?;
    let has_length = |path, bytes| fs::metadata(path).is_ok_and(|found| found.len() == bytes);
    let is_whole = entry.entry_version == ENTRY_VERSION
        && has_length(layout.pack(id), entry.pack_bytes)
        && has_length(layout.manifest(id), entry.manifest_bytes);
    let used_at = fs::metadata(&path).and_then(|file| file.modified()).ok()?;
    is_whole.then_some(Kept { entry, id, used_at, touched_at: used_at })
}
