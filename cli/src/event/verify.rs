//! `event verify`: reads all of history and checks it on this side.

use std::path::PathBuf;

use bessemer_client::Client;
use bessemer_proto::v1::Event;
use serde::Serialize;

use super::chain::{Chain, Witness};
use super::history;
use crate::failure::Failure;
use crate::output::print;
use crate::progress::Screen;
use crate::session::Session;

/// `event verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// A hash that was printed before, and its revision: history must still have it there. Repeatable
    #[arg(long = "against", value_name = "HASH@REVISION")]
    witnesses: Vec<Witness>,
    /// Check what `bessemer event export` wrote, and ask no cluster
    #[arg(long)]
    file: Option<PathBuf>,
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
        let Self { witnesses, file } = self;
        let take = |chain: &Chain, event: &Event| compare(&witnesses, chain, event);
        let chain = match file {
            Some(file) => history::of_file(&file, None, take)?,
            None => history::of_cluster(&session.client, &mut Screen::stderr(), take).await?,
        };
        if let Some(late) = witnesses.iter().find(|witness| witness.revision > chain.revision()) {
            return Err(Failure::failed(format!(
                "revision {} of --against is not there: history ends at revision {}",
                late.revision,
                chain.revision()
            )));
        }
        let verified = Verified::of(&chain);
        if session.format.is_data() {
            return session.format.data(&verified);
        }
        print(&format!(
            "{} events, none missing, none altered\ntip {}@{}\n",
            verified.events, verified.hash, verified.events
        ))
    }
}

impl Verified {
    fn of(chain: &Chain) -> Self {
        Self { events: chain.revision(), hash: chain.tip() }
    }
}

/// Checks all events up to the revision that the cluster has now.
pub(crate) async fn verify(client: &Client, screen: &mut Screen) -> Result<Verified, Failure> {
    Ok(Verified::of(&history::of_cluster(client, screen, |_, _| Ok(())).await?))
}

fn compare(witnesses: &[Witness], chain: &Chain, event: &Event) -> Result<(), Failure> {
    for witness in witnesses.iter().filter(|witness| witness.revision == event.revision) {
        chain.compare(witness).map_err(|error| history::broken(&error))?;
    }
    Ok(())
}
