//! Clients that write one thing after another, and what they saw.

use std::ops::Range;
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};

use super::Case;

/// Connections that the clients share, as an application would.
const CONNECTIONS: usize = 8;

/// Not counted.
const WARM_UP: Duration = Duration::from_secs(1);

/// What the clients of one case saw.
#[derive(Debug)]
pub(super) struct Measured {
    elapsed: Duration,
    /// Of each call.
    latencies: Vec<Duration>,
    writes_in_call: u64,
}

impl Measured {
    /// Writes, not calls.
    pub(super) fn per_second(&self) -> f64 {
        (self.latencies.len() as u64 * self.writes_in_call) as f64 / self.elapsed.as_secs_f64()
    }

    /// Writes per second, and the latencies of the middle call and of the slowest hundredth in milliseconds.
    pub(super) fn cells(&self) -> [String; 3] {
        let milliseconds = |share| format!("{:.2}", self.quantile(share).as_secs_f64() * 1e3);
        [format!("{:.0}", self.per_second()), milliseconds(0.5), milliseconds(0.99)]
    }

    /// Latency below which `share` of the calls stayed.
    fn quantile(&self, share: f64) -> Duration {
        let place = (self.latencies.len() as f64 * share) as usize;
        self.latencies.get(place).or_else(|| self.latencies.last()).copied().unwrap_or_default()
    }
}

/// Connections to one address.
pub(super) async fn connect(address: &str) -> anyhow::Result<Vec<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?.tcp_nodelay(true);
    let connections = (0..CONNECTIONS).map(|_| endpoint.connect());
    Ok(futures::future::try_join_all(connections).await?)
}

/// Runs the clients of a case, each of which calls `write` with numbers of its own again and again. A write that fails ends
/// the run.
pub(super) async fn run<F>(
    case: Case,
    channels: &[Channel],
    seconds: u64,
    write: impl Fn(Channel, Range<u64>) -> F + Clone + Send + 'static,
) -> anyhow::Result<Measured>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs(seconds);
    let Case { clients, writes_in_call } = case;
    let running: Vec<_> = (0..clients)
        .map(|client| {
            let channel = channels[client % channels.len()].clone();
            let write = write.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                let mut first = client as u64 * writes_in_call;
                loop {
                    let sent = Instant::now();
                    if sent >= end {
                        return anyhow::Ok(latencies);
                    }
                    write(channel.clone(), first..first + writes_in_call).await?;
                    if sent >= begin {
                        latencies.push(sent.elapsed());
                    }
                    first += clients as u64 * writes_in_call;
                }
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for client in running {
        latencies.extend(client.await??);
    }
    let elapsed = begin.elapsed();
    latencies.sort_unstable();
    Ok(Measured { elapsed, latencies, writes_in_call })
}
