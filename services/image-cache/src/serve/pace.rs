//! Bounds how fast the cache sends. Those who read take turns of a few KiB, so each gets the same share.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};

/// What is sent in a turn, in bytes.
const TURN_BYTES: usize = 64 << 10;

/// By how much the sending may be ahead of the rate: timers are late by a millisecond or two, which is made up for.
const AHEAD: Duration = Duration::from_millis(20);

/// A rate that is kept, by all together who send at it.
#[derive(Debug)]
pub(crate) struct Pace {
    bytes_per_second: u64,
    /// When all that was granted is sent, at that rate.
    sent_at: Mutex<Instant>,
}

impl Pace {
    /// A pace of so many bytes a second; none when there is no limit, which is 0.
    pub(crate) fn of(bytes_per_second: u64) -> Option<Self> {
        let sent_at = Mutex::new(Instant::now());
        (bytes_per_second > 0).then_some(Self { bytes_per_second, sent_at })
    }

    /// Waits for a turn of `bytes`. First come, first served: who has had a turn is behind all who wait for theirs.
    async fn turn(&self, bytes: usize) {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        let due = {
            let mut sent_at = self.sent_at.lock().unwrap_or_else(PoisonError::into_inner);
            *sent_at = (*sent_at).max(Instant::now()) + cost;
            *sent_at - AHEAD
        };
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
    }
}

/// `pieces` at the pace of each of `paces`.
pub(super) fn paced(
    pieces: impl Stream<Item = io::Result<Bytes>> + Send,
    paces: Arc<[Arc<Pace>]>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    pieces
        .map_ok(|piece| {
            let starts = (0..piece.len()).step_by(TURN_BYTES);
            let turns = starts
                .map(move |start| Ok(piece.slice(start..piece.len().min(start + TURN_BYTES))));
            futures::stream::iter(turns)
        })
        .try_flatten()
        .then(move |turn| {
            let paces = Arc::clone(&paces);
            async move {
                if let Ok(turn) = &turn {
                    for pace in paces.iter() {
                        pace.turn(turn.len()).await;
                    }
                }
                turn
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a megabyte in pieces of `piece_bytes`; answers when it was there.
    async fn read(paces: Vec<Arc<Pace>>, piece_bytes: usize) -> Duration {
        let began = tokio::time::Instant::now();
        let pieces = (0..(1 << 20) / piece_bytes).map(move |_| Ok(vec![1; piece_bytes].into()));
        let sent = paced(futures::stream::iter(pieces), paces.into());
        let read: usize = sent.try_fold(0, async |sum, turn| Ok(sum + turn.len())).await.unwrap();
        assert_eq!(read, 1 << 20);
        began.elapsed()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_rate_is_kept_and_shares_are_even_whatever_the_pieces() {
        let pace = Arc::new(Pace::of(8 << 20).unwrap());
        let readers =
            [1 << 20, 1 << 16, 1 << 18, 1 << 19].map(|size| read(vec![Arc::clone(&pace)], size));
        let seconds: Vec<_> =
            futures::future::join_all(readers).await.iter().map(Duration::as_secs_f64).collect();
        let (first, last) = (
            seconds.iter().copied().fold(9.0, f64::min),
            seconds.iter().copied().fold(0.0, f64::max),
        );
        // Four megabytes at eight a second.
        assert!(last >= 0.45, "{seconds:?}");
        assert!(first > 0.8 * last, "{seconds:?}");
    }

    #[tokio::test]
    async fn the_slowest_pace_counts_and_no_limit_is_none() {
        let (all, own) = (Pace::of(64 << 20).unwrap(), Pace::of(4 << 20).unwrap());
        let elapsed = read(vec![Arc::new(all), Arc::new(own)], 1 << 18).await;
        assert!(elapsed >= Duration::from_millis(200), "{elapsed:?}");
        assert!(Pace::of(0).is_none());
        read(Vec::new(), 1 << 20).await;
    }
}
