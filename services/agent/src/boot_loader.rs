//! The EFI system partition of a disk that was divided for an image of one file system: the image's own EFI programs,
//! from its `/boot/efi`. They are copied; no code of the image is run.

use std::collections::BTreeSet;
use std::io::{self, Write};

use ext4_view::{Ext4, Ext4Error, PathBuf};

use crate::disk::OpenDisk;
use crate::filesystem::fat::{self, Fat};
use crate::filesystem::{self, FileSystemError, Found};
use crate::task::TaskError;

/// Where an image has what belongs on the EFI system partition.
const EFI_DIRECTORY: &str = "/boot/efi";

/// Where firmware looks for a loader that it was told nothing about (UEFI 2.10, 3.5.1.1).
const REMOVABLE_DIRECTORIES: [&str; 2] = ["EFI", "EFI/BOOT"];

/// Deepest directory that is followed: real ones have three levels, a damaged file system may have a loop.
const DEPTH_MAX: usize = 16;

/// How much is copied at once, in bytes.
const COPY_BYTES: usize = 1 << 20;

/// Names of the architectures in those of EFI programs.
const ARCHITECTURES: [&str; 3] = ["x64", "aa64", "riscv64"];

/// Loaders that systems install, the preferred one first. Secure boot needs the shim.
const LOADERS: [&str; 3] = ["shim", "grub", "systemd-boot"];

/// What a shim starts, and expects beside itself.
const BESIDE_SHIM: [&str; 2] = ["grub", "mm"];

/// Makes `esp` an EFI system partition with the programs of the image on `root`.
pub(crate) fn install(esp: OpenDisk, root: OpenDisk) -> Result<(), TaskError> {
    let none = |reason: String| TaskError::NoBootLoader { reason };
    match filesystem::probe(&root)? {
        Some(Found { name: "ext4", .. }) => {}
        Some(Found { name, .. }) => {
            return Err(none(format!(
                "its file system is {name}, and {EFI_DIRECTORY} can only be read from ext2, ext3 and ext4"
            )));
        }
        None => return Err(none("it holds no file system known here".to_owned())),
    }
    let unreadable =
        |error: Ext4Error| none(format!("its {EFI_DIRECTORY} cannot be read: {error}"));
    let device = esp.name();
    let fault = |source| FileSystemError { action: "copy EFI programs", device, source };

    let image = filesystem::ext4::open(root).map_err(unreadable)?;
    fat::make(&esp, "ESP")?;
    let mut copy =
        EfiCopy { image, volume: Fat::on(&esp), files: Vec::new(), directories: BTreeSet::new() };
    let is_bootable = copy.all().map_err(|error| match error {
        CopyError::Image(error) => unreadable(error),
        CopyError::Volume(error) => fault(error).into(),
    })?;
    if is_bootable {
        return Ok(());
    }
    Err(none(format!(
        "its {EFI_DIRECTORY} has neither EFI/BOOT/BOOT*.EFI nor a loader known by its name ({}*.efi)",
        LOADERS.join("*.efi, ")
    )))
}

/// Which copies make the loader among `paths` the one that firmware starts without being told: none to make when there is
/// one already, no answer when there is no loader at all. Paths are relative, as copied.
fn removable_loader(paths: &[String]) -> Option<Vec<(String, String)>> {
    let find = |wanted: &str| paths.iter().find(|path| path.eq_ignore_ascii_case(wanted));
    for architecture in ARCHITECTURES {
        if find(&format!("EFI/BOOT/BOOT{architecture}.EFI")).is_some() {
            return Some(Vec::new());
        }
    }
    for loader in LOADERS {
        for architecture in ARCHITECTURES {
            let name = format!("/{loader}{architecture}.efi");
            let ends = |path: &&String| path.to_ascii_lowercase().ends_with(&name);
            let Some(path) = paths.iter().find(ends) else { continue };
            let directory = &path[..path.len() - name.len()];
            let upper = architecture.to_ascii_uppercase();
            let mut copies = vec![(path.clone(), format!("EFI/BOOT/BOOT{upper}.EFI"))];
            if loader == "shim" {
                let beside = BESIDE_SHIM.map(|name| format!("{name}{architecture}.efi"));
                copies.extend(beside.into_iter().filter_map(|name| {
                    let path = find(&format!("{directory}/{name}"))?;
                    Some((path.clone(), format!("EFI/BOOT/{name}")))
                }));
            }
            return Some(copies);
        }
    }
    None
}

