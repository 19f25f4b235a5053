//! `Range` headers of one range, the only kind that is served.

use std::ops::Range;

/// What a `Range` header asks of a body.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// All of it: no header, or one that RFC 9110 lets a server ignore.
    Whole,
    /// These bytes, not empty.
    Part(Range<u64>),
    /// Bytes that do not exist.
    Unsatisfiable,
}

/// Reads a `Range` header for a body of `total_bytes`.
pub(super) fn parse(header: Option<&str>, total_bytes: u64) -> Wanted {
    let Some((first, last)) = header
        .and_then(|header| header.strip_prefix("bytes="))
        .filter(|ranges| !ranges.contains(','))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Wanted::Whole;
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => return Wanted::Whole,
        (Ok(first), Ok(last)) => first..last.saturating_add(1).min(total_bytes),
        (Ok(first), Err(_)) if last.is_empty() => first..total_bytes,
        (Err(_), Ok(suffix)) if first.is_empty() => total_bytes.saturating_sub(suffix)..total_bytes,
        _ => return Wanted::Whole,
    };
    if range.start < range.end { Wanted::Part(range) } else { Wanted::Unsatisfiable }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (header, expected) in [
            (None, Wanted::Whole),
            (Some("bytes=0-9"), Wanted::Part(0..10)),
            (Some("bytes=5-5"), Wanted::Part(5..6)),
            (Some("bytes=90-"), Wanted::Part(90..100)),
            (Some("bytes=90-500"), Wanted::Part(90..100)),
            (Some("bytes=-10"), Wanted::Part(90..100)),
            (Some("bytes=-500"), Wanted::Part(0..100)),
            (Some("bytes=0-18446744073709551615"), Wanted::Part(0..100)),
            (Some("bytes=100-"), Wanted::Unsatisfiable),
            (Some("bytes=-0"), Wanted::Unsatisfiable),
            (Some("bytes=9-5"), Wanted::Whole),
            (Some("bytes=0-1,5-6"), Wanted::Whole),
            (Some("bytes=x-"), Wanted::Whole),
            (Some("bytes=-"), Wanted::Whole),
            (Some("items=0-1"), Wanted::Whole),
        ] {
            assert_eq!(parse(header, 100), expected, "{header:?}");
        }
        assert_eq!(parse(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }
}
