//! `event verify`: reads all of history and checks it on this side.

use bessemer_client::Client;
use bessemer_proto::v1::{GetStatusRequest, ListEventsRequest};
use serde::Serialize;

use super::chain::{Broken, Chain, Witness};
use crate::failure::Failure;
use crate::output::print;
use crate::progress::{Plain, Screen, bar};
use crate::session::Session;

/// Events asked for at once; the API's limit.
const PAGE_SIZE: u32 = 1000;

/// Cells of the bar.
const BAR_WIDTH: usize = 30;

/// `event verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// A hash that was printed before, and its revision: history must still have it there. Repeatable
    #[arg(long = "against", value_name = "HASH@REVISION")]
    witnesses: Vec<Witness>,
}

/// A history that was found right.
#[derive(Debug, Serialize)]
pub(crate) struct Verified {
    /// How many events it has; the newest revision.
    pub events: u64,
    /// Hash of the newest one, in hexadecimal. Written down, it is a witness of all before it.
    pub hash: String,
}

impl Verify {
    /// Checks it and says so; the first event that is wrong ends it.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let verified = verify(&session.client, &self.witnesses, &mut Screen::stderr()).await?;
        if session.format.is_data() {
            return session.format.data(&verified);
        }
        print(&format!(
            "{} events, none missing, none altered\ntip {}@{}\n",
            verified.events, verified.hash, verified.events
        ))
    }
}

/// Checks all events up to the revision that the cluster has now.
pub(crate) async fn verify(
    client: &Client,
    witnesses: &[Witness],
    screen: &mut Screen,
) -> Result<Verified, Failure> {
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
        for event in &page.events {
            chain.check(event).map_err(|error| broken(&error))?;
            for witness in witnesses.iter().filter(|witness| witness.revision == event.revision) {
                chain.compare(witness).map_err(|error| broken(&error))?;
            }
        }
        if newest > u64::from(PAGE_SIZE) {
            show(screen, chain.revision(), newest);
        }
    }
    if let Some(late) = witnesses.iter().find(|witness| witness.revision > chain.revision()) {
        return Err(Failure::failed(format!(
            "revision {} of --against is not there: history ends at revision {}",
            late.revision,
            chain.revision()
        )));
    }
    Ok(Verified { events: chain.revision(), hash: chain.tip() })
}

fn broken(error: &Broken) -> Failure {
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
