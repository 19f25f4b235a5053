//! What can be wrong with a qcow2 image.

use std::io;

/// Why a qcow2 image cannot be read.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what each field is")]
pub enum Qcow2Error {
    #[error("not a qcow2 image")]
    NotQcow2,
    #[error("qcow2 version {version} is not supported; 2 and 3 are")]
    Version { version: u32 },
    #[error("the qcow2 image has a backing file (`{name}`); flatten it with `qemu-img convert`")]
    BackingFile { name: String },
    #[error(
        "the qcow2 image keeps its data in an external file; convert it with `qemu-img convert`"
    )]
    ExternalDataFile,
    #[error("the qcow2 image is encrypted (method {method}); decrypt it with `qemu-img convert`")]
    Encrypted { method: u32 },
    #[error(
        "the qcow2 image is marked dirty: it was not closed; repair it with `qemu-img check -r`"
    )]
    Dirty,
    #[error("the qcow2 image is marked corrupt; repair it with `qemu-img check -r`")]
    Corrupt,
    #[error("the qcow2 image uses unknown incompatible features {bits:#x}")]
    UnknownFeatures { bits: u64 },
    #[error("the qcow2 image uses unknown compression type {compression_type}")]
    UnknownCompression { compression_type: u8 },
    #[error(
        "the qcow2 image has a virtual size of {virtual_bytes} bytes, the limit is {limit_bytes}"
    )]
    TooLarge { virtual_bytes: u64, limit_bytes: u64 },
    #[error(
        "the qcow2 image is truncated: its {what} takes {needed_bytes} bytes at offset \
         {offset_bytes}, the file has {source_bytes} bytes"
    )]
    Truncated { what: &'static str, offset_bytes: u64, needed_bytes: u64, source_bytes: u64 },
    #[error("the qcow2 image is malformed: {what} is {value:#x}")]
    Malformed { what: &'static str, value: u64 },
    #[error("the cluster at guest offset {guest_offset_bytes} does not decompress: {message}")]
    Decompress { guest_offset_bytes: u64, message: String },
    #[error("read the source's {what} at byte {offset_bytes}")]
    Read { what: &'static str, offset_bytes: u64, source: io::Error },
}
