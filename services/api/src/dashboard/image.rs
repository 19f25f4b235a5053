//! Images: what is prepared, in which cache, and what is being prepared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{Html, Response};
use bessemer_domain::State as ClusterState;
use bessemer_domain::node::{Node, Step};
use bessemer_proto::v1;
use bessemer_wire::quantity;
use futures::FutureExt;
use maud::{Markup, html};

use super::layout::{self, Page, Section, Tab, ago};
use super::{Dashboard, Shared, live as stream};
use crate::image::Held;

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// An image, and where it is.
struct Line<'a> {
    image: &'a v1::Image,
    caches: Vec<&'a str>,
}

/// An image that nodes wait for.
#[derive(Default)]
struct Preparing {
    nodes: usize,
    progress: Option<v1::Progress>,
}

/// `GET /images`
pub(super) async fn page(State(dashboard): Shared) -> Html<String> {
    let sections = sections(&dashboard).await;
    let page = Page { tab: Tab::Images, title: "Images", live: Some("/images/live"), scripts: &[] };
    Html(page.of(&dashboard.api, &sections).into_string())
}

/// `GET /images/live`
pub(super) async fn live(State(dashboard): Shared) -> Response {
    let shared = Arc::clone(&dashboard);
    let render = move || {
        let dashboard = Arc::clone(&shared);
        async move { sections(&dashboard).await }.boxed()
    };
    stream::sections(&dashboard, LOOK_EVERY, Box::new(render))
}

/// Names of prepared images, for who fills in a form; none when no cache answers.
pub(super) async fn prepared_names(dashboard: &Dashboard) -> Vec<String> {
    let held = dashboard.api.image_caches.held().await;
    let images = held.into_iter().filter_map(|cache| cache.images.ok()).flatten();
    let mut names: Vec<_> = images.map(|image| image.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

async fn sections(dashboard: &Dashboard) -> Vec<Section> {
    let held = dashboard.api.image_caches.held().await;
    let state = dashboard.api.ledger.state();
    let lines = lines(&held);
    let silent: Vec<_> = held.iter().filter(|cache| cache.images.is_err()).collect();
    vec![
        Section::new(
            "head",
            html! {
                div.head {
                    h1 { "Images" }
                    span.note { (lines.len()) " prepared" }
                    @for cache in silent { span.chip.failed { "image cache " (cache.url) " does not answer" } }
                }
            },
        ),
        Section::new("preparing", preparing(&in_preparation(dashboard, &state))),
        Section::new("images", table(&lines, held.len())),
    ]
}

/// Each image once, with the caches that have it; newest first.
fn lines(held: &[Held]) -> Vec<Line<'_>> {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for cache in held {
        for image in cache.images.iter().flatten() {
            let same = |line: &&mut Line<'_>| {
                line.image.manifest_digest == image.manifest_digest && line.image.name == image.name
            };
            match lines.iter_mut().find(same) {
                Some(line) => line.caches.push(&cache.url),
                None => lines.push(Line { image, caches: vec![&cache.url] }),
            }
        }
    }
    let prepared = |line: &Line<'_>| line.image.prepared_at.map(|at| at.seconds);
    lines.sort_by_key(|line| std::cmp::Reverse(prepared(line)));
    lines
}

fn table(lines: &[Line<'_>], caches: usize) -> Markup {
    html! {
        section.panel {
            @if lines.is_empty() { p.note { "None is prepared. The first deployment of an image prepares it; so does: bessemer image prepare IMAGE" } } @else {
                div.scroll tabindex="0" { table {
                    thead { tr {
                        th { "Image" } th { "Source" } th { "Format" } th.right { "Source size" } th.right { "Raw" } th.right { "Stored" }
                        th.right { "Empty" } th { "Prepared" } th { "Where" } th { "Id" }
                    } }
                    tbody { @for line in lines { (self::line(line, caches)) } }
                } }
            }
        }
    }
}

fn line(line: &Line<'_>, caches: usize) -> Markup {
    let image = line.image;
    let resolved = image.resolved.clone().unwrap_or_default();
    let source = image.spec.as_ref().map(|spec| spec.source.as_str()).unwrap_or_default();
    let id = resolved.id.get(..12).unwrap_or(&resolved.id);
    html! {
        tr {
            td { (image.name) @if image.pinned { " " span.chip { "pinned" } } }
            td.break { code { (source) } }
            td { (resolved.source_format) }
            td.right { (quantity::bytes(image.source_size_bytes)) }
            td.right { (quantity::bytes(resolved.raw_size_bytes)) }
            td.right { (quantity::bytes(resolved.pack_size_bytes)) }
            td.right { (quantity::percent(image.zero_chunk_count, image.chunk_count)) " %" }
            td { (ago(image.prepared_at.as_ref())) }
            td { (line.caches.len()) " of " (caches) @for cache in &line.caches { " " code { (cache) } } }
            td { code title=(resolved.id) { (id) } }
        }
    }
}

/// The images that nodes wait for, by their source.
fn in_preparation(dashboard: &Dashboard, state: &ClusterState) -> BTreeMap<String, Preparing> {
    let waits = |node: &&Node| {
        node.current_step().is_some_and(|(_, _, planned)| planned.step == Step::PrepareImage)
    };
    let mut all = BTreeMap::<String, Preparing>::new();
    for node in state.nodes().filter(waits) {
        let status = dashboard.api.node_message(state, node).status.unwrap_or_default();
        let image = status.deployment.and_then(|deployment| deployment.spec?.image);
        let preparing = all.entry(image.unwrap_or_default().source).or_default();
        preparing.nodes += 1;
        if let Some(progress) = status.progress.filter(|progress| progress.turn.is_none()) {
            preparing.progress = Some(progress);
        }
    }
    all
}

fn preparing(preparing: &BTreeMap<String, Preparing>) -> Markup {
    if preparing.is_empty() {
        return html! {};
    }
    html! {
        section.panel {
            h2 { "Being prepared" }
            div.scroll tabindex="0" { table {
                thead { tr { th { "Source" } th.right { "Nodes that wait" } th { "Progress" } } }
                tbody { @for (source, image) in preparing { tr {
                    td.break { code { (source) } }
                    td.right { (layout::grouped(image.nodes as u64)) }
                    td { @if let Some(progress) = &image.progress {
                        @if progress.total_bytes > 0 { progress max=(progress.total_bytes) value=(progress.done_bytes) {} " " }
                        (quantity::bytes(progress.done_bytes))
                        @if progress.total_bytes > 0 { " of " (quantity::bytes(progress.total_bytes)) }
                        @if progress.bytes_per_second > 0 { ", " (quantity::bytes(progress.bytes_per_second)) "/s" }
                    } @else { span.note { "not told yet" } } }
                } } }
            } }
        }
    }
}
