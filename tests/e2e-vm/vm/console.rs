//! What a machine says on its serial port.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use bessemer_testkit::wait_for;

/// Lines that are shown when a test fails.
const LAST_LINES: usize = 25;

/// A serial port that is written to a file.
#[derive(Debug)]
pub(crate) struct Console {
    file: PathBuf,
    /// What was said before is of no interest.
    from: usize,
}

impl Console {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self { file, from: 0 }
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Forgets what was said so far.
    pub(crate) fn forget(&mut self) {
        self.from = self.all().len();
    }

    /// Waits for a line that holds all of `words`, and returns it.
    pub(crate) async fn line(&self, words: &[&str], limit: Duration) -> anyhow::Result<String> {
        wait_for(&format!("{words:?} on the console"), limit, async || {
            let text = self.all();
            let new = text.get(self.from..).unwrap_or_default();
            let found = new.lines().find(|line| words.iter().all(|word| line.contains(word)));
            let last = || new.lines().last().unwrap_or("nothing").to_owned();
            found.map(|line| line.trim().to_owned()).ok_or_else(last)
        })
        .await
        .with_context(|| self.last_words())
    }

    pub(crate) fn last_words(&self) -> String {
        let text = self.all();
        let lines: Vec<_> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
        format!("--- console {}\n{last}", self.file.display())
    }

    fn all(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.file).unwrap_or_default()).into_owned()
    }
}
