//! Points in time.

use bessemer_domain::Timestamp;

const MICROS_PER_SECOND: u64 = 1_000_000;
const NANOS_PER_MICRO: u64 = 1_000;

/// The same point in time as a message.
#[must_use]
pub fn to_proto(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.as_micros();
    let nanos = micros % MICROS_PER_SECOND * NANOS_PER_MICRO;
    prost_types::Timestamp {
        seconds: i64::try_from(micros / MICROS_PER_SECOND)
            .expect("2^64 microseconds are fewer than 2^63 seconds"),
        nanos: i32::try_from(nanos).expect("a remainder of one second is below 10^9 nanoseconds"),
    }
}

/// The same point in time as the domain has it: cut to microseconds, and to 1970 when it is before.
#[must_use]
pub fn from_proto(at: &prost_types::Timestamp) -> Timestamp {
    let seconds = u64::try_from(at.seconds).unwrap_or_default();
    let micros = u64::try_from(at.nanos).unwrap_or_default() / NANOS_PER_MICRO;
    Timestamp::from_micros(seconds.saturating_mul(MICROS_PER_SECOND).saturating_add(micros))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_timestamp_comes_back(micros: u64) {
            let at = Timestamp::from_micros(micros);
            prop_assert_eq!(from_proto(&to_proto(at)), at);
        }

        #[test]
        fn what_is_before_1970_is_cut_to_its_first_second(seconds in i64::MIN..0, nanos: i32) {
            let at = from_proto(&prost_types::Timestamp { seconds, nanos });
            prop_assert!(at.as_micros() < 3 * MICROS_PER_SECOND, "{}", at);
        }
    }
}
