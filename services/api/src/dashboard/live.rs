//! What keeps a page true: a stream of server-sent events with the sections that have changed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use futures::stream::unfold;
use futures::{Stream, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::Dashboard;
use super::layout::{self, Section};

/// Makes the sections of a page as they are now.
pub(super) type Render = Box<dyn FnMut() -> BoxFuture<'static, Vec<Section>> + Send>;

/// Sections as they change, looked at every `period`. One that is slow to read is sent less often, never late.
pub(super) fn sections(dashboard: &Arc<Dashboard>, period: Duration, render: Render) -> Response {
    let mut looks = interval_at(Instant::now(), period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let shown = HashMap::<&'static str, String>::new();
    let api = Arc::clone(&dashboard.api);
    let events = unfold((looks, render, shown), move |(mut looks, mut render, mut shown)| {
        let api = Arc::clone(&api);
        async move {
            looks.tick().await;
            let mut sections = render().await;
            sections.push(layout::standing(&api));
            let mut changed = Vec::new();
            for Section { id, body } in sections {
                let html = body.into_string();
                if shown.get(id) != Some(&html) {
                    changed.push(event("section", &serde_json::json!({ "id": id, "html": html })));
                    shown.insert(id, html);
                }
            }
            Some((futures::stream::iter(changed), (looks, render, shown)))
        }
    });
    answer(dashboard, events.flatten())
}

/// One event with JSON.
pub(super) fn event(name: &str, data: &serde_json::Value) -> Event {
    Event::default().event(name).data(data.to_string())
}

/// The stream as an answer; it ends when the member stops.
pub(super) fn answer(
    dashboard: &Arc<Dashboard>,
    events: impl Stream<Item = Event> + Send + 'static,
) -> Response {
    let stopped = dashboard.api.stopping.clone().cancelled_owned();
    let events = events.take_until(stopped).map(Ok::<_, Infallible>);
    Sse::new(events.boxed()).keep_alive(KeepAlive::default()).into_response()
}
