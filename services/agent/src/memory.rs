//! How much memory this process holds, as the kernel counts it.

/// Resident now, in bytes; 0 when the kernel does not say.
pub(crate) fn resident_bytes() -> u64 {
    status_field_bytes("VmRSS:")
}

/// The most that was ever resident, in bytes; 0 when the kernel does not say.
pub(crate) fn peak_resident_bytes() -> u64 {
    status_field_bytes("VmHWM:")
}

fn status_field_bytes(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    kibibytes(&status, field).unwrap_or_default() * 1024
}

/// The number in a line such as `VmRSS:      1234 kB`.
pub(crate) fn kibibytes(text: &str, field: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Name:\tVmRSS: 1 kB\nVmRSS:\t    5120 kB\nThreads:\t4\n";
        assert_eq!(kibibytes(text, "VmRSS:"), Some(5120));
        assert_eq!(kibibytes(text, "VmHWM:"), None);
        assert_eq!(kibibytes(text, "Threads:"), None);
        assert!(peak_resident_bytes() >= resident_bytes() && resident_bytes() > 0);
    }
}
