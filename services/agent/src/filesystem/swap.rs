//! Swap space, as `mkswap` makes it: a page that names and counts the others.

use uuid::Uuid;

use crate::disk::{DiskError, OpenDisk};

/// The page size of every machine that the agent runs on.
const PAGE_BYTES: usize = 4096;
/// Behind the room for a boot block (Linux, `union swap_header`).
const HEADER_AT: usize = 1024;
const VERSION: u32 = 1;
const SIGNATURE: &[u8; 10] = b"SWAPSPACE2";

/// Makes all of `part` swap space with the label `swap`.
pub(crate) fn make(part: &OpenDisk) -> Result<(), DiskError> {
    let pages = part.size_bytes() / PAGE_BYTES as u64;
    let last_page = u32::try_from(pages.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut page = vec![0; PAGE_BYTES];
    let mut set = |at: usize, bytes: &[u8]| page[at..at + bytes.len()].copy_from_slice(bytes);
    set(HEADER_AT, &VERSION.to_le_bytes());
    set(HEADER_AT + 4, &last_page.to_le_bytes());
    set(HEADER_AT + 12, Uuid::new_v4().as_bytes());
    set(HEADER_AT + 28, b"swap");
    set(PAGE_BYTES - SIGNATURE.len(), SIGNATURE);
    part.write_at(&page, 0)
}
