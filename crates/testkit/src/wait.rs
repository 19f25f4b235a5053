//! Waiting for conditions.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Pause between looks: short beside anything that is waited for, long beside the cost of a look.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks again and again until `look` finds what it looks for.
///
/// # Errors
/// After `limit`, naming `what` and what the last look saw.
pub async fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let last = match look().await {
            Ok(found) => return Ok(found),
            Err(last) => last,
        };
        if Instant::now() >= deadline {
            anyhow::bail!("no {what} within {limit:?}; last seen: {last}");
        }
        sleep(PAUSE).await;
    }
}
