//! `event tail`: events as they happen, or from a revision on.

use bessemer_proto::v1::{Event, EventFilter, WatchRequest};
use futures::StreamExt;
use serde_json::Value;

use super::{Printed, Record, describe};
use crate::failure::Failure;
use crate::output::{Format, print, quantity};
use crate::session::Session;

/// `event tail`.
#[derive(Debug, clap::Args)]
pub(crate) struct Tail {
    /// Begin with this revision; 1 is the beginning of history. Without it, with what happens next
    #[arg(long, value_name = "REVISION")]
    from: Option<u64>,
    /// Only of this node, by name or id
    #[arg(long, default_value = "", hide_default_value = true)]
    node: String,
    /// Only of this type, such as node.provision_state_changed; repeatable
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
}

impl Tail {
    /// Prints events until it is interrupted.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let mut watch = session.client.watch(WatchRequest {
            after_revision: self.from.map(|from| from.saturating_sub(1)),
            filter: Some(EventFilter {
                node: self.node,
                types: self.types,
                ..EventFilter::default()
            }),
        });
        while let Some(response) = watch.next().await {
            for event in response?.events {
                print(&line(&event, session.format)?)?;
            }
        }
        Ok(())
    }
}

/// One event: a line of text, a line of JSON, or a YAML document.
fn line(event: &Event, format: Format) -> Result<String, Failure> {
    let text = match format {
        Format::Json => serde_json::to_string(&Printed::new(event))
            .map(|text| text + "\n")
            .map_err(|error| error.to_string()),
        Format::Yaml => serde_norway::to_string(&Printed::new(event))
            .map(|text| format!("---\n{text}"))
            .map_err(|error| error.to_string()),
        Format::Name => Ok(format!("{}\n", event.revision)),
        Format::Table | Format::Wide => {
            let data = Record::of(event).map_or(Value::Null, |record| record.event.data);
            let what = describe(&event.r#type, &data);
            let at = quantity::instant(event.at.as_ref());
            let actor = if format == Format::Wide {
                format!("  {} {}", event.actor, event.command_id)
            } else {
                String::new()
            };
            Ok(format!("{:>7}  {at:<24}  {}  {what}{actor}\n", event.revision, event.subject))
        }
    };
    text.map_err(|error| Failure::failed(format!("cannot print event {}: {error}", event.revision)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_text_or_json() {
        let record = r#"{"revision":7,"subject":"node/1","sequence":2,"at":0,"actor":"ada",
            "command_id":"c","event":{"type":"node.power_changed","data":{"state":"on"}}}"#;
        let event = Event {
            revision: 7,
            subject: "node/1".into(),
            sequence: 2,
            at: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            actor: "ada".into(),
            command_id: "c".into(),
            r#type: "node.power_changed".into(),
            record: record.as_bytes().to_vec().into(),
            hash: vec![0xab; 2].into(),
            masked: false,
        };
        assert_eq!(
            line(&event, Format::Table).unwrap(),
            "      7  1970-01-01T00:00:01Z      node/1  power is on\n"
        );
        assert_eq!(
            line(&event, Format::Json).unwrap(),
            "{\"revision\":7,\"subject\":\"node/1\",\"sequence\":2,\"at\":\"1970-01-01T00:00:01Z\",\
             \"actor\":\"ada\",\"command_id\":\"c\",\"type\":\"node.power_changed\",\
             \"data\":{\"state\":\"on\"},\"hash\":\"abab\"}\n"
        );
    }
}
