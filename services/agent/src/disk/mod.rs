//! Access to disks: opening, aligned memory, positional transfers.

mod buffer;
mod device;
mod reread;

pub(crate) use buffer::AlignedBuffer;
pub(crate) use device::{DiskError, OpenDisk};
