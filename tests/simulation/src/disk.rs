//! A machine's disk: a few chunks, and a write cache that the power takes with it.

use crate::executor::Executor;

/// Chunks of a disk; the largest image leaves one free.
pub(crate) const DISK_CHUNKS: usize = 10;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Content {
    /// Zeros.
    #[default]
    Zero,
    /// A chunk of an image.
    Image {
        /// Which image.
        image: Image,
        /// Which chunk of it.
        chunk: usize,
    },
}

/// An image: its number and its size. The chunks at both ends hold partition tables; it boots by the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) number: usize,
    pub(crate) chunks: usize,
}

/// A disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    durable: [Content; DISK_CHUNKS],
    /// Written, in order, and not flushed.
    cached: Vec<(usize, Content)>,
    /// Cleaning leaves the table to the end on purpose, so that a second attempt finds the partitions by it.
    pub(crate) is_being_erased: bool,
}

impl Disk {
    pub(crate) fn write(&mut self, chunk: usize, content: Content) {
        self.cached.push((chunk, content));
    }

    pub(crate) fn flush(&mut self) {
        self.durable = self.content();
        self.cached.clear();
    }

    /// What is read.
    pub(crate) fn content(&self) -> [Content; DISK_CHUNKS] {
        let mut content = self.durable;
        for (chunk, written) in &self.cached {
            content[*chunk] = *written;
        }
        content
    }

    /// The power goes: what was not flushed is on the disk or not, in no order.
    pub(crate) fn lose_power(&mut self, exec: &Executor) {
        self.cached.retain(|_| exec.chance(50));
        self.flush();
    }

    /// The image whose table is at the start.
    pub(crate) fn table(&self) -> Option<Image> {
        match self.content()[0] {
            Content::Image { image, chunk: 0 } => Some(image),
            Content::Image { .. } | Content::Zero => None,
        }
    }

    /// Whether it holds all of an image.
    pub(crate) fn holds(&self, image: Image) -> bool {
        let is_right =
            |(chunk, content): (usize, &Content)| *content == Content::Image { image, chunk };
        self.content()[..image.chunks].iter().enumerate().all(is_right)
    }
}