enum CopyError {
    /// The image cannot be read.
    Image(Ext4Error),
    /// The EFI system partition cannot be written.
    Volume(io::Error),
}

impl From<Ext4Error> for CopyError {
    fn from(error: Ext4Error) -> Self {
        Self::Image(error)
    }
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Volume(error)
    }
}

/// Copies what an image has in [`EFI_DIRECTORY`].
struct EfiCopy<'a> {
    image: Ext4,
    volume: Fat<'a>,
    /// What was copied, relative to the directory.
    files: Vec<String>,
    /// Directories that were made, as FAT compares them.
    directories: BTreeSet<String>,
}

impl EfiCopy<'_> {
    /// Copies everything; whether a machine boots it then.
    fn all(&mut self) -> Result<bool, CopyError> {
        self.directory("", 0)?;
        let Some(loader) = removable_loader(&self.files) else { return Ok(false) };
        for (from, to) in loader {
            for directory in REMOVABLE_DIRECTORIES {
                self.create_dir(directory)?;
            }
            self.file(&from, &to)?;
        }
        Ok(true)
    }

    /// Copies what a directory holds. Links are no part of a FAT and left out.
    fn directory(&mut self, path: &str, depth: usize) -> Result<(), CopyError> {
        if depth > DEPTH_MAX {
            return Err(io::Error::other(format!("{path} is too deep")).into());
        }
        for entry in self.image.read_dir(&within(path))? {
            let entry = entry?;
            let file_name = entry.file_name();
            let Ok(name) = file_name.as_str() else { continue };
            if matches!(name, "." | "..") {
                continue;
            }
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.create_dir(&path)?;
                self.directory(&path, depth + 1)?;
            } else if kind.is_regular_file() {
                self.file(&path, &path)?;
                self.files.push(path);
            }
        }
        Ok(())
    }

    fn file(&self, from: &str, to: &str) -> Result<(), CopyError> {
        let mut source = self.image.open(&within(from))?;
        let mut buffer = vec![0; COPY_BYTES];
        self.volume.write(to, |target| {
            loop {
                let length = source.read_bytes(&mut buffer).map_err(io::Error::other)?;
                if length == 0 {
                    return Ok(());
                }
                target.write_all(&buffer[..length])?;
            }
        })?;
        Ok(())
    }

    fn create_dir(&mut self, path: &str) -> io::Result<()> {
        if self.directories.insert(path.to_ascii_lowercase()) {
            self.volume.create_dir(path)?;
        }
        Ok(())
    }
}

/// Where the image has a file of the EFI system partition.
fn within(path: &str) -> PathBuf {
    PathBuf::new(EFI_DIRECTORY).join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Paths on the image, and the copies to make.
    type Case = (&'static [&'static str], Option<&'static [(&'static str, &'static str)]>);

    #[test]
    fn the_loader_that_firmware_starts_by_itself() {
        let cases: [Case; 6] = [
            (&[], None),
            (&["EFI/debian/grub.cfg"], None),
            (&["efi/boot/bootx64.efi", "EFI/debian/shimx64.efi"], Some(&[])),
            (
                &["EFI/debian/grubx64.efi", "EFI/debian/shimx64.efi", "EFI/debian/mmx64.efi"],
                Some(&[
                    ("EFI/debian/shimx64.efi", "EFI/BOOT/BOOTX64.EFI"),
                    ("EFI/debian/grubx64.efi", "EFI/BOOT/grubx64.efi"),
                    ("EFI/debian/mmx64.efi", "EFI/BOOT/mmx64.efi"),
                ]),
            ),
            (&["EFI/a/grubaa64.efi"], Some(&[("EFI/a/grubaa64.efi", "EFI/BOOT/BOOTAA64.EFI")])),
            (
                &["EFI/systemd/systemd-bootx64.efi"],
                Some(&[("EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI")]),
            ),
        ];
        for (paths, expected) in cases {
            let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
            let expected = expected.map(|copies| {
                copies.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
            });
            assert_eq!(removable_loader(&paths), expected, "{paths:?}");
        }
    }
}
