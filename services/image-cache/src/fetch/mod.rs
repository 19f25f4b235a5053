//! Gets sources: over HTTP, and from the directories that `file://` may name.

mod body;
mod download;
mod growing;
mod local;
mod origins;

pub(crate) use body::Body;
pub(crate) use download::{Download, fetch_small};
pub(crate) use growing::GrowingFile;
pub(crate) use local::{check_root, open_local};
pub(crate) use origins::Origins;
pub use origins::{CredentialsConfig, HttpConfig};
