//! What all pages have in common: head, navigation, where this member stands, and the ways to show a value.

use bessemer_domain::Timestamp;
use bessemer_domain::node::ProvisionState;
use bessemer_wire::{quantity, time};
use maud::{DOCTYPE, Markup, html};
use prost_types::Timestamp as ProtoTimestamp;

use super::assets;
use super::phase::Phase;
use crate::api::Api;
use crate::health;

/// The pages that the navigation leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tab {
    Fleet,
    Stuck,
    Images,
    Cluster,
    Events,
    /// Reached from another page.
    None,
}

const TABS: [(Tab, &str, &str); 5] = [
    (Tab::Fleet, "/", "Fleet"),
    (Tab::Stuck, "/stuck", "Waiting"),
    (Tab::Images, "/images", "Images"),
    (Tab::Cluster, "/cluster", "Cluster"),
    (Tab::Events, "/events", "Events"),
];

/// A part of a page that is replaced when it has changed.
#[derive(Debug)]
pub(super) struct Section {
    /// Names it in the page.
    pub(super) id: &'static str,
    pub(super) body: Markup,
}

impl Section {
    pub(super) const fn new(id: &'static str, body: Markup) -> Self {
        Self { id, body }
    }
}

/// A whole page.
#[derive(Debug)]
pub(super) struct Page<'a> {
    pub(super) tab: Tab,
    pub(super) title: &'a str,
    /// Where its stream is; none when nothing on it changes.
    pub(super) live: Option<&'a str>,
    /// Scripts beside those of all pages.
    pub(super) scripts: &'a [&'a str],
}

impl Page<'_> {
    /// The page with these sections, below where the member stands.
    pub(super) fn of(&self, api: &Api, sections: &[Section]) -> Markup {
        let main = html! { @for section in sections { (placed(section)) } };
        self.with(api, &main)
    }

    /// The page with this content.
    pub(super) fn with(&self, api: &Api, main: &Markup) -> Markup {
        document(
            self.title,
            self.scripts,
            self.live,
            &html! {
                header.top {
                    a.brand href="/" { img src=(assets::url("icon.svg")) alt="" width="18" height="18"; "Bessemer" }
                    nav aria-label="Pages" {
                        @for (tab, url, name) in TABS {
                            a href=(url) aria-current=[(tab == self.tab).then_some("page")] { (name) }
                        }
                    }
                    div.grow {}
                    (placed(&standing(api)))
                    button.quiet #theme type="button" hidden title="Dark or light" aria-label="Dark or light" { "◑" }
                }
                main #main { (main) }
            },
        )
    }
}

/// A page without navigation, for answers that need no member.
pub(super) fn bare(title: &str, main: &Markup) -> Markup {
    document(title, &[], None, &html! { main #main { (main) } })
}

fn document(title: &str, scripts: &[&str], live: Option<&str>, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Bessemer" }
                link rel="icon" href=(assets::url("icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(assets::url("style.css"));
                // Before anything is painted, or the page would flash.
                script src=(assets::url("theme.js")) {}
                script src=(assets::url("live.js")) defer {}
                @for script in scripts { script src=(assets::url(script)) defer {} }
            }
            body data-live=[live] {
                a.skip href="#main" { "To the content" }
                (body)
            }
        }
    }
}

/// The section in its place.
pub(super) fn placed(section: &Section) -> Markup {
    html! { div.section data-section=(section.id) { (section.body) } }
}

/// Which member made the page, and how old what it shows may be.
pub(super) fn standing(api: &Api) -> Section {
    let status = api.ledger.status();
    let revision = api.ledger.look(|state| state.tip().revision);
    let last = status.last_log_index.unwrap_or_default();
    let behind = last.saturating_sub(status.applied_index.unwrap_or_default());
    let role = match status.leader {
        Some(leader) if leader == status.member_id => "leads".to_owned(),
        Some(leader) => format!("follows member {leader}"),
        None => String::new(),
    };
    let title = "Pages are made from this member's own copy of the state, which may be behind the leader's by a moment";
    Section::new(
        "standing",
        html! {
            div.standing title=(title) {
                @if let Err(reason) = health::of_use(&status) {
                span.chip.failed { "member " (status.member_id) ": " (reason) "; this may be old, and nothing can be changed" }
            } @else {
                    span.note { "member " (status.member_id) " " (role) }
                    span.note { "revision " (grouped(revision.0)) }
                    @if behind > 0 { span.chip.busy { (grouped(behind)) " entries behind" } }
                }
            }
        },
    )
}

/// A number whose thousands can be told.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            // A narrow space that does not break.
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A provision state, with colour and mark.
pub(super) fn state_chip(state: &str) -> Markup {
    let phase = state.parse::<ProvisionState>().map_or(Phase::Idle, Phase::of);
    html! { span class={ "chip " (phase.name()) } { span.mark aria-hidden="true" { (phase.mark()) } (state) } }
}

/// A point in time, told by how long it is from now; the script keeps that true.
pub(super) fn ago(at: Option<&ProtoTimestamp>) -> Markup {
    relative(at, "ago")
}

/// A point in time to come.
pub(super) fn until(at: Option<&ProtoTimestamp>) -> Markup {
    relative(at, "until")
}

/// How long something has lasted that began then.
pub(super) fn lasting(at: Option<&ProtoTimestamp>) -> Markup {
    relative(at, "for")
}

fn relative(at: Option<&ProtoTimestamp>, kind: &str) -> Markup {
    let Some(at) = at else { return html! { span.note { "–" } } };
    let instant = quantity::instant(Some(at));
    html! { time datetime=(instant) title=(instant) data-relative=(kind) { (clock(&instant)) } }
}

/// A point in time as it is.
pub(super) fn instant(at: Timestamp) -> Markup {
    let instant = quantity::instant(Some(&time::to_proto(at)));
    html! { time datetime=(instant) { (clock(&instant)) } }
}

/// `2026-11-21T05:20:00.123Z` without what a person does not read.
fn clock(instant: &str) -> String {
    instant.split('.').next().unwrap_or(instant).trim_end_matches('Z').replace('T', " ")
}

/// A list of terms and what they are; terms without a value are left out.
pub(super) fn facts(facts: Vec<(&str, Markup)>) -> Markup {
    html! {
        dl.facts {
            @for (term, value) in facts {
                @if !value.0.is_empty() { div { dt { (term) } dd { (value) } } }
            }
        }
    }
}

/// Text, or nothing.
pub(super) fn text(text: &str) -> Markup {
    html! { (text) }
}

/// Text to copy, or nothing.
pub(super) fn code(text: &str) -> Markup {
    if text.is_empty() {
        html! {}
    } else {
        html! { code { (text) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_can_be_told() {
        let spaced = |number| grouped(number).replace('\u{202f}', " ");
        assert_eq!([spaced(0), spaced(999), spaced(1000)], ["0", "999", "1 000"]);
        assert_eq!(spaced(1_234_567), "1 234 567");
    }

    #[test]
    fn what_a_page_shows_is_text() {
        let shown = state_chip("<script>alert(1)</script>").into_string();
        assert!(!shown.contains("<script>"), "{shown}");
    }
}
