//! Bounds how fast the cache sends. Those who read take turns of a few KiB, so each gets the same share.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};

use super::reader::Client;

/// What is sent in a turn, in bytes.
const TURN_BYTES: usize = 64 << 10;

/// By how much the sending may be ahead of the rate: timers are late by a millisecond or two, which is made up for.
const AHEAD: Duration = Duration::from_millis(20);

/// A rate that is kept, by all together who send at it.
#[derive(Debug)]
struct Pace {
    bytes_per_second: u64,
    /// When all that was granted is sent, at that rate.
    sent_at: Mutex<Instant>,
}

impl Pace {
    /// A pace of so many bytes a second; none when there is no limit, which is 0.
    fn of(bytes_per_second: u64) -> Option<Self> {
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

/// What those who read may have of what is sent.
pub(crate) struct Shares {
    all: Option<Arc<Pace>>,
    client_bytes_per_second: u64,
    /// Of clients that are being served.
    lanes: Mutex<HashMap<Client, Weak<Lane>>>,
}

/// What the responses to one client take turns by, so that many of them get no more than one.
#[derive(Debug)]
struct Lane {
    turn: tokio::sync::Mutex<()>,
    pace: Option<Pace>,
}

/// The share of one response.
pub(super) struct Share {
    all: Option<Arc<Pace>>,
    lane: Arc<Lane>,
}

impl Shares {
    /// Shares of so many bytes a second, of which each client gets so many at most; 0 is no limit.
    pub(crate) fn new(bytes_per_second: u64, client_bytes_per_second: u64) -> Self {
        let all = Pace::of(bytes_per_second).map(Arc::new);
        Self { all, client_bytes_per_second, lanes: Mutex::default() }
    }

    /// The share of a response to a client; none when nothing bounds it.
    pub(super) fn of(&self, client: Client) -> Option<Share> {
        if self.all.is_none() && self.client_bytes_per_second == 0 {
            return None;
        }
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lanes.get(&client).and_then(Weak::upgrade);
        let lane = known.unwrap_or_else(|| {
            let pace = Pace::of(self.client_bytes_per_second);
            let lane = Arc::new(Lane { turn: tokio::sync::Mutex::default(), pace });
            lanes.retain(|_, lane| lane.strong_count() > 0);
            lanes.insert(client, Arc::downgrade(&lane));
            lane
        });
        Some(Share { all: self.all.clone(), lane })
    }
}

impl Share {
    /// Waits for a turn of `bytes`.
    async fn turn(&self, bytes: usize) {
        // One response of a client at a time stands in line with the other clients.
        let _turn = self.lane.turn.lock().await;
        for pace in self.lane.pace.iter().chain(self.all.as_deref()) {
            pace.turn(bytes).await;
        }
    }
}

/// `pieces` as fast as their share allows.
pub(super) fn paced(
    pieces: impl Stream<Item = io::Result<Bytes>> + Send,
    share: Option<Share>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let share = share.map(Arc::new);
    let turn_bytes = if share.is_some() { TURN_BYTES } else { usize::MAX };
    pieces
        .map_ok(move |piece| {
            let starts = (0..piece.len()).step_by(turn_bytes);
            let turns = starts.map(move |start| {
                let end = piece.len().min(start.saturating_add(turn_bytes));
                Ok(piece.slice(start..end))
            });
            futures::stream::iter(turns)
        })
        .try_flatten()
        .then(move |turn| {
            let share = share.clone();
            async move {
                if let (Some(share), Ok(turn)) = (share, &turn) {
                    share.turn(turn.len()).await;
                }
                turn
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clients that read a megabyte each, in so many responses at once; answers when each had it.
    async fn read(shares: &Shares, responses: &[usize]) -> Vec<f64> {
        let began = tokio::time::Instant::now();
        let reads = responses.iter().enumerate().map(|(number, &responses)| async move {
            let client = Client::Deployment(uuid::Uuid::from_u128(number as u128));
            let read = (0..responses).map(|_| async {
                let piece_bytes = (1 << 20) / responses;
                let pieces = futures::stream::iter([Ok(vec![1; piece_bytes].into())]);
                let sent = paced(pieces, shares.of(client));
                let read: usize =
                    sent.try_fold(0, async |sum, it| Ok(sum + it.len())).await.unwrap();
                assert_eq!(read, piece_bytes);
            });
            futures::future::join_all(read).await;
            began.elapsed().as_secs_f64()
        });
        futures::future::join_all(reads).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_rate_is_kept_and_clients_share_evenly_however_many_responses_each_has() {
        let shares = Shares::new(8 << 20, 0);
        let seconds = read(&shares, &[1, 1, 8, 2]).await;
        let (first, last) = (
            seconds.iter().copied().fold(9.0, f64::min),
            seconds.iter().copied().fold(0.0, f64::max),
        );
        // Four megabytes at eight a second.
        assert!(last >= 0.45, "{seconds:?}");
        assert!(first > 0.8 * last, "{seconds:?}");
        assert!(shares.lanes.lock().unwrap().values().all(|lane| lane.strong_count() == 0));
    }

    #[tokio::test]
    async fn a_clients_responses_keep_its_limit_together_and_no_limit_is_none() {
        let seconds = read(&Shares::new(64 << 20, 4 << 20), &[4]).await;
        assert!(seconds[0] >= 0.2, "{seconds:?}");
        assert!(Pace::of(0).is_none());
        let shares = Shares::new(0, 0);
        assert!(shares.of(Client::Deployment(uuid::Uuid::nil())).is_none());
        read(&shares, &[1, 1]).await;
    }
}
