//! Pauses between attempts.

use std::time::Duration;

/// Pauses that double from a first to a longest one. A pause is between half and all of its nominal
/// length, drawn at random, so that machines which lost the same server do not return in step.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    nominal: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, nominal: first }
    }

    /// Begins with the first pause again: something worked.
    pub(crate) const fn reset(&mut self) {
        self.nominal = self.first;
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let nominal = self.nominal;
        self.nominal = (nominal * 2).min(self.longest);
        // The low bits of a random UUID are random.
        let [.., random] = uuid::Uuid::new_v4().into_bytes();
        nominal / 2 + nominal * u32::from(random) / 510
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(800));
        for nominal in [100, 200, 400, 800, 800] {
            let pause = backoff.next();
            let nominal = Duration::from_millis(nominal);
            assert!(nominal / 2 <= pause && pause <= nominal, "{pause:?} of {nominal:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
