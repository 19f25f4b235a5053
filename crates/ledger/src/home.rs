//! The thread that a member's ledger runs on.
//!
//! A proposal passes through half a dozen tasks on its way to the log and back. On one thread each hands over to the next
//! for the price of a queue; on several, most of them would wake a processor first, and the log would wait for that. What
//! asks the ledger, and the disk, have threads of their own.

use std::io;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Keeps the thread. When it is dropped, what still runs there is dropped as well.
#[derive(Debug)]
pub(crate) struct Home {
    handle: Handle,
    _thread: DropGuard,
}

impl Home {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let left = CancellationToken::new();
        let thread = left.clone().drop_guard();
        std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || runtime.block_on(left.cancelled()))?;
        Ok(Self { handle, _thread: thread })
    }

    /// Runs something there. What it spawns runs there, too.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        self.handle.spawn(work).await.map_err(io::Error::other)
    }
}
