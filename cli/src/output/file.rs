//! A file that gets its name only when it is whole: until then it lies beside, as `NAME.tmp`.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// What is being written. Dropped before it is finished, it is gone.
#[derive(Debug)]
pub(crate) struct Unfinished {
    file: PathBuf,
    path: PathBuf,
}

impl Unfinished {
    /// To be written beside `file`.
    pub(crate) fn beside(file: &Path) -> Result<Self, Failure> {
        let name = file.file_name().filter(|_| !file.is_dir()).ok_or_else(|| {
            Failure::refused(format!("{} is not the name of a file", file.display()))
        })?;
        let mut unfinished = OsString::from(name);
        unfinished.push(".tmp");
        Ok(Self { file: file.to_owned(), path: file.with_file_name(unfinished) })
    }

    /// Where it lies until it is finished.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, readable by its owner only: what clusters say of themselves holds secrets.
    pub(crate) fn create(&self) -> Result<File, Failure> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&self.path).map_err(|error| {
            Failure::refused(format!("cannot write {}: {error}", self.path.display()))
        })
    }

    /// Gives it its name. What was written must be on the disk by now.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let directory = self.file.parent().filter(|parent| !parent.as_os_str().is_empty());
        std::fs::rename(&self.path, &self.file)
            .and_then(|()| File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all())
            .map_err(|error| self.broken(&error))
    }

    /// It cannot be written further.
    pub(crate) fn broken(&self, error: &io::Error) -> Failure {
        Failure::failed(format!("cannot write {}: {error}", self.path.display()))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Nothing is there any more once it has its name.
        std::fs::remove_file(&self.path).ok();
    }
}
