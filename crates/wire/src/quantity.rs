//! Bytes, rates, durations and instants in words that fit a column.

use std::time::{Duration, SystemTime};

use prost_types::Timestamp;

/// `512 B`, `1.5 KiB`, `87 MiB`: three significant places at most, binary units.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // 1023.5 would be shown as 1024 of the smaller unit.
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 9.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// `350ms`, `3.2s`, `3m12s`, `2h05m`, `3d04h`: how long something takes.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..10 => format!("{:.1}s", duration.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `42s`, `3m`, `2h`, `5d`: how long ago, in one unit. Empty when it is not known.
#[must_use]
pub fn age(since: Option<&Timestamp>, now: SystemTime) -> String {
    let Some(elapsed) = elapsed(since, now) else { return String::new() };
    let seconds = elapsed.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Time from an instant until now; none when it is not known, zero when the clocks disagree.
#[must_use]
pub fn elapsed(since: Option<&Timestamp>, now: SystemTime) -> Option<Duration> {
    let since = SystemTime::try_from(*since?).ok()?;
    Some(now.duration_since(since).unwrap_or_default())
}

/// Time between two instants; none unless both are known.
#[must_use]
pub fn between(from: Option<&Timestamp>, to: Option<&Timestamp>) -> Option<Duration> {
    elapsed(from, SystemTime::try_from(*to?).ok()?)
}

/// RFC 3339 in UTC, to the millisecond. Empty when it is not known.
#[must_use]
pub fn instant(at: Option<&Timestamp>) -> String {
    let Some(at) = at else { return String::new() };
    let nanos = at.nanos / 1_000_000 * 1_000_000;
    Timestamp { seconds: at.seconds, nanos }.to_string()
}

/// Part of a whole, rounded down so that 100 % means all of it. 0 of an unknown total.
#[must_use]
pub fn percent(done: u64, total: u64) -> u64 {
    if total == 0 { 0 } else { (u128::from(done.min(total)) * 100 / u128::from(total)) as u64 }
}

/// How long the rest takes at this rate; none while rate or total is unknown.
#[must_use]
pub fn remaining(done: u64, total: u64, bytes_per_second: u64) -> Option<Duration> {
    if bytes_per_second == 0 || total == 0 {
        return None;
    }
    Some(Duration::from_secs(total.saturating_sub(done).div_ceil(bytes_per_second)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_three_places_and_never_reach_1024() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (10_239, "10 KiB"),
            (1_048_575, "1.0 MiB"),
            (87 * 1024 * 1024, "87 MiB"),
            (3 * 1024 * 1024 * 1024 / 2, "1.5 GiB"),
            (u64::MAX, "16384 PiB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text, "{count}");
        }
    }

    #[test]
    fn durations_read_well_at_every_scale() {
        let cases = [
            (0, "0ms"),
            (350, "350ms"),
            (3_240, "3.2s"),
            (42_000, "42s"),
            (192_000, "3m12s"),
            (7_500_000, "2h05m"),
            (273_600_000, "3d04h"),
        ];
        for (millis, text) in cases {
            assert_eq!(duration(Duration::from_millis(millis)), text, "{millis} ms");
        }
    }

    #[test]
    fn ages_have_one_unit_and_are_empty_when_unknown() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ago = |seconds: i64| Timestamp { seconds: 1_000_000 - seconds, nanos: 0 };
        for (seconds, text) in [(5, "5s"), (185, "3m"), (7300, "2h"), (432_000, "5d"), (-9, "0s")] {
            assert_eq!(age(Some(&ago(seconds)), now), text);
        }
        assert_eq!(age(None, now), "");
    }

    #[test]
    fn instants_are_rfc_3339_in_utc() {
        let at = Timestamp { seconds: 1_795_238_400, nanos: 123_456_789 };
        assert_eq!(instant(Some(&at)), "2026-11-21T05:20:00.123Z");
    }

    #[test]
    fn only_all_of_it_is_100_percent() {
        assert_eq!(percent(999, 1000), 99);
        assert_eq!(percent(1000, 1000), 100);
        assert_eq!(percent(5, 0), 0);
        assert_eq!(percent(u64::MAX, u64::MAX), 100);
    }

    #[test]
    fn the_rest_takes_what_the_rate_says() {
        assert_eq!(remaining(100, 400, 100), Some(Duration::from_secs(3)));
        assert_eq!(remaining(100, 401, 100), Some(Duration::from_secs(4)));
        assert_eq!(remaining(400, 400, 100), Some(Duration::ZERO));
        assert_eq!(remaining(100, 400, 0), None);
        assert_eq!(remaining(100, 0, 100), None);
    }
}
