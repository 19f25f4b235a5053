//! Reads qcow2 images, versions 2 and 3, from untrusted bytes.
//!
//! Only what a self-contained image needs: standard, zero and compressed clusters (zlib, zstd) of
//! any cluster size, and extended L2 entries. Internal snapshots are ignored: the active state is
//! what is read. Everything that would make the guest's bytes depend on something else is refused
//! by name: backing file, external data file, encryption, and any feature not known here.
//!
//! All tables are bounded by the file's length before memory is taken for them. The oracle of the
//! tests is `qemu-img convert`.

mod decompress;
mod error;
mod header;
mod image;
mod table;

pub use error::Qcow2Error;
pub use image::Qcow2;
