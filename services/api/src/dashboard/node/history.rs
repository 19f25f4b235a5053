//! What happened to a node: who asked for it, by which command, and the records themselves.

use bessemer_domain::{Event, EventRecord};
use bessemer_ledger::StoredEvent;
use maud::{Markup, html};

use super::Known;
use crate::dashboard::event::{described, masked_text};
use crate::dashboard::layout;

/// An event that can be read, and its record as it is stored.
pub(super) struct Read<'a> {
    pub(super) record: EventRecord,
    stored: &'a StoredEvent,
}

/// The events that this version knows.
pub(super) fn read(events: &[StoredEvent]) -> Vec<Read<'_>> {
    let read = |stored| Some(Read { record: crate::event::filter::record(stored).ok()?, stored });
    events.iter().filter_map(read).collect()
}

/// What is put in bold: where the node went, and what went wrong.
const fn is_turning_point(event: &Event) -> bool {
    matches!(
        event,
        Event::ProvisionStateChanged { .. }
            | Event::StepFailed { .. }
            | Event::PowerFailed { .. }
            | Event::PlanAborted { .. }
    )
}

pub(super) fn history(events: &[Read<'_>], known: &Known) -> Markup {
    let id = known.metadata().id;
    html! {
        section.panel {
            h2 { "History" }
            div.scroll tabindex="0" { table.history {
                thead { tr { th { "When (UTC)" } th { "What" } th { "Who" } th { "Command" } th.right { "Revision" } } }
                tbody {
                    @for event in events.iter().rev() {
                        @let record = &event.record;
                        tr {
                            td.nowrap { (layout::instant(record.at)) }
                            td {
                                details data-key=(record.revision) {
                                    summary class=[is_turning_point(&record.event).then_some("strong")] { (described(record)) }
                                    pre { (masked_text(&event.stored.record)) }
                                }
                            }
                            td { (record.actor) }
                            td { code title=(record.command_id) { (record.command_id.to_string()[..8]) } }
                            td.right { (record.revision) }
                        }
                    }
                }
            } }
            p.note { "The newest " (events.len()) ". " a href=(format!("/events?node={id}")) { "All of them" } }
        }
    }
}
