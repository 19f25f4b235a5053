//! A file that is read while it is downloaded or unpacked.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use bessemer_image::ReadAt;

use super::Growth;

/// A file of which a growing prefix is there. Readers wait for what is not: a qcow2 whose tables
/// stand in front is decoded while it arrives, one with tables behind is when they are there.
#[derive(Debug)]
pub(super) struct GrowingFile {
    file: File,
    state: Mutex<State>,
    grown: Condvar,
}

#[derive(Debug)]
struct State {
    available_bytes: u64,
    total_bytes: Option<u64>,
    /// No more will come.
    ended: bool,
    /// Nobody reads any more.
    abandoned: bool,
}

impl GrowingFile {
    /// A file that is empty still and will have `total_bytes`, if that is known.
    pub(super) fn new(file: File, total_bytes: Option<u64>) -> Self {
        let state = State { available_bytes: 0, total_bytes, ended: false, abandoned: false };
        Self { file, state: Mutex::new(state), grown: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the next bytes. Answers whether there is still a reader.
    pub(super) fn append(&self, bytes: &[u8]) -> io::Result<bool> {
        let offset = self.lock().available_bytes;
        self.file.write_all_at(bytes, offset)?;
        let mut state = self.lock();
        state.available_bytes += bytes.len() as u64;
        let is_wanted = !state.abandoned;
        drop(state);
        self.grown.notify_all();
        Ok(is_wanted)
    }

    /// Takes over what somebody else, who writes the file, says of it.
    pub(super) fn grow(&self, growth: Growth) {
        let mut state = self.lock();
        state.available_bytes = growth.available_bytes;
        state.total_bytes = growth.total_bytes;
        state.ended = growth.ended;
        drop(state);
        self.grown.notify_all();
    }

    /// Says that all came that will come.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let available_bytes = state.available_bytes;
        state.total_bytes.get_or_insert(available_bytes);
        drop(state);
        self.grown.notify_all();
    }

    /// Says that nobody will read it.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
    }

    /// The first `wanted` bytes, or all of a shorter file. Waits for them.
    pub(super) fn start(&self, wanted: usize) -> io::Result<Vec<u8>> {
        let state = self.wait_while(|state| !state.ended && state.available_bytes < wanted as u64);
        let mut start = vec![0; state.available_bytes.min(wanted as u64) as usize];
        drop(state);
        self.file.read_exact_at(&mut start, 0)?;
        Ok(start)
    }

    fn wait_while(&self, condition: impl FnMut(&mut State) -> bool) -> MutexGuard<'_, State> {
        self.grown.wait_while(self.lock(), condition).unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for GrowingFile {
    /// Waits for the end when the length was not announced.
    fn source_bytes(&self) -> u64 {
        let state = self.wait_while(|state| state.total_bytes.is_none());
        state.total_bytes.unwrap_or_default()
    }

    fn read_exact_at(&self, offset_bytes: u64, into: &mut [u8]) -> io::Result<()> {
        let end = offset_bytes.saturating_add(into.len() as u64);
        let state = self.wait_while(|state| !state.ended && state.available_bytes < end);
        let is_there = state.available_bytes >= end;
        drop(state);
        if !is_there {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file.read_exact_at(into, offset_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readers of bytes that are not there yet get them, and those of bytes that never come an
    /// error, with and without an announced length.
    #[test]
    fn readers_wait_for_what_is_still_to_come() {
        for total_bytes in [Some(8), None] {
            let file = GrowingFile::new(tempfile::tempfile().unwrap(), total_bytes);
            std::thread::scope(|scope| {
                let end = scope.spawn(|| {
                    let mut last = [0; 4];
                    file.read_exact_at(4, &mut last).map(|()| last)
                });
                let beyond = scope.spawn(|| file.read_exact_at(6, &mut [0; 4]));
                let length = scope.spawn(|| file.source_bytes());
                for piece in [b"abc".as_slice(), b"defgh"] {
                    assert!(file.append(piece).unwrap());
                }
                assert_eq!(end.join().unwrap().unwrap(), *b"efgh");
                file.end();
                let error = beyond.join().unwrap().unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                assert_eq!(length.join().unwrap(), 8);
            });
            file.abandon();
            assert!(!file.append(b"i").unwrap());
        }
    }
}
