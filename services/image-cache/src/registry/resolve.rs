//! From a reference to the one file that it stands for: through an index, if there is one, and a manifest
//! (OCI image specification 1.1).

use std::sync::Arc;

use bessemer_image::digest::{Algorithm, Digest, Hasher};
use serde::Deserialize;

use super::reference::{Reference, Version, parse_digest};
use crate::error::PrepareError;
use crate::fetch::{Origins, fetch_small};

/// The limit that registries have for manifests.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// Manifests and indices, by their names here and in Docker's older format.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json";

/// Most images of an index that an error lists.
const LISTED_MAX: usize = 12;

/// An index has `manifests`, a manifest has `layers`; both have neither in common.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    media_type: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
}

/// The digest of the file that `reference` stands for. A tag is looked up now, and never again for
/// what is made of the answer.
pub(crate) async fn resolve(
    origins: &Arc<Origins>,
    reference: &Reference,
) -> Result<Digest, PrepareError> {
    let mut document = fetch(origins, reference, &reference.version).await?;
    if !document.manifests.is_empty() {
        let manifest = chosen(reference, &document.manifests)?;
        document = fetch(origins, reference, &Version::Digest(manifest)).await?;
    }
    match document.layers.as_slice() {
        [layer] => parse_digest(&layer.digest).map_err(|message| refused(reference, message)),
        [] => Err(refused(reference, "its manifest has no layer".to_owned())),
        layers => {
            let types: Vec<&str> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
            let count = layers.len();
            Err(refused(
                reference,
                format!(
                    "it has {count} layers ({}), as images of containers have; an image to deploy has one",
                    types[..count.min(LISTED_MAX)].join(", ")
                ),
            ))
        }
    }
}

/// The only image of an index. Attestations are no images.
fn chosen(reference: &Reference, manifests: &[Descriptor]) -> Result<Digest, PrepareError> {
    let architecture = |it: &Descriptor| {
        it.platform.as_ref().map(|platform| platform.architecture.clone()).unwrap_or_default()
    };
    let images: Vec<&Descriptor> =
        manifests.iter().filter(|manifest| architecture(manifest) != "unknown").collect();
    if let [only] = images.as_slice() {
        return parse_digest(&only.digest).map_err(|message| refused(reference, message));
    }
    let list = |it: &&Descriptor| format!("{} ({})", it.digest, architecture(it));
    let listed: Vec<String> = images.iter().take(LISTED_MAX).map(list).collect();
    Err(refused(
        reference,
        format!(
            "it stands for {} images; name one as oci://{}/{}@DIGEST: {}",
            images.len(),
            reference.host,
            reference.repository,
            listed.join(", ")
        ),
    ))
}

async fn fetch(
    origins: &Arc<Origins>,
    reference: &Reference,
    version: &Version,
) -> Result<Document, PrepareError> {
    let content = fetch_document(origins, reference, version).await?;
    serde_json::from_slice(&content)
        .map_err(|error| refused(reference, format!("its manifest cannot be read: {error}")))
}

/// The bytes of a manifest or an index: those that were asked for, if a digest was.
pub(super) async fn fetch_document(
    origins: &Arc<Origins>,
    reference: &Reference,
    version: &Version,
) -> Result<Vec<u8>, PrepareError> {
    let url = origins.registry_url(reference, "manifests", &version.to_string());
    let content = fetch_small(origins, &url, MANIFEST_BYTES_MAX, Some(ACCEPT)).await?;
    if let Version::Digest(expected) = version {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&content);
        let found = hasher.finish();
        if found != *expected {
            return Err(refused(reference, format!("manifest {expected} arrived as {found}")));
        }
    }
    Ok(content)
}

pub(super) fn refused(reference: &Reference, message: String) -> PrepareError {
    let Reference { host, repository, version } = reference;
    let source_url = format!("oci://{host}/{repository} {version}");
    PrepareError::SourceRefused { source_url, message }
}
