//! A source that is stored as it comes, for a decoder to read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use tokio::sync::watch;

use crate::decode::Growth;

/// The file in which a source is stored.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    growth: watch::Sender<Growth>,
}

impl Spool {
    /// A file that has `available_bytes` and will have `total_bytes`, if that is known; and what its readers are told.
    pub(crate) fn new(
        file: File,
        available_bytes: u64,
        total_bytes: Option<u64>,
    ) -> (Self, watch::Receiver<Growth>) {
        let growth = Growth { available_bytes, total_bytes, ended: false };
        let (growth, readers) = watch::channel(growth);
        (Self { file, growth }, readers)
    }

    /// Writes the next bytes. Answers whether there is still a reader.
    pub(crate) fn append(&self, bytes: &[u8]) -> io::Result<bool> {
        self.file.write_all_at(bytes, self.available_bytes())?;
        self.growth.send_modify(|growth| growth.available_bytes += bytes.len() as u64);
        Ok(!self.growth.is_closed())
    }

    /// Says that all came that will come.
    pub(crate) fn end(&self) {
        self.growth.send_modify(|growth| {
            growth.ended = true;
            growth.total_bytes.get_or_insert(growth.available_bytes);
        });
    }

    pub(crate) fn available_bytes(&self) -> u64 {
        self.growth.borrow().available_bytes
    }

    /// The length, if it was announced or all came.
    pub(crate) fn known_total_bytes(&self) -> Option<u64> {
        self.growth.borrow().total_bytes
    }
}

/// What is told of a file that is all there.
pub(crate) fn whole(source: &File) -> io::Result<watch::Receiver<Growth>> {
    let bytes = source.metadata()?.len();
    let whole = Growth { available_bytes: bytes, total_bytes: Some(bytes), ended: true };
    Ok(watch::channel(whole).1)
}
