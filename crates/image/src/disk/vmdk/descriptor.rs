//! The descriptor: lines of text that say what kind of image it is and whether it has a parent.

use crate::disk::DiskFault;

const READABLE: &str = "monolithicSparse and streamOptimized";
const READABLE_KINDS: [&str; 2] = ["monolithicSparse", "streamOptimized"];
const WITHOUT_PARENT: &str = "ffffffff";
/// Names in messages are no longer than this.
const NAME_CHARACTERS: usize = 200;

/// An image of a kind that is more than one file.
pub(super) fn unreadable_kind(kind: &str) -> DiskFault {
    DiskFault::Kind { kind: kind.chars().take(NAME_CHARACTERS).collect(), readable: READABLE }
}

/// Refuses every kind of image that is not one file.
pub(super) fn check_descriptor(descriptor: &[u8]) -> Result<(), DiskFault> {
    let text = String::from_utf8_lossy(descriptor);
    let text = text.split('\0').next().unwrap_or_default();
    let value = |wanted: &str| {
        text.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            let is_it = name.trim().eq_ignore_ascii_case(wanted);
            is_it.then(|| value.trim().trim_matches('"').to_owned())
        })
    };
    let kind = value("createType").unwrap_or_default();
    if !READABLE_KINDS.contains(&kind.as_str()) {
        return Err(unreadable_kind(&kind));
    }
    match value("parentCID") {
        Some(parent) if !parent.eq_ignore_ascii_case(WITHOUT_PARENT) => {
            let name = value("parentFileNameHint").unwrap_or(parent);
            Err(DiskFault::BackingFile { name: name.chars().take(NAME_CHARACTERS).collect() })
        }
        Some(_) | None => Ok(()),
    }
}
