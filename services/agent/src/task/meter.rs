//! How far a task is: counted by who does it, read by who reports it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bessemer_proto::v1::Progress;

/// Over how long the rate is averaged: calm enough to read, quick enough to show a stall.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// Longest message of a task: a line on a screen or two.
const MESSAGE_CHARACTERS_MAX: usize = 200;

/// Counts a task's bytes. Shared by the threads that do the work.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    total_bytes: AtomicU64,
    done_bytes: AtomicU64,
    wire_bytes: AtomicU64,
    message: Mutex<String>,
}

impl Meter {
    /// What all of the work will have done.
    pub(crate) fn set_total(&self, bytes: u64) {
        self.total_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that are now right on the disk.
    pub(crate) fn add_done(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Begins again at nothing done.
    pub(crate) fn restart(&self) {
        self.done_bytes.store(0, Ordering::Relaxed);
    }

    /// Body bytes that came over the network.
    pub(crate) fn add_wire(&self, bytes: u64) {
        self.wire_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What the work says of itself.
    pub(crate) fn set_message(&self, message: &str) {
        let short = message.chars().take(MESSAGE_CHARACTERS_MAX).collect();
        *self.message.lock().unwrap_or_else(PoisonError::into_inner) = short;
    }

    fn message(&self) -> String {
        self.message.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn done_bytes(&self) -> u64 {
        self.done_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn wire_bytes(&self) -> u64 {
        self.wire_bytes.load(Ordering::Relaxed)
    }

    fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }
}

/// Turns readings of a meter into reports with a rate.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    readings: VecDeque<(Instant, u64)>,
}

impl Reporter {
    /// Reads `meter` at `now`.
    pub(crate) fn report(&mut self, meter: &Meter, step: &str, now: Instant) -> Progress {
        let done_bytes = meter.done_bytes();
        // One reading older than the window stays, so that the rate spans all of it.
        while self.readings.get(1).is_some_and(|(at, _)| now - *at >= RATE_WINDOW) {
            self.readings.pop_front();
        }
        let bytes_per_second = self.readings.front().map_or(0, |(at, before)| {
            let seconds = (now - *at).as_secs_f64();
            let grown = done_bytes.saturating_sub(*before);
            if seconds > 0.0 { (grown as f64 / seconds) as u64 } else { 0 }
        });
        self.readings.push_back((now, done_bytes));
        Progress {
            step: step.to_owned(),
            done_bytes,
            total_bytes: meter.total_bytes(),
            wire_bytes: meter.wire_bytes(),
            bytes_per_second,
            message: meter.message(),
            ..Progress::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_two_seconds() {
        let (meter, mut reporter) = (Meter::default(), Reporter::default());
        meter.set_total(10_000);
        let start = Instant::now();
        let mut rates = Vec::new();
        for quarter in 0..24 {
            let at = start + Duration::from_millis(250) * quarter;
            rates.push(reporter.report(&meter, "deploy.write_image", at).bytes_per_second);
            // 400 bytes a second for three seconds, then a stall.
            meter.add_done(if quarter < 12 { 100 } else { 0 });
        }
        assert_eq!(rates[0], 0);
        assert_eq!((rates[1], rates[8], rates[12]), (400, 400, 400));
        assert_eq!((rates[16], rates[23]), (200, 0));
    }
}
