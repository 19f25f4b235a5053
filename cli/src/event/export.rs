//! `event export`: all of history in a file, for archives and auditors.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::{archive, history};
use crate::failure::Failure;
use crate::output::{Unfinished, print};
use crate::progress::Screen;
use crate::session::Session;

/// `event export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Where to write it; an earlier export there is replaced once the new one is whole
    file: PathBuf,
}

/// What was exported.
#[derive(Debug, Serialize)]
struct Exported {
    file: PathBuf,
    events: u64,
    /// Of the newest event, in hexadecimal.
    hash: String,
}

impl Export {
    /// Reads all of history, checks it on the way, and writes it.
    pub(super) async fn run(self, session: &Session) -> Result<(), Failure> {
        let unfinished = Unfinished::beside(&self.file)?;
        let mut out = BufWriter::new(unfinished.create()?);
        let chain = history::of_cluster(&session.client, &mut Screen::stderr(), |_, event| {
            out.write_all(&archive::line(event)).map_err(|error| unfinished.broken(&error))
        })
        .await?;
        out.flush()
            .and_then(|()| out.get_ref().sync_all())
            .map_err(|error| unfinished.broken(&error))?;
        unfinished.finish()?;
        let exported = Exported { file: self.file, events: chain.revision(), hash: chain.tip() };
        if session.format.is_data() {
            return session.format.data(&exported);
        }
        let Exported { file, events, hash } = exported;
        print(&format!(
            "{events} events, none missing, none altered, are in {}\ntip {hash}@{events}\n",
            file.display()
        ))
    }
}
