//! Which container a reference means now: its manifest's digest, which means it for good.

use std::sync::Arc;

use bessemer_image::digest::{Algorithm, Digest, Hasher};
use serde::Deserialize;

use super::reference::{Reference, Version};
use super::resolve::{fetch_document, refused};
use crate::error::PrepareError;
use crate::fetch::Origins;

/// The configurations that images of containers have (OCI image specification 1.1, and Docker's older format). An artifact
/// has another one.
const CONFIGURATIONS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// An index has `manifests`, a manifest has a `config`.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<serde::de::IgnoredAny>,
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: String,
}

/// The digest of the manifest, or of the index: podman takes the machine's own architecture from that.
pub(crate) async fn pin(
    origins: &Arc<Origins>,
    reference: &Reference,
) -> Result<Digest, PrepareError> {
    let content = fetch_document(origins, reference, &reference.version).await?;
    let document: Document = serde_json::from_slice(&content)
        .map_err(|error| refused(reference, format!("its manifest cannot be read: {error}")))?;
    let configuration = document.config.map_or_else(String::new, |config| config.media_type);
    if document.manifests.is_empty() && !CONFIGURATIONS.contains(&configuration.as_str()) {
        let what = format!(
            "it is no container (its configuration is of type `{configuration}`); an image of a disk is for deploy_interface `direct`"
        );
        return Err(refused(reference, what));
    }
    match reference.version {
        Version::Digest(digest) => Ok(digest),
        Version::Tag(_) => {
            let mut hasher = Hasher::new(Algorithm::Sha256);
            hasher.update(&content);
            Ok(hasher.finish())
        }
    }
}
