//! Live progress: bars as text, and a screen that shows them in place on a terminal and as plain lines elsewhere.

mod bar;
mod screen;

pub(crate) use bar::{Transfer, bar};
pub(crate) use screen::{Plain, Screen};
