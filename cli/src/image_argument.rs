//! The image on the command line: a URL, a file, or the name or id of a prepared image.

use std::path::Path;

use bessemer_proto::v1::{GetImageRequest, ImageSpec};

use crate::failure::Failure;
use crate::session::Session;

/// What is known of the image's content.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ImageDigest {
    /// md5, sha256 or sha512 digest, or the URL of a checksum file
    #[arg(long, default_value = "", hide_default_value = true, help_heading = "Image")]
    checksum: String,
    /// md5, sha256 or sha512
    #[arg(long, default_value = "", hide_default_value = true, help_heading = "Image")]
    os_hash_algo: String,
    /// Digest by --os-hash-algo, or the URL of a checksum file
    #[arg(long, default_value = "", hide_default_value = true, help_heading = "Image")]
    os_hash_value: String,
    /// raw or qcow2; found out when not given, and refused when it is something else
    #[arg(long, default_value = "", hide_default_value = true, help_heading = "Image")]
    disk_format: String,
}

impl ImageDigest {
    /// Whether nothing was given.
    pub(crate) fn is_empty(&self) -> bool {
        [&self.checksum, &self.os_hash_algo, &self.os_hash_value, &self.disk_format]
            .into_iter()
            .all(String::is_empty)
    }

    /// The image at a URL.
    pub(crate) fn of(&self, source: String) -> ImageSpec {
        ImageSpec {
            source,
            checksum: self.checksum.clone(),
            os_hash_algo: self.os_hash_algo.clone(),
            os_hash_value: self.os_hash_value.clone(),
            disk_format: self.disk_format.clone(),
            image_type: String::new(),
        }
    }
}

/// The URL that is meant, if it is one or a path; none when it can only be the name of a prepared image.
pub(crate) fn source_url(image: &str) -> Result<Option<String>, Failure> {
    if image.contains("://") {
        return Ok(Some(image.to_owned()));
    }
    let looks_like_path = ["/", "./", "../"].iter().any(|start| image.starts_with(start))
        || Path::new(image).is_file();
    if !looks_like_path {
        return Ok(None);
    }
    let path = std::path::absolute(image)
        .ok()
        .and_then(|path| url::Url::from_file_path(path).ok())
        .ok_or_else(|| Failure::refused(format!("`{image}` cannot be made an absolute path")))?;
    Ok(Some(path.into()))
}

/// The image that is meant; asks the cluster when only a name is given.
pub(crate) async fn resolve(
    session: &Session,
    image: &str,
    digest: &ImageDigest,
) -> Result<ImageSpec, Failure> {
    if let Some(source) = source_url(image)? {
        return Ok(digest.of(source));
    }
    if !digest.is_empty() {
        return Err(Failure::refused(format!(
            "checksum and format cannot be given for the prepared image `{image}`, which has its own"
        ))
        .hint("give the image's URL, or its path beginning with `./` or `/`"));
    }
    let image = session.client.get_image(GetImageRequest { image: image.to_owned() }).await?;
    Ok(image.spec.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_stay_paths_become_urls_and_names_are_looked_up() {
        let url = "https://images.test/a.qcow2";
        assert_eq!(source_url(url).unwrap().as_deref(), Some(url));
        assert_eq!(
            source_url("/srv/my images/a.qcow2").unwrap().as_deref(),
            Some("file:///srv/my%20images/a.qcow2")
        );
        let here = std::env::current_dir().unwrap();
        let relative = source_url("./a.qcow2").unwrap().unwrap();
        assert_eq!(relative, format!("file://{}/a.qcow2", here.display()));
        assert_eq!(source_url("debian-12.qcow2").unwrap(), None);
    }

    #[test]
    fn a_file_that_is_there_needs_no_dot() {
        assert!(source_url("Cargo.toml").unwrap().unwrap().ends_with("/Cargo.toml"));
    }
}
