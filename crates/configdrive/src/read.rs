//! From the bytes of a config drive back to its documents.

use hadris_fs::sync::Volume;
use hadris_fs::{ErrorKind, MountOptions};
use hadris_iso::sync::IsoFs;
use hadris_storage::{BlockSize, MemDevice};

use crate::BLOCK_SIZE_BYTES;

/// Why a file could not be read out of a config drive.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are no ISO 9660 volume, or a damaged one.
    #[error("not a readable ISO 9660 volume: {kind:?}")]
    Volume {
        /// What is wrong with it.
        kind: ErrorKind,
    },
    /// The volume has no such file, or it cannot be read.
    #[error("cannot read {path} from config drive: {kind:?}")]
    File {
        /// The path asked for.
        path: String,
        /// What is wrong with it.
        kind: ErrorKind,
    },
    /// The file claims to be larger than the volume that holds it.
    #[error("{path} claims {size_bytes} bytes in a config drive of {volume_bytes}")]
    Implausible {
        /// The path asked for.
        path: String,
        /// Size that its directory entry states, in bytes.
        size_bytes: u64,
        /// Size of the whole volume, in bytes.
        volume_bytes: u64,
    },
}

/// Reads one file, such as `openstack/latest/meta_data.json`, from the volume `iso`.
/// Bytes behind the end of the volume (the rest of its partition) do no harm.
///
/// # Errors
/// [`ReadError`]; damaged volumes are safe to read from, nothing larger than `iso` is allocated.
pub fn read_file(iso: &[u8], path: &str) -> Result<Vec<u8>, ReadError> {
    let block_size = BlockSize::new(BLOCK_SIZE_BYTES).expect("2048 is a power of two");
    let device = MemDevice::new(iso, block_size);
    let volume = Volume::new(
        IsoFs::mount(device, MountOptions::new())
            .map_err(|error| ReadError::Volume { kind: error.kind() })?,
    );

    let at_fault = |kind| ReadError::File { path: path.to_owned(), kind };
    let size_bytes = volume.metadata(path).map_err(|error| at_fault(error.kind()))?.len();
    let volume_bytes = iso.len() as u64;
    if size_bytes > volume_bytes {
        return Err(ReadError::Implausible { path: path.to_owned(), size_bytes, volume_bytes });
    }
    volume.read(path).map_err(|error| at_fault(error.kind()))
}
