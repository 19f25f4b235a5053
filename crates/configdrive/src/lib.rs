//! Config drives: the small ISO 9660 volume labelled `config-2` from which cloud-init and its kin
//! read who the machine is.
//!
//! [`ConfigDrive::build`] lays out what OpenStack clients expect, [`read_file`] takes one file out
//! of a volume. Both work on memory alone; who writes the bytes to a disk is not decided here.

mod build;
mod read;

pub use build::{BuildError, ConfigDrive};
pub use read::{ReadError, read_file};

/// The volume label by which the guest finds its config drive; also the name of the partition
/// that holds it.
pub const LABEL: &str = "config-2";

/// The largest config drive, in bytes. Ironic refuses more, and its agent gives the partition
/// exactly this much.
pub const MAX_SIZE_BYTES: u64 = 64 * 1024 * 1024;

/// The block size of the volume, in bytes: what every reader of ISO 9660 understands.
const BLOCK_SIZE_BYTES: u32 = 2048;
