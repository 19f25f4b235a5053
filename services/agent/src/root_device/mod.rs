//! Which disk is the root device.

mod hint;

use std::collections::HashMap;

use crate::machine::FoundDisk;
use crate::task::TaskError;
use hint::Hint;

/// Without hints, smaller disks are passed over where there are several: boot media and caches.
/// Ironic's figure, in bytes.
const LEAST_BYTES: u64 = 4 << 30;

/// The disk that `hints` mean: the first that matches all of them. Without hints the only disk, or
/// else the smallest of at least 4 GiB; several of that size are an error, never a guess.
pub(crate) fn choose(
    disks: &[FoundDisk],
    hints: &HashMap<String, String>,
) -> Result<FoundDisk, TaskError> {
    let parsed: Vec<Hint> =
        hints.iter().map(|(name, value)| Hint::parse(name, value)).collect::<Result<_, _>>()?;
    if !parsed.is_empty() {
        let matches = |found: &&FoundDisk| parsed.iter().all(|hint| hint.matches(&found.disk));
        return disks.iter().find(matches).cloned().ok_or_else(|| none(disks, hints));
    }
    if let [only] = disks {
        return Ok(only.clone());
    }
    let large_enough: Vec<_> =
        disks.iter().filter(|found| found.disk.size_bytes >= LEAST_BYTES).collect();
    let smallest = large_enough.iter().map(|found| found.disk.size_bytes).min();
    let candidates: Vec<&FoundDisk> =
        large_enough.into_iter().filter(|found| Some(found.disk.size_bytes) == smallest).collect();
    match candidates.as_slice() {
        [] => Err(none(disks, hints)),
        [one] => Ok((*one).clone()),
        several => {
            Err(TaskError::AmbiguousRootDevice { candidates: described(several.iter().copied()) })
        }
    }
}

fn none(disks: &[FoundDisk], hints: &HashMap<String, String>) -> TaskError {
    let mut given: Vec<_> = hints.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    given.sort();
    let hints = if given.is_empty() { "(none given)".to_owned() } else { given.join(", ") };
    let found = if disks.is_empty() { "no disk".to_owned() } else { described(disks) };
    TaskError::NoRootDevice { hints, found }
}

fn described<'a>(disks: impl IntoIterator<Item = &'a FoundDisk>) -> String {
    let one = |FoundDisk { disk, .. }: &FoundDisk| {
        let known = [("model", &disk.model), ("serial", &disk.serial), ("wwn", &disk.wwn)];
        let details = known.iter().filter(|(_, value)| !value.is_empty());
        let details: String = details.map(|(name, value)| format!(", {name} {value}")).collect();
        format!("{} ({} bytes{details})", disk.name, disk.size_bytes)
    };
    disks.into_iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use bessemer_proto::v1::Disk;

    use super::*;

    const GIB: u64 = 1 << 30;

    fn found(name: &str, size_gib: u64, serial: &str) -> FoundDisk {
        let disk = Disk {
            name: name.to_owned(),
            size_bytes: size_gib * GIB,
            serial: serial.to_owned(),
            ..Disk::default()
        };
        FoundDisk { path: name.into(), disk }
    }

    fn chosen(disks: &[FoundDisk], hints: &[(&str, &str)]) -> Result<String, TaskError> {
        let hints = hints.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        choose(disks, &hints.collect()).map(|found| found.disk.name)
    }

    #[test]
    fn hints_choose_and_without_them_only_what_is_clear() {
        let disks = [found("sda", 100, "A"), found("sdb", 50, "B"), found("sdc", 2, "C")];
        assert_eq!(chosen(&disks, &[]).unwrap(), "sdb");
        assert_eq!(chosen(&disks[2..], &[]).unwrap(), "sdc");
        assert_eq!(chosen(&disks, &[("serial", "a")]).unwrap(), "sda");
        assert_eq!(chosen(&disks, &[("size", ">= 10")]).unwrap(), "sda");
        assert_eq!(chosen(&disks, &[("size", ">= 10"), ("serial", "b")]).unwrap(), "sdb");
    }

    #[test]
    fn no_disk_is_an_error_that_lists_what_there_is() {
        let disks = [found("sda", 100, "A"), found("sdb", 50, "")];
        let error = chosen(&disks, &[("serial", "X")]).unwrap_err();
        assert_eq!(error.reason(), "NO_ROOT_DEVICE");
        assert_eq!(
            error.to_string(),
            "no disk matches root device hints serial: X; \
             found: sda (107374182400 bytes, serial A), sdb (53687091200 bytes)"
        );
        assert_eq!(chosen(&[], &[]).unwrap_err().reason(), "NO_ROOT_DEVICE");
    }

    #[test]
    fn equal_disks_are_never_guessed_between() {
        let disks = [found("sda", 50, "A"), found("sdb", 50, "B"), found("sdc", 100, "C")];
        let error = chosen(&disks, &[]).unwrap_err();
        assert_eq!(error.reason(), "AMBIGUOUS_ROOT_DEVICE");
        assert!(error.to_string().contains("sda") && error.to_string().contains("sdb"), "{error}");
        assert!(!error.to_string().contains("sdc"), "{error}");
    }
}
