//! Rows of the map as nodes change.
//!
//! Follows the ledger's newest revision, at most so often; what happened in between is read from the store, and the nodes
//! that it was about are sent as they are now. Whoever falls far behind is told to fetch all of them instead.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use bessemer_domain::ids::NodeId;
use bessemer_domain::{Revision, Subject, Tip};
use futures::stream::{self, Stream, StreamExt, unfold};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::row;
use crate::dashboard::{Dashboard, layout, live};

/// Shortest time between two messages: what an eye takes for at once.
const MESSAGE_EVERY: Duration = Duration::from_millis(150);

/// Longest time between two looks at what no revision tells: charts, and where the member stands.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Events that are read for one message; who is further behind fetches all rows.
const EVENTS_MAX: u64 = 5_000;

/// The one field of a record that is needed.
#[derive(Deserialize)]
struct About {
    subject: Subject,
}

/// Nodes that something happened to.
enum Touched {
    Some(BTreeSet<NodeId>),
    /// The ring moved, or too much happened to say what.
    Any,
}

struct Follower {
    dashboard: Arc<Dashboard>,
    tips: watch::Receiver<Tip>,
    after: Revision,
    /// When the next message may be sent.
    not_before: Instant,
    looked_at: Instant,
    /// What was sent of the sections last, so that only what changed is sent.
    sections: Vec<(&'static str, String)>,
}

pub(super) fn follow(dashboard: Arc<Dashboard>) -> impl Stream<Item = Event> + Send {
    let tips = dashboard.api.ledger.applied();
    let after = tips.borrow().revision;
    let looked_at = Instant::now();
    let sections = Vec::new();
    let follower = Follower { dashboard, tips, after, not_before: looked_at, looked_at, sections };
    // Whatever happened before the stream began is in the rows that are fetched once it has.
    let begin = stream::once(std::future::ready(live::event("begin", &json!(after.0))));
    let changes = unfold(follower, |mut follower| async move {
        let events = follower.next().await?;
        Some((stream::iter(events), follower))
    });
    begin.chain(changes.flatten())
}

impl Follower {
    async fn next(&mut self) -> Option<Vec<Event>> {
        sleep_until(self.not_before).await;
        let after = self.after;
        let look = self.looked_at + LOOK_EVERY;
        let moved = async {
            let tip = self.tips.wait_for(|tip| tip.revision > after).await;
            tip.map(|tip| tip.revision)
        };
        let tip = match timeout_at(look, moved).await {
            // The state machine has ended.
            Ok(Err(_)) => return None,
            Ok(Ok(tip)) => Some(tip),
            Err(_elapsed) => None,
        };
        let mut events = Vec::new();
        if let Some(tip) = tip {
            events.push(self.rows(tip));
            self.after = tip;
            self.not_before = Instant::now() + MESSAGE_EVERY;
        }
        if Instant::now() >= look {
            self.looked_at = Instant::now();
            events.extend(self.changed_sections());
        }
        Some(events)
    }

    /// The rows that events up to `tip` were about.
    fn rows(&self, tip: Revision) -> Event {
        let Touched::Some(nodes) = self.touched(tip) else {
            return live::event("reset", &json!(tip.0));
        };
        self.dashboard.api.ledger.look(|state| {
            let (mut rows, mut gone) = (Vec::new(), Vec::new());
            for id in nodes {
                match state.node(id) {
                    Some(node) => rows.push(row::row(state, node)),
                    None => gone.push(id.to_string()),
                }
            }
            live::event("rows", &json!({ "revision": tip.0, "rows": rows, "gone": gone }))
        })
    }

    fn touched(&self, tip: Revision) -> Touched {
        if tip.0 - self.after.0 > EVENTS_MAX {
            return Touched::Any;
        }
        let (mut nodes, mut after) = (BTreeSet::new(), self.after);
        while after < tip {
            let Ok(batch) = self.dashboard.api.ledger.events_after(after, EVENTS_MAX as usize)
            else {
                return Touched::Any;
            };
            for stored in &batch {
                match serde_json::from_slice(&stored.record) {
                    Ok(About { subject: Subject::Node(id) }) => drop(nodes.insert(id)),
                    Ok(About {
                        subject:
                            Subject::Port(_)
                            | Subject::Cluster
                            | Subject::Allocation(_)
                            | Subject::Template(_),
                    }) => {}
                    Ok(About { subject: Subject::Conductor(_) }) | Err(_) => return Touched::Any,
                }
                after = stored.revision;
            }
            if batch.is_empty() {
                break;
            }
        }
        Touched::Some(nodes)
    }

    fn changed_sections(&mut self) -> Vec<Event> {
        let sections = [super::charts(&self.dashboard), layout::standing(&self.dashboard.api)];
        let made: Vec<_> =
            sections.into_iter().map(|section| (section.id, section.body.into_string())).collect();
        let changed = made.iter().filter(|section| !self.sections.contains(section));
        let events = changed
            .map(|(id, html)| live::event("section", &json!({ "id": id, "html": html })))
            .collect();
        self.sections = made;
        events
    }
}
