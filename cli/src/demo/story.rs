//! The demo as it is told: one line for each thing done, and what is being done below.

use std::time::{Duration, Instant};

use console::style;

use crate::failure::Failure;
use crate::output::{print, quantity};
use crate::progress::{Screen, Transfer};

/// Cells of a bar.
const BAR_WIDTH: usize = 24;

/// Where the demo stands.
#[derive(Debug)]
pub(super) struct Story {
    screen: Screen,
    began: Instant,
    chapter: &'static str,
    chapter_began: Instant,
}

impl Story {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { screen: Screen::stderr(), began: now, chapter: "", chapter_began: now }
    }

    /// Begins something.
    pub(super) fn begin(&mut self, chapter: &'static str) {
        self.chapter = chapter;
        self.chapter_began = Instant::now();
        self.screen.draw(&[format!("  {} {chapter}", style("▸").cyan().for_stderr())], &[]);
    }

    /// Shows how far it is.
    pub(super) fn progress(&mut self, phase: &str, transfer: Transfer) {
        let mark = style("▸").cyan().for_stderr();
        let line = format!("  {mark} {:<9} {phase:<12} {}", self.chapter, transfer.line(BAR_WIDTH));
        self.screen.draw(&[line], &[]);
    }

    /// Ends it with what came of it.
    pub(super) fn done(&mut self, outcome: &str) -> Result<(), Failure> {
        self.clear();
        let took = quantity::duration(self.chapter_began.elapsed());
        print(&format!("  {} {:<9} {took:>6}  {outcome}\n", style("✓").green(), self.chapter))
    }

    /// Where live progress is drawn.
    pub(super) fn screen(&mut self) -> &mut Screen {
        &mut self.screen
    }

    /// Takes away what is drawn.
    pub(super) fn clear(&mut self) {
        self.screen.draw(&[], &[]);
    }

    /// Since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
