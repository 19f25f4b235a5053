//! Memory that O_DIRECT accepts.

use std::ops::{Deref, DerefMut};

/// What the address, offset and length of a direct transfer must be multiples of, in bytes.
/// 4096 suits every disk: logical sectors are 512 or 4096.
pub(crate) const DIRECT_ALIGNMENT_BYTES: usize = 4096;

/// Zeroed bytes whose first one lies on a [`DIRECT_ALIGNMENT_BYTES`] boundary. The allocation is
/// made once and used again, so that writing an image allocates nothing per chunk.
#[derive(Debug)]
pub(crate) struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl AlignedBuffer {
    /// A buffer of `length` bytes.
    pub(crate) fn new(length: usize) -> Self {
        let memory = vec![0; length + DIRECT_ALIGNMENT_BYTES];
        let misalignment = memory.as_ptr().addr() % DIRECT_ALIGNMENT_BYTES;
        let start = (DIRECT_ALIGNMENT_BYTES - misalignment) % DIRECT_ALIGNMENT_BYTES;
        Self { memory, start, length }
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

/// Whether a transfer of `bytes` at `offset` may be a direct one.
pub(crate) fn is_direct(bytes: &[u8], offset: u64) -> bool {
    let alignment = DIRECT_ALIGNMENT_BYTES;
    bytes.as_ptr().addr().is_multiple_of(alignment)
        && bytes.len().is_multiple_of(alignment)
        && offset.is_multiple_of(alignment as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_wherever_they_land() {
        let buffers: Vec<_> = (1..40).map(|n| AlignedBuffer::new(n * 1000)).collect();
        for buffer in &buffers {
            assert_eq!(buffer.as_ptr().addr() % DIRECT_ALIGNMENT_BYTES, 0);
        }
        assert!(is_direct(&AlignedBuffer::new(8192), 4096));
        assert!(!is_direct(&AlignedBuffer::new(8192)[1..4097], 4096));
        assert!(!is_direct(&AlignedBuffer::new(8192), 512));
        assert!(!is_direct(&AlignedBuffer::new(512), 0));
    }
}
