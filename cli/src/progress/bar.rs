//! Bars and figures of a transfer, as text.

use crate::output::quantity;

/// A bar of `width` cells, filled as far as `done` is of `total`; empty while the total is not known.
pub(crate) fn bar(done: u64, total: u64, width: usize) -> String {
    let halves = if total == 0 {
        0
    } else {
        (u128::from(done.min(total)) * width as u128 * 2 / u128::from(total)) as usize
    };
    let (full, half) = (halves / 2, halves % 2);
    let mut bar = "━".repeat(full);
    if half == 1 {
        bar.push('╸');
    }
    bar.push_str(&"─".repeat(width - full - half));
    bar
}

/// Bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// How many have arrived.
    pub done_bytes: u64,
    /// How many there are; 0 while that is not known.
    pub total_bytes: u64,
    /// How many arrive in a second; 0 while that is not known.
    pub bytes_per_second: u64,
}

impl Transfer {
    /// ` 45%  461 MiB / 1.0 GiB  230 MiB/s  eta 3s`, as far as it is known.
    pub(crate) fn figures(&self) -> String {
        let done = quantity::bytes(self.done_bytes);
        let mut text = if self.total_bytes == 0 {
            done
        } else {
            let percent = quantity::percent(self.done_bytes, self.total_bytes);
            format!("{percent:3}%  {done} / {}", quantity::bytes(self.total_bytes))
        };
        if self.bytes_per_second > 0 {
            text += &format!("  {}/s", quantity::bytes(self.bytes_per_second));
        }
        let left = quantity::remaining(self.done_bytes, self.total_bytes, self.bytes_per_second);
        if let Some(left) = left.filter(|left| !left.is_zero()) {
            text += &format!("  eta {}", quantity::duration(left));
        }
        text
    }

    /// A bar of `width` cells before the figures.
    pub(crate) fn line(&self, width: usize) -> String {
        format!("{}  {}", bar(self.done_bytes, self.total_bytes, width), self.figures())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_always_as_wide_as_asked() {
        for (done, total, text) in [
            (0, 100, "──────────"),
            (5, 100, "╸─────────"),
            (10, 100, "━─────────"),
            (99, 100, "━━━━━━━━━╸"),
            (100, 100, "━━━━━━━━━━"),
            (250, 100, "━━━━━━━━━━"),
            (7, 0, "──────────"),
            (u64::MAX, u64::MAX, "━━━━━━━━━━"),
        ] {
            assert_eq!(bar(done, total, 10), text, "{done} of {total}");
        }
    }

    #[test]
    fn figures_say_what_is_known() {
        const MIB: u64 = 1024 * 1024;
        let known = Transfer {
            done_bytes: 461 * MIB,
            total_bytes: 1024 * MIB,
            bytes_per_second: 230 * MIB,
        };
        assert_eq!(known.figures(), " 45%  461 MiB / 1.0 GiB  230 MiB/s  eta 3.0s");
        let open = Transfer { total_bytes: 0, ..known };
        assert_eq!(open.figures(), "461 MiB  230 MiB/s");
        let done = Transfer { done_bytes: 1024 * MIB, ..known };
        assert_eq!(done.figures(), "100%  1.0 GiB / 1.0 GiB  230 MiB/s");
        let slow = Transfer { bytes_per_second: 0, ..known };
        assert_eq!(slow.line(4), "━╸──   45%  461 MiB / 1.0 GiB");
    }
}
