//! How results are printed: a table for people, then one line a case for programs.

/// Results of a bench, gathered case by case.
pub(crate) struct Report {
    bench: &'static str,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    ratios: Vec<String>,
}

impl Report {
    /// A report with these columns behind the case's name.
    pub(crate) fn new(bench: &'static str, columns: &[&str]) -> Self {
        let header = std::iter::once("case").chain(columns.iter().copied());
        Self {
            bench,
            header: header.map(str::to_owned).collect(),
            rows: Vec::new(),
            ratios: Vec::new(),
        }
    }

    /// Adds a case measured in seconds (or anything else of which less is better).
    pub(crate) fn less_is_better(&mut self, case: &str, ours: f64, peer: f64, row: Vec<String>) {
        self.add(case, ours, peer, peer / ours, row);
    }

    /// Adds a case measured in something of which more is better, such as writes per second.
    pub(crate) fn more_is_better(&mut self, case: &str, ours: f64, peer: f64, row: Vec<String>) {
        self.add(case, ours, peer, ours / peer, row);
    }

    fn add(&mut self, case: &str, ours: f64, peer: f64, ratio: f64, mut row: Vec<String>) {
        row.insert(0, case.to_owned());
        self.rows.push(row);
        self.ratios.push(format!("ratio {}.{case} {ours:.3} {peer:.3} {ratio:.2}", self.bench));
    }

    /// Prints the table, and as the last lines `ratio BENCH.CASE OURS PEER RATIO`, where a ratio
    /// above 1 says that ours is better.
    pub(crate) fn print(&self) {
        let width = |column: usize| {
            let cells = self.rows.iter().chain([&self.header]).map(|row| row[column].len());
            cells.max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..self.header.len()).map(width).collect();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let cells: Vec<_> =
                row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:>width$}")).collect();
            println!("{}", cells.join("  "));
        }
        println!();
        for ratio in &self.ratios {
            println!("{ratio}");
        }
    }
}

/// The middle one of some measurements.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Bytes as MiB, for a table.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))
}
