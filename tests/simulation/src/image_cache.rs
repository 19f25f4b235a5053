//! The image cache by its contract: an image is prepared, or refused for good, or the cache cannot be reached.

use std::cell::Cell;

use bessemer_domain::node::{ImageInput, ImageSpec, ResolvedImage};

use crate::disk::Image;
use crate::world::World;

/// Size of a chunk, as the agents' packs have it.
const CHUNK_BYTES: u64 = 1 << 20;

/// Images that there are; each is a chunk larger than the one before.
pub(crate) const IMAGES: usize = 6;

/// Chunks of the smallest one.
const CHUNKS_MIN: usize = 4;

/// The cache.
#[derive(Debug, Default)]
pub(crate) struct ImageCache {
    pub(crate) is_down: Cell<bool>,
}

/// Why an image was not prepared.
#[derive(Debug)]
pub(crate) enum PrepareError {
    /// It never will be.
    Refused,
    /// Nobody answered.
    Unreachable,
}

impl Image {
    pub(crate) const fn numbered(number: usize) -> Self {
        Self { number, chunks: CHUNKS_MIN + number }
    }

    pub(crate) fn resolved(self) -> ResolvedImage {
        ResolvedImage {
            id: format!("{:064x}", self.number),
            source_format: "qcow2".to_owned(),
            raw_size_bytes: self.chunks as u64 * CHUNK_BYTES,
            raw_hash_algo: "sha256".to_owned(),
            raw_hash_value: "cd".repeat(32),
            pack_size_bytes: CHUNK_BYTES,
        }
    }
}

/// What a user asks for; `None` is an image that is not what it should be.
pub(crate) fn image_spec(image: Option<Image>) -> ImageSpec {
    let name = image.map_or_else(|| "corrupt".to_owned(), |image| image.number.to_string());
    let input = ImageInput {
        source: &format!("http://images/{name}"),
        checksum: &"ab".repeat(32),
        ..ImageInput::default()
    };
    ImageSpec::try_new(&input).expect("it is a proper request")
}

/// The image that a request means; none when it can never be prepared.
pub(crate) fn image_of(spec: &ImageSpec) -> Option<Image> {
    spec.source.rsplit('/').next()?.parse().ok().map(Image::numbered)
}

impl World {
    pub(crate) async fn prepare_image(&self, spec: &ImageSpec) -> Result<Image, PrepareError> {
        self.exec.pause(20..=1_500).await;
        if self.image_cache.is_down.get() {
            return Err(PrepareError::Unreachable);
        }
        image_of(spec).ok_or(PrepareError::Refused)
    }
}
