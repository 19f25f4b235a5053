//! Wall clocks: each host has its own, they differ, and they jump.

use std::cell::Cell;
use std::time::Duration;

use bessemer_domain::Timestamp;

/// What wall clocks show when a run begins, more or less: 2026-01-01.
const EPOCH_MICROS: u64 = 1_767_225_600_000_000;

/// Farthest that a host's clock is off, either way. A step's deadline is judged by the clock of whoever drives it, and
/// the shortest limit is a minute: clocks that differ by more than that end steps early, which is not simulated.
pub(crate) const CLOCK_OFF_MAX: Duration = Duration::from_secs(20);

/// A host's clock.
#[derive(Debug, Default)]
pub(crate) struct WallClock {
    ahead: Cell<Duration>,
}

impl WallClock {
    /// Shows the time from now on as `ahead` of a clock that is as far behind as can be.
    pub(crate) fn set(&self, ahead: Duration) {
        self.ahead.set(ahead);
    }

    pub(crate) fn read(&self, monotonic: Duration) -> Timestamp {
        Timestamp::from_micros(EPOCH_MICROS) + monotonic + self.ahead.get()
    }
}
