//! From the documents of a deployment to the bytes of its config drive.

use hadris_fs::{Content, ErrorKind, Node, Tree};
use hadris_iso::{IsoId, IsoLevel, IsoOptions};
use hadris_storage::{BlockSize, MemDevice};
use serde_json::{Map, Value};

use crate::{BLOCK_SIZE_BYTES, LABEL, MAX_SIZE_BYTES};

/// The metadata versions the documents are filed under. `latest` is what guests read today,
/// `2012-08-10` what the oldest ones look for; Ironic writes the same two.
const VERSIONS: [&str; 2] = ["2012-08-10", "latest"];

/// What the machine is told about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigDrive {
    /// `meta_data.json`: uuid, name, hostname, public keys, ...
    pub meta_data: Map<String, Value>,
    /// `network_data.json`; left out when `None`.
    pub network_data: Option<Map<String, Value>>,
    /// `user_data`, handed over as it is; left out when empty.
    pub user_data: Vec<u8>,
    /// `vendor_data2.json`; left out when `None`.
    pub vendor_data: Option<Map<String, Value>>,
}

/// Why no config drive was built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The documents do not fit the partition that config drives get.
    #[error(
        "config drive would take {size_bytes} bytes, the limit is {limit_bytes}; \
         shorten user_data ({user_data_bytes} bytes) or have it fetch the rest"
    )]
    TooLarge {
        /// Size of the volume, in bytes.
        size_bytes: u64,
        /// [`MAX_SIZE_BYTES`].
        limit_bytes: u64,
        /// Size of the largest usual culprit, in bytes.
        user_data_bytes: u64,
    },
    /// The documents could not be laid out as an ISO 9660 volume.
    #[error("cannot lay out config drive at {path}: {kind:?}")]
    Layout {
        /// The file or directory at fault; empty for the volume as a whole.
        path: String,
        /// What is wrong with it.
        kind: ErrorKind,
    },
}

impl From<hadris_fs::PathError> for BuildError {
    fn from(error: hadris_fs::PathError) -> Self {
        Self::Layout {
            path: String::from_utf8_lossy(error.path().unwrap_or_default()).into_owned(),
            kind: error.kind(),
        }
    }
}

impl ConfigDrive {
    /// Builds the volume. The same documents always give the same bytes: the volume carries no
    /// time of its own, so a repeated deployment step writes what is there already.
    ///
    /// # Errors
    /// [`BuildError::TooLarge`] beyond [`MAX_SIZE_BYTES`], found before memory is taken for it.
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        let tree = self.tree()?;
        let options = IsoOptions::new()
            .with_id(IsoId::Volume, LABEL)
            .with_level(IsoLevel::L3)
            .with_joliet()
            .with_rock_ridge();

        let size_bytes = hadris_iso::plan(&tree, &options)?.size();
        let too_large = BuildError::TooLarge {
            size_bytes,
            limit_bytes: MAX_SIZE_BYTES,
            user_data_bytes: self.user_data.len() as u64,
        };
        if size_bytes > MAX_SIZE_BYTES {
            return Err(too_large);
        }
        let Ok(size) = usize::try_from(size_bytes) else {
            return Err(too_large);
        };

        let block_size = BlockSize::new(BLOCK_SIZE_BYTES).expect("2048 is a power of two");
        let mut volume = vec![0; size];
        hadris_iso::sync::write(
            MemDevice::new(volume.as_mut_slice(), block_size),
            &tree,
            &options,
        )?;
        Ok(volume)
    }

    fn tree(&self) -> Result<Tree, BuildError> {
        let mut documents = vec![("meta_data.json", document(&self.meta_data))];
        if let Some(network_data) = &self.network_data {
            documents.push(("network_data.json", document(network_data)));
        }
        if !self.user_data.is_empty() {
            documents.push(("user_data", self.user_data.clone()));
        }
        if let Some(vendor_data) = &self.vendor_data {
            documents.push(("vendor_data2.json", document(vendor_data)));
        }

        let [first, rest @ ..] = VERSIONS;
        let mut tree = Tree::new();
        for (name, content) in documents {
            let original = format!("openstack/{first}/{name}");
            tree.insert(&original, Node::file(Content::bytes(content)))?;
            for version in rest {
                tree.link(&original, format!("openstack/{version}/{name}"))?;
            }
        }
        Ok(tree)
    }
}

fn document(fields: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(fields).expect("a map with string keys is always valid JSON")
}
