//! Aligned columns of text. A cell never wraps; the reader's terminal may cut the last column.

use std::fmt::Write;

use console::measure_text_width;

/// Space between two columns.
const GAP: usize = 2;

/// Headings and rows of the same number of cells.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub(crate) fn new<S: Into<String>>(headings: impl IntoIterator<Item = S>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row; a cell that is empty is shown as `-`.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.headings.len(), "a row has a cell for every heading");
        self.rows.push(cells.into_iter().map(|cell| one_line(&cell)).collect());
    }

    /// The lines, each ended by a newline and without trailing blanks.
    pub(crate) fn render(&self) -> String {
        let widths: Vec<usize> = (0..self.headings.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| &row[column]);
                cells
                    .chain([&self.headings[column]])
                    .map(|cell| measure_text_width(cell))
                    .max()
                    .unwrap_or_default()
            })
            .collect();
        let mut text = String::new();
        for row in std::iter::once(&self.headings).chain(&self.rows) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let padding = width - measure_text_width(cell) + GAP;
                write!(line, "{cell}{:padding$}", "").expect("strings take all that is written");
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A title and what is to be read under it, aligned on the longest title.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(title, _)| measure_text_width(title)).max().unwrap_or_default();
    let mut text = String::new();
    for (title, value) in pairs {
        // What runs over several lines stays in its column.
        let indent = format!("\n{:1$}", "", width + GAP);
        let value = if value.is_empty() { "-".to_owned() } else { value.replace('\n', &indent) };
        writeln!(text, "{title:width$}{:GAP$}{value}", "").expect("strings take all");
    }
    text
}

fn one_line(cell: &str) -> String {
    if cell.is_empty() {
        return "-".to_owned();
    }
    cell.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_what_is_seen() {
        let mut table = Table::new(["NAME", "STATE", "LAST ERROR"]);
        table.row(vec!["m1".into(), "active".into(), String::new()]);
        table.row(vec!["größer".into(), "\u{1b}[31mdeploy failed\u{1b}[0m".into(), "a\nb".into()]);
        let text = "NAME    STATE          LAST ERROR\n\
                    m1      active         -\n\
                    größer  \u{1b}[31mdeploy failed\u{1b}[0m  a b\n";
        assert_eq!(table.render(), text);
    }

    #[test]
    fn fields_of_several_lines_stay_in_their_column() {
        let pairs =
            [("Name", "m1".to_owned()), ("Ports", "a\nb".to_owned()), ("Error", String::new())];
        assert_eq!(fields(&pairs), "Name   m1\nPorts  a\n       b\nError  -\n");
    }
}
