//! What is printed: one resource or many, as a table for people or as data for programs. Knows no RPC.

mod file;
mod message;
mod table;

use std::io::Write;
use std::time::SystemTime;

pub(crate) use bessemer_wire::quantity;
use prost::{Message, Name};
use serde::Serialize;

pub(crate) use file::Unfinished;
pub(crate) use message::json;
pub(crate) use table::{Table, fields};

use crate::failure::Failure;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    Table,
    /// Aligned columns, more of them.
    Wide,
    /// JSON with the field names of the API.
    Json,
    /// YAML with the field names of the API.
    Yaml,
    /// Names, one a line; ids of what has no name.
    Name,
}

/// A column of a table of `T`.
pub(crate) struct Column<T: 'static> {
    /// The heading.
    pub title: &'static str,
    /// Whether only `-o wide` shows it.
    pub wide: bool,
    /// The cell of an item, at a time.
    pub cell: fn(&T, SystemTime) -> String,
}

/// How resources of one kind are shown to people.
pub(crate) struct View<T: 'static> {
    /// Their table.
    pub columns: &'static [Column<T>],
    /// What `-o name` prints.
    pub name: fn(&T) -> String,
    /// Titles and values of a single one.
    pub fields: fn(&T, SystemTime) -> Vec<(&'static str, String)>,
}

impl<T> View<T> {
    /// The table of some items.
    pub(crate) fn table(&self, items: &[T], wide: bool, now: SystemTime) -> Table {
        let columns = || self.columns.iter().filter(|column| wide || !column.wide);
        let mut table = Table::new(columns().map(|column| column.title));
        for item in items {
            table.row(columns().map(|column| (column.cell)(item, now)).collect());
        }
        table
    }
}

impl Format {
    /// Prints several resources.
    pub(crate) fn list<T: Message + Name>(
        self,
        items: &[T],
        view: &View<T>,
    ) -> Result<(), Failure> {
        match self {
            Self::Json | Self::Yaml => self.data(&items.iter().map(json).collect::<Vec<_>>()),
            Self::Name => {
                print(&items.iter().map(|item| (view.name)(item) + "\n").collect::<String>())
            }
            Self::Table | Self::Wide => {
                let table = view.table(items, self == Self::Wide, SystemTime::now());
                print(&table.render())
            }
        }
    }

    /// Prints one resource with all that is known of it.
    pub(crate) fn show<T: Message + Name>(self, item: &T, view: &View<T>) -> Result<(), Failure> {
        match self {
            Self::Json | Self::Yaml => self.data(&json(item)),
            Self::Name => print(&((view.name)(item) + "\n")),
            Self::Table | Self::Wide => print(&fields(&(view.fields)(item, SystemTime::now()))),
        }
    }

    /// Whether a program reads the output.
    pub(crate) fn is_data(self) -> bool {
        matches!(self, Self::Json | Self::Yaml)
    }

    /// Prints data: YAML when asked for, else JSON.
    pub(crate) fn data(self, data: &impl Serialize) -> Result<(), Failure> {
        let text = match self {
            Self::Yaml => serde_norway::to_string(data).map_err(|error| error.to_string()),
            Self::Json | Self::Table | Self::Wide | Self::Name => {
                serde_json::to_string_pretty(data)
                    .map(|text| text + "\n")
                    .map_err(|error| error.to_string())
            }
        };
        print(&text.map_err(|error| Failure::failed(format!("cannot print the answer: {error}")))?)
    }
}

/// Writes to standard output; a reader that has gone away ends the program quietly.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Failure::from_output)
}
