//! `node history`: what happened to a node, when, and how long after what came before.

use bessemer_client::Client;
use bessemer_proto::v1::{Event, EventFilter, ListEventsRequest};
use serde_json::Value;

use crate::event::{Printed, Record, describe};
use crate::failure::Failure;
use crate::output::{Table, print, quantity};
use crate::session::Session;

/// Events asked for at once; the API's limit.
const PAGE_SIZE: u32 = 1000;

/// `node history`.
#[derive(Debug, clap::Args)]
pub(crate) struct History {
    /// Name or id
    node: String,
}

impl History {
    /// Reads all of it and prints it.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let events = of_node(&session.client, &self.node).await?;
        if session.format.is_data() {
            return session.format.data(&events.iter().map(Printed::new).collect::<Vec<_>>());
        }
        print(&timeline(&events).render())
    }
}

/// All events of a node, in order.
pub(crate) async fn of_node(client: &Client, node: &str) -> Result<Vec<Event>, Failure> {
    let filter = EventFilter { node: node.to_owned(), ..EventFilter::default() };
    let mut events: Vec<Event> = Vec::new();
    loop {
        let page = client
            .list_events(ListEventsRequest {
                after_revision: events.last().map_or(0, |event| event.revision),
                page_size: PAGE_SIZE,
                filter: Some(filter.clone()),
                after_sequence: events.last().map_or(0, |event| event.sequence),
            })
            .await?;
        let is_last = !page.more || page.events.is_empty();
        events.extend(page.events);
        if is_last {
            return Ok(events);
        }
    }
}

/// One line for each event.
pub(crate) fn timeline(events: &[Event]) -> Table {
    let mut table = Table::new(["TIME", "AFTER", "EVENT", "WHAT", "BY"]);
    let mut before: Option<&Event> = None;
    for event in events {
        let after = before.and_then(|before| {
            quantity::between(before.at.as_ref(), event.at.as_ref())
                .map(|after| format!("+{}", quantity::duration(after)))
        });
        let data = Record::of(event).map_or(Value::Null, |record| record.event.data);
        table.row(vec![
            quantity::instant(event.at.as_ref()),
            after.unwrap_or_default(),
            event.r#type.clone(),
            describe(&event.r#type, &data),
            event.actor.clone(),
        ]);
        before = Some(event);
    }
    table
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn a_timeline_tells_when_and_how_long_after() {
        let event = |sequence, millis: i64, kind: &str, data: &str| Event {
            sequence,
            at: Some(Timestamp {
                seconds: millis / 1000,
                nanos: (millis % 1000 * 1_000_000) as i32,
            }),
            actor: "ada".into(),
            r#type: kind.into(),
            record: format!(
                r#"{{"revision":1,"subject":"node/1","sequence":{sequence},"at":0,"actor":"ada",
                "command_id":"c","event":{{"type":"{kind}","data":{data}}}}}"#
            )
            .into_bytes()
            .into(),
            ..Event::default()
        };
        let events = [
            event(1, 1000, "node.created", r#"{"spec":{"driver":"fake"}}"#),
            event(2, 3500, "node.power_changed", r#"{"state":"on"}"#),
        ];
        let expected = "\
TIME                      AFTER  EVENT               WHAT                       BY
1970-01-01T00:00:01Z      -      node.created        enrolled with driver fake  ada
1970-01-01T00:00:03.500Z  +2.5s  node.power_changed  power is on                ada
";
        assert_eq!(timeline(&events).render(), expected);
    }
}
