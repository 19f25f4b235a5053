//! Gets sources: over HTTP, and from the directories that `file://` may name.

mod body;
mod download;
mod local;
mod origins;
mod s3;
mod spool;

pub(crate) use body::Body;
pub(crate) use download::{Download, fetch_small};
pub(crate) use local::{check_root, open_local};
pub use origins::{CredentialsConfig, HttpConfig};
pub(crate) use origins::{Origins, S3_SCHEME};
pub use s3::S3Config;
pub(crate) use spool::{Spool, whole};
