//! Tables of an image, read as far as they are needed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::DiskFault;
use super::layout::read;
use crate::ReadAt;

/// Memory for the pages of one table. A reader in guest order needs the current page and, with
/// several threads, its neighbours; 4 MiB are 64 of qcow2's usual tables (32 GiB of guest).
const CACHE_BYTES: u64 = 4 << 20;
/// At least this many pages are kept, whatever their size: qcow2's largest have 2 MiB.
const CACHE_MIN_PAGES: u64 = 2;
/// At most so many, since the cache is searched from end to end.
const CACHE_MAX_PAGES: u64 = 64;

/// Parts of a file, all of one length, of which those used last are kept.
pub(super) struct Pages {
    what: &'static str,
    page_bytes: u64,
    /// By offset in the file.
    cache: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

impl Pages {
    pub(super) fn new(what: &'static str, page_bytes: u64) -> Self {
        Self { what, page_bytes, cache: Mutex::default() }
    }

    /// The page at an offset in the file.
    pub(super) fn get(
        &self,
        source: &dyn ReadAt,
        offset_bytes: u64,
    ) -> Result<Arc<[u8]>, DiskFault> {
        self.get_bytes(source, offset_bytes, self.page_bytes)
    }

    fn get_bytes(
        &self,
        source: &dyn ReadAt,
        offset_bytes: u64,
        bytes: u64,
    ) -> Result<Arc<[u8]>, DiskFault> {
        {
            let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            // The newest are at the back and the likeliest.
            let cached = cache.iter().rev().find(|(cached, _)| *cached == offset_bytes);
            if let Some((_, page)) = cached {
                return Ok(Arc::clone(page));
            }
        }
        // At most a page, which the format bounds.
        let mut page = vec![0; bytes as usize];
        read(source, self.what, offset_bytes, &mut page)?;
        let page: Arc<[u8]> = page.into();
        let limit = (CACHE_BYTES / self.page_bytes).clamp(CACHE_MIN_PAGES, CACHE_MAX_PAGES);
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() as u64 >= limit {
            cache.pop_front();
        }
        cache.push_back((offset_bytes, Arc::clone(&page)));
        Ok(page)
    }
}

/// Bytes of a table that are read at once.
const TABLE_PAGE_BYTES: u64 = 64 << 10;

/// A table of entries of equal length at one place of the file.
pub(super) struct Table {
    offset_bytes: u64,
    table_bytes: u64,
    pages: Pages,
}

impl Table {
    /// A table that lies within the file, as the caller has checked.
    pub(super) fn new(what: &'static str, offset_bytes: u64, table_bytes: u64) -> Self {
        Self { offset_bytes, table_bytes, pages: Pages::new(what, TABLE_PAGE_BYTES) }
    }

    /// The entry with an index, which must be in the table. `BYTES` is a power of two.
    pub(super) fn entry<const BYTES: usize>(
        &self,
        source: &dyn ReadAt,
        index: u64,
    ) -> Result<[u8; BYTES], DiskFault> {
        let at = index * BYTES as u64;
        let page_start = at - at % TABLE_PAGE_BYTES;
        let page_bytes = TABLE_PAGE_BYTES.min(self.table_bytes - page_start);
        let page = self.pages.get_bytes(source, self.offset_bytes + page_start, page_bytes)?;
        let at = (at - page_start) as usize;
        Ok(page[at..at + BYTES].try_into().expect("a power of two divides a page"))
    }
}
