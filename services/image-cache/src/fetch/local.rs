//! Opens the files that `file://` sources name, within the configured roots only.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::error::PrepareError;

fn refused(path: &Path, message: String) -> PrepareError {
    PrepareError::SourceRefused { source_url: format!("file://{}", path.display()), message }
}

/// The root that `path` lies under, and the rest. Looks at names only.
pub(crate) fn check_root<'a>(
    roots: &'a [PathBuf],
    path: &'a Path,
) -> Result<(&'a Path, &'a Path), PrepareError> {
    roots
        .iter()
        .find_map(|root| Some((root.as_path(), path.strip_prefix(root).ok()?)))
        .ok_or_else(|| refused(path, "it lies under none of the cache's file_roots".to_owned()))
}

/// Opens a regular file under one of `roots`. The kernel refuses links that lead out of the root,
/// so no change of the tree between a check and the opening can get around it.
pub(crate) fn open_local(roots: &[PathBuf], path: &Path) -> Result<File, PrepareError> {
    let (root, relative) = check_root(roots, path)?;
    let failed = |error: rustix::io::Errno| match error {
        rustix::io::Errno::XDEV => refused(path, "a link leads out of its file_root".to_owned()),
        // Asking again finds no file either.
        rustix::io::Errno::NOENT
        | rustix::io::Errno::NOTDIR
        | rustix::io::Errno::LOOP
        | rustix::io::Errno::ACCESS
        | rustix::io::Errno::PERM => refused(path, error.to_string()),
        _ => PrepareError::SourceUnreachable {
            source_url: format!("file://{}", path.display()),
            message: error.to_string(),
        },
    };
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, directory, Mode::empty()).map_err(failed)?;
    // Not to block on a FIFO that somebody put there.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let file =
        rustix::fs::openat2(&root, relative, flags, Mode::empty(), within).map_err(failed)?;
    let file = File::from(file);
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(file),
        Ok(_) => Err(refused(path, "it is not a regular file".to_owned())),
        Err(error) => Err(PrepareError::SourceUnreachable {
            source_url: format!("file://{}", path.display()),
            message: error.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_under_a_root_are_opened_and_no_link_leads_out() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let roots = [inside.path().to_owned()];
        for (directory, name) in [(&inside, "image"), (&outside, "secret")] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        symlink("image", inside.path().join("alias")).unwrap();
        symlink(outside.path().join("secret"), inside.path().join("leak")).unwrap();
        symlink(outside.path(), inside.path().join("dir")).unwrap();
        std::fs::create_dir(inside.path().join("directory")).unwrap();

        let open = |path: PathBuf| open_local(&roots, &path);
        assert!(open(inside.path().join("image")).is_ok());
        assert!(open(inside.path().join("alias")).is_ok());
        for name in ["leak", "dir/secret", "directory", "../image", "missing"] {
            let error = open(inside.path().join(name)).unwrap_err();
            assert_eq!(error.reason(), "IMAGE_SOURCE_REFUSED", "{name}: {error}");
        }
        let error = open(outside.path().join("secret")).unwrap_err();
        assert!(error.to_string().contains("file_roots"), "{error}");
    }
}
