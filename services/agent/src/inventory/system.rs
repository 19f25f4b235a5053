//! Processor, memory and firmware.

use std::path::Path;

use super::attribute;
use crate::memory::kibibytes;

/// A field of the firmware's tables, such as `sys_vendor`.
pub(super) fn dmi(field: &str) -> String {
    attribute(&Path::new("/sys/class/dmi/id").join(field))
}

/// The UUID by which the firmware knows the machine; only root may read it.
pub(crate) fn system_uuid() -> String {
    dmi("product_uuid").to_ascii_lowercase()
}

/// The first processor's name in the text of /proc/cpuinfo.
pub(super) fn cpu_model(cpu_info: &str) -> String {
    let names = cpu_info.lines().filter_map(|line| line.split_once(':'));
    let mut models = names.filter(|(name, _)| matches!(name.trim(), "model name" | "Model"));
    models.next().map(|(_, model)| model.trim().to_owned()).unwrap_or_default()
}

/// Logical processors that are online, whatever share of them this process may use.
pub(super) fn cpu_count() -> u32 {
    let online = attribute(Path::new("/sys/devices/system/cpu/online"));
    count_of_list(&online).unwrap_or_else(|| {
        let usable = std::thread::available_parallelism().map_or(1, usize::from);
        u32::try_from(usable).unwrap_or(u32::MAX)
    })
}

/// How many numbers a list such as `0-3,8,10-11` holds.
fn count_of_list(list: &str) -> Option<u32> {
    list.split(',').try_fold(0u32, |count, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// Memory that the kernel has, in bytes.
pub(super) fn memory_bytes() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    kibibytes(&info, "MemTotal:").unwrap_or_default() * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_counted() {
        let cases = [("0-3,8,10-11", Some(7)), ("0", Some(1)), ("", None), ("3-1", None)];
        for (list, expected) in cases {
            assert_eq!(count_of_list(list), expected, "{list}");
        }
    }

    #[test]
    fn the_first_model_is_taken() {
        let x86 = "processor\t: 0\nmodel\t\t: 167\nmodel name\t: Xeon: A\n\nmodel name\t: B\n";
        assert_eq!(cpu_model(x86), "Xeon: A");
        assert_eq!(cpu_model("processor : 0\nModel : Raspberry Pi 4\n"), "Raspberry Pi 4");
        assert_eq!(cpu_model(""), "");
    }
}
