//! How much of the time that a wait may take is over.

use bessemer_domain::Timestamp;
use bessemer_domain::effects::WaitingOn;

/// The part of its time that a wait has used: 1 at its deadline. None when nothing bounds it.
pub(crate) fn used(wait: &WaitingOn, now: Timestamp) -> Option<f64> {
    let until = wait.until?;
    let (gone, whole) = (now.since(wait.since), until.since(wait.since));
    if whole.is_zero() {
        return Some(1.0);
    }
    Some((gone.as_secs_f64() / whole.as_secs_f64()).min(1.0))
}

/// Whether more than half of its time is over, and the node should be looked at.
pub(crate) fn is_late(wait: &WaitingOn, now: Timestamp) -> bool {
    used(wait, now).is_some_and(|used| used > 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_late_past_half_its_time() {
        let at = Timestamp::from_micros;
        let wait = |until| WaitingOn { what: String::new(), since: at(100), until };
        assert_eq!(used(&wait(Some(at(300))), at(150)), Some(0.25));
        assert!(!is_late(&wait(Some(at(300))), at(200)));
        assert!(is_late(&wait(Some(at(300))), at(201)));
        assert_eq!(used(&wait(Some(at(300))), at(1000)), Some(1.0));
        assert_eq!(used(&wait(Some(at(100))), at(100)), Some(1.0));
        assert_eq!(used(&wait(None), at(1000)), None);
        // Clocks differ.
        assert_eq!(used(&wait(Some(at(300))), at(50)), Some(0.0));
    }
}
