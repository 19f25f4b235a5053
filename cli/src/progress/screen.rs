//! Where progress is shown: standard error, in place on a terminal, line by line elsewhere.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use console::{Term, truncate_str};

/// How often an unchanged stage is told again where nothing can be drawn in place.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// Widest line that is drawn where the terminal does not say how wide it is.
const WIDTH_DEFAULT: usize = 100;

/// What is told of one thing where nothing can be drawn in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plain {
    /// Which thing.
    pub about: String,
    /// Where it stands. A new stage is told at once.
    pub stage: String,
    /// The figures of the stage, told now and then.
    pub figures: String,
}

/// The screen. Draws nothing when told to be quiet.
#[derive(Debug)]
pub(crate) enum Screen {
    /// A terminal: the last lines are drawn again and again.
    Live {
        /// Standard error.
        term: Term,
        /// How many lines of the drawing are on it.
        drawn: usize,
    },
    /// A file or a pipe.
    Plain(PlainLines),
}

impl Screen {
    /// Standard error, as it is.
    pub(crate) fn stderr() -> Self {
        let term = Term::stderr();
        if term.is_term() {
            Self::Live { term, drawn: 0 }
        } else {
            Self::Plain(PlainLines::default())
        }
    }

    /// Shows where things stand: `live` in place, or what is new in `plain`.
    pub(crate) fn draw(&mut self, live: &[String], plain: &[Plain]) {
        match self {
            Self::Live { term, drawn } => {
                let width =
                    term.size_checked().map_or(WIDTH_DEFAULT, |(_, columns)| columns.into());
                let mut text = String::new();
                for line in live {
                    text += &format!("\x1b[2K{}\n", truncate_str(line, width, "…"));
                }
                // What is left of a longer drawing. One write for all, so that nothing flickers. Progress that
                // cannot be shown must not stop the work that it is about.
                text += "\x1b[J";
                term.move_cursor_up(*drawn).and_then(|()| term.write_str(&text)).ok();
                *drawn = live.len();
            }
            Self::Plain(lines) => {
                for line in lines.news(plain, Instant::now()) {
                    eprintln!("{line}");
                }
            }
        }
    }
}

/// Remembers what was told, and when.
#[derive(Debug, Default)]
pub(crate) struct PlainLines {
    told: HashMap<String, (Plain, Instant)>,
}

impl PlainLines {
    fn news(&mut self, plain: &[Plain], now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        for line in plain {
            if let Some((told, at)) = self.told.get(&line.about) {
                let due = now.duration_since(*at) >= PLAIN_INTERVAL && told.figures != line.figures;
                if told.stage == line.stage && !due {
                    continue;
                }
            }
            self.told.insert(line.about.clone(), (line.clone(), now));
            let text = format!("{}: {}  {}", line.about, line.stage, line.figures);
            lines.push(text.trim_end().to_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(stage: &str, figures: &str) -> Plain {
        Plain { about: "m1".into(), stage: stage.into(), figures: figures.into() }
    }

    #[test]
    fn a_new_stage_is_told_at_once_and_figures_now_and_then() {
        let mut lines = PlainLines::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(lines.news(&[plain("deploying", "")], at(0)), ["m1: deploying"]);
        assert!(lines.news(&[plain("deploying", "")], at(9)).is_empty());
        assert_eq!(lines.news(&[plain("writing", "1%")], at(10)), ["m1: writing  1%"]);
        assert!(lines.news(&[plain("writing", "2%")], at(11)).is_empty());
        assert_eq!(lines.news(&[plain("writing", "9%")], at(15)), ["m1: writing  9%"]);
    }
}
