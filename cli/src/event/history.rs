//! All of history, read and checked on this side: from a cluster, or from a file that was exported.

use std::path::Path;

use bessemer_client::Client;
use bessemer_proto::v1::{Event, GetStatusRequest, ListEventsRequest};

use super::archive::Archive;
use super::chain::{Broken, Chain};
use crate::failure::Failure;
use crate::progress::{Plain, Screen, bar};

/// Events asked for at once; the API's limit.
const PAGE_SIZE: u32 = 1000;

/// Cells of the bar.
const BAR_WIDTH: usize = 30;

/// Gives every event up to the revision that the cluster has now to `take`, once it is known to be right, with the chain
/// that it ends.
pub(super) async fn of_cluster(
    client: &Client,
    screen: &mut Screen,
    mut take: impl FnMut(&Chain, &Event) -> Result<(), Failure>,
) -> Result<Chain, Failure> {
    let newest = client.get_status(GetStatusRequest {}).await?.revision;
    let mut chain = Chain::default();
    while chain.revision() < newest {
        let page = client
            .list_events(ListEventsRequest {
                after_revision: chain.revision(),
                page_size: PAGE_SIZE,
                ..ListEventsRequest::default()
            })
            .await?;
        if page.events.is_empty() {
            return Err(broken(&chain.missing()));
        }
        for event in page.events.iter().take_while(|event| event.revision <= newest) {
            chain.check(event).map_err(|error| broken(&error))?;
            take(&chain, event)?;
        }
        if newest > u64::from(PAGE_SIZE) {
            show(screen, chain.revision(), newest);
        }
    }
    Ok(chain)
}

/// The same with the events of a file, up to its end or to `until`.
pub(super) fn of_file(
    path: &Path,
    until: Option<u64>,
    mut take: impl FnMut(&Chain, &Event) -> Result<(), Failure>,
) -> Result<Chain, Failure> {
    let mut archive = Archive::open(path)?;
    let mut chain = Chain::default();
    while until.is_none_or(|until| chain.revision() < until)
        && let Some(event) = archive.next()?
    {
        chain.check(&event).map_err(|error| {
            Failure::failed(format!("the history in {} is broken at {error}", path.display()))
        })?;
        take(&chain, &event)?;
    }
    Ok(chain)
}

pub(super) fn broken(error: &Broken) -> Failure {
    Failure::failed(format!("history is broken at {error}")).hint(
        "do not trust what follows it; another member may hold the right one: \
         ask each with --api",
    )
}

fn show(screen: &mut Screen, done: u64, newest: u64) {
    let figures = format!("{done} of {newest} events");
    let live = format!("{}  {figures}", bar(done, newest, BAR_WIDTH));
    let plain = Plain { about: "history".to_owned(), stage: "checking".to_owned(), figures };
    screen.draw(&[live], &[plain]);
}
