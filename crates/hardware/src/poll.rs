//! Waiting until a machine is as asked.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::HardwareError;

/// How long a power state may take to change: Ironic's `power_state_change_timeout`.
pub(crate) const POWER_LIMIT: Duration = Duration::from_secs(60);

/// First pause between two looks; doubled up to [`PAUSE_MAX`]. Simulators are done within it, servers take seconds.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest pause: a BMC is a slow computer that has others to answer.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Looks until `look` finds what it looks for; `None` when it has not within `limit`.
///
/// # Errors
/// The look's own.
pub(crate) async fn until<T, F>(
    limit: Duration,
    look: impl Fn() -> F,
) -> Result<Option<T>, HardwareError>
where
    F: Future<Output = Result<Option<T>, HardwareError>>,
{
    let deadline = Instant::now() + limit;
    let mut pause = PAUSE;
    loop {
        if let Some(found) = look().await? {
            return Ok(Some(found));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
