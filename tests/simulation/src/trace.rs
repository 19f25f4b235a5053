//! What happened, for whoever has to explain a failure: the last lines, and a digest of all of them.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

/// Lines that are kept.
const LINES_KEPT: usize = 120;

/// The trace of one run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    kept: RefCell<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    digest: DefaultHasher,
}

impl Trace {
    pub(crate) fn note(&self, at: Duration, line: &str) {
        let line = format!("{:>11.6}  {line}", at.as_secs_f64());
        let mut kept = self.kept.borrow_mut();
        kept.digest.write(line.as_bytes());
        if kept.lines.len() == LINES_KEPT {
            kept.lines.pop_front();
        }
        kept.lines.push_back(line);
    }

    /// The same for the same seed.
    pub(crate) fn digest(&self) -> u64 {
        self.kept.borrow().digest.finish()
    }

    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.kept.borrow().lines.iter().cloned().collect()
    }
}
