//! Takes the space of a file before the file is written.
//!
//! What is taken is the file's own: no other preparation can use it, and it is free again when the file is removed or cut.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

use crate::error::PrepareError;

/// What `stat` counts space in.
const BLOCK_BYTES: u64 = 512;

/// Takes space for a file of `bytes`; its length stays. Where the file system cannot do that, the file is written without.
pub(crate) fn reserve(file: &File, path: &Path, bytes: u64) -> Result<(), PrepareError> {
    let failed = |source| PrepareError::storage("reserve space for", path, source);
    let metadata = file.metadata().map_err(failed)?;
    let needed_bytes = bytes.saturating_sub(metadata.blocks() * BLOCK_BYTES);
    if needed_bytes == 0 {
        return Ok(());
    }
    let free_bytes = fstatvfs(file).map(|it| it.f_bavail * it.f_frsize).map_err(io::Error::from);
    let free_bytes = free_bytes.map_err(failed)?;
    let too_little =
        PrepareError::TooLittleSpace { path: path.to_owned(), needed_bytes, free_bytes };
    // A file system would take all that there is before it says that it is not enough.
    if needed_bytes > free_bytes {
        return Err(too_little);
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes).map_err(io::Error::from) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        Err(error) => {
            file.set_len(metadata.len()).map_err(failed)?;
            Err(match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => too_little,
                _ => failed(error),
            })
        }
    }
}
