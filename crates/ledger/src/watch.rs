//! Follows history: what is stored, then what comes.

use std::sync::Arc;

use bessemer_domain::{Revision, Tip};
use futures::StreamExt;
use futures::stream::{BoxStream, try_unfold};
use tokio::sync::watch;

use crate::WatchError;
use crate::store::{Store, StoredEvent};

/// Events that are handed over together.
const EVENTS_AT_ONCE_MAX: usize = 256;

struct Place {
    store: Arc<Store>,
    tips: watch::Receiver<Tip>,
    after: Revision,
}

/// Events after `after`, for ever. A member that is behind `after` waits until it gets there.
pub(crate) fn follow(
    store: Arc<Store>,
    tips: watch::Receiver<Tip>,
    after: Revision,
) -> BoxStream<'static, Result<Vec<StoredEvent>, WatchError>> {
    try_unfold(Place { store, tips, after }, |mut place| async move {
        let after = place.after;
        let reached = place.tips.wait_for(|tip| tip.revision > after).await;
        let upto = reached
            .map(|tip| tip.revision)
            .map_err(|_| WatchError::Stopped { resume_after: after })?;
        let events = place.store.events(after, upto, EVENTS_AT_ONCE_MAX)?;
        if let Some(last) = events.last() {
            place.after = last.revision;
        }
        Ok(Some((events, place)))
    })
    .boxed()
}
