//! A TCP proxy that is slow, cuts connections or damages what passes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Bytes moved at once; small enough that a rate is kept smoothly.
const PIECE_BYTES: usize = 16 * 1024;

/// What the kernel keeps of a server's answer, in bytes, give or take a factor of two.
const RECEIVE_BUFFER_BYTES: u32 = 128 * 1024;

/// Forwards connections to a server. What comes back passes the faults that are set.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<Faults>,
    accepting: AbortHandle,
}

#[derive(Debug, Default)]
struct Faults {
    /// 0 is no limit.
    bytes_per_second: AtomicU64,
    /// Damage the byte at this distance from now; 0 is none.
    damage_after: AtomicU64,
    damaged: AtomicU64,
    passed: AtomicU64,
}

impl Proxy {
    /// Listens on a free port of one of the test's own addresses and forwards to `server`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(own: Ipv4Addr, server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((own, 0)).await?;
        let address = listener.local_addr()?;
        let faults = Arc::new(Faults::default());
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&faults))).abort_handle();
        Ok(Self { address, faults, accepting })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets each connection have that many bytes a second; 0 lifts the limit.
    pub fn limit_bytes_per_second(&self, rate: u64) {
        self.faults.bytes_per_second.store(rate, Ordering::Relaxed);
    }

    /// Flips one bit in the byte that passes after so many others.
    pub fn damage_byte_after(&self, bytes: u64) {
        self.faults.damage_after.store(bytes.max(1), Ordering::Relaxed);
    }

    /// Bytes damaged so far.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.faults.damaged.load(Ordering::Relaxed)
    }

    /// Bytes that came back from the server so far.
    #[must_use]
    pub fn passed_bytes(&self) -> u64 {
        self.faults.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, faults: Arc<Faults>) {
    // Connections end with the proxy.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let faults = Arc::clone(&faults);
        connections.spawn(async move {
            // A server that is down is a refused connection to the client, as without a proxy.
            if let Ok(server) = connect(server).await {
                carry(client, server, &faults).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// Connects with a small buffer: what gathers in it has left the server, and a proxy that holds it back would otherwise hold
/// megabytes, more than some tests move.
async fn connect(server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    socket.connect(server).await
}

async fn carry(client: TcpStream, server: TcpStream, faults: &Faults) {
    client.set_nodelay(true).ok();
    server.set_nodelay(true).ok();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::io::copy(&mut from_client, &mut to_server);
    let down = async {
        let mut piece = vec![0; PIECE_BYTES];
        let mut due = Instant::now();
        loop {
            let count = from_server.read(&mut piece).await?;
            if count == 0 {
                return std::io::Result::Ok(());
            }
            faults.pass(&mut piece[..count]);
            if let Some(next) = faults.due_after(due, count) {
                due = next;
                sleep_until(due).await;
            }
            to_client.write_all(&piece[..count]).await?;
        }
    };
    // Either side may hang up, and both are then done.
    tokio::select! { _ = up => {}, _ = down => {} }
}

impl Faults {
    fn pass(&self, piece: &mut [u8]) {
        let count = piece.len() as u64;
        self.passed.fetch_add(count, Ordering::Relaxed);
        let distance = self.damage_after.load(Ordering::Relaxed);
        if distance == 0 {
            return;
        }
        if distance > count {
            self.damage_after.store(distance - count, Ordering::Relaxed);
            return;
        }
        if let Some(byte) = usize::try_from(distance - 1).ok().and_then(|at| piece.get_mut(at)) {
            *byte ^= 0x10;
            self.damaged.fetch_add(1, Ordering::Relaxed);
        }
        self.damage_after.store(0, Ordering::Relaxed);
    }

    /// When a piece may pass so that the rate is kept, if there is one; idle time is not saved up.
    fn due_after(&self, last: Instant, bytes: usize) -> Option<Instant> {
        let rate = self.bytes_per_second.load(Ordering::Relaxed);
        let takes = (bytes as u64 * 1_000_000_000).checked_div(rate).map(Duration::from_nanos)?;
        Some(last.max(Instant::now().checked_sub(takes).unwrap_or(last)) + takes)
    }
}
