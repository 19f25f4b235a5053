//! The raw form of an image that was given, to compare disks with: the cache's plain raw endpoint, checked against the
//! digest that went into history.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bessemer_proto::v1::Image;
use futures::StreamExt;
use sha2::{Digest, Sha256, Sha512};

use crate::failure::{Failure, chain};

/// Fetches it. Empty stretches become holes.
pub(super) async fn download(image: &Image, directory: &Path) -> Result<PathBuf, Failure> {
    let path = directory.join("image.raw");
    let base = image.urls.first().ok_or_else(|| Failure::failed("no cache serves the image"))?;
    let url = format!("{base}/raw");
    let resolved = image.resolved.clone().unwrap_or_default();
    let response = reqwest::get(&url)
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| Failure::failed(chain(&error)))?;
    let unwritable =
        |error: io::Error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    let file = File::create_new(&path).map_err(unwritable)?;
    file.set_len(resolved.raw_size_bytes).map_err(unwritable)?;
    let (mut sha256, mut sha512) = (Sha256::new(), Sha512::new());
    let use_sha512 = resolved.raw_hash_algo == "sha512";
    let mut body = response.bytes_stream();
    let mut at = 0;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(|error| Failure::failed(chain(&error)))?;
        if use_sha512 {
            sha512.update(&bytes)
        } else {
            sha256.update(&bytes)
        }
        if bytes.iter().any(|byte| *byte != 0) {
            file.write_all_at(&bytes, at).map_err(unwritable)?;
        }
        at += bytes.len() as u64;
    }
    let digest =
        if use_sha512 { hex::encode(sha512.finalize()) } else { hex::encode(sha256.finalize()) };
    // Ironic's rule leaves a digest that was given for a raw image as it is, md5 among them.
    let comparable = matches!(resolved.raw_hash_algo.as_str(), "sha256" | "sha512");
    if at != resolved.raw_size_bytes || (comparable && digest != resolved.raw_hash_value) {
        return Err(Failure::failed(format!(
            "{url} has {at} bytes with {} {digest}; history says {} with {}",
            resolved.raw_hash_algo, resolved.raw_size_bytes, resolved.raw_hash_value
        )));
    }
    Ok(path)
}
