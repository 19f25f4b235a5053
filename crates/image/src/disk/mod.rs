//! Reads disk images of every format that can be prepared, from untrusted bytes, as the raw disk
//! that a guest sees.
//!
//! A format is a [`Layout`]: it says where the bytes of a stretch of the guest's disk are, as they
//! are or compressed, or that they are zero. [`Disk`] reads them. Only what a self-contained image
//! needs is understood; everything that would make the guest's bytes depend on something else (a
//! backing or parent file, an external data file, a key, a log to be replayed) and every feature
//! not known here is refused by name. Nothing but the given source is ever opened.
//!
//! Tables are read page by page into a cache of fixed size and sizes are checked against the
//! source before memory is taken, so that no image can make a reader large. The oracle of the
//! tests is `qemu-img convert`.

mod error;
mod fields;
mod flat;
mod image;
mod layout;
mod pages;
mod qcow2;
mod unpack;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

pub use error::{DiskError, DiskFault};
pub use image::Disk;

use layout::{Extent, Layout, Origin, check_within};
