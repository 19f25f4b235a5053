//! An exported history: an event a line, each its hash and its record as it is stored, byte for byte.
//!
//! ```text
//! {"hash":"5f70bf18…","record":{"revision":1,"subject":"cluster",…}}
//! ```

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::chain::instant;
use super::record::Record;
use crate::failure::Failure;
use bessemer_proto::v1::Event;

/// What stands before the hash, between it and the record, and behind the record. Always the same: a parser that read
/// the line as JSON would not give back the bytes that were hashed.
const FRAME: [&str; 3] = ["{\"hash\":\"", "\",\"record\":", "}\n"];

/// An event's line, with its end.
pub(super) fn line(event: &Event) -> Vec<u8> {
    let [before, between, behind] = FRAME.map(str::as_bytes);
    [before, hex::encode(&event.hash).as_bytes(), between, &event.record, behind].concat()
}

/// Reads the events of a file.
pub(super) struct Archive {
    path: PathBuf,
    lines: BufReader<File>,
    number: u64,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| {
            Failure::refused(format!("cannot read {}: {error}", path.display()))
        })?;
        Ok(Self { path: path.to_owned(), lines: BufReader::new(file), number: 0 })
    }

    /// The next event; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Failure> {
        let mut text = String::new();
        self.number += 1;
        let read = self.lines.read_line(&mut text).map_err(|error| self.wrong(&error))?;
        if read == 0 {
            return Ok(None);
        }
        parse(&text).map(Some).map_err(|error| self.wrong(&error))
    }

    fn wrong(&self, error: &dyn std::fmt::Display) -> Failure {
        let (path, line) = (self.path.display(), self.number);
        Failure::failed(format!("{path}, line {line}: {error}"))
            .hint("only what `bessemer event export` wrote can be read")
    }
}

fn parse(line: &str) -> Result<Event, String> {
    let [before, between, behind] = FRAME;
    let (hash, bytes) = line
        .strip_prefix(before)
        .and_then(|line| line.strip_suffix(behind)?.split_once(between))
        .ok_or("it is cut off, or not of the form {\"hash\":\"…\",\"record\":{…}}")?;
    let hash = hex::decode(hash).map_err(|error| format!("the hash cannot be read: {error}"))?;
    let record: Record = serde_json::from_str(bytes)
        .map_err(|error| format!("the record cannot be read: {error}"))?;
    Ok(Event {
        revision: record.revision,
        subject: record.subject,
        sequence: record.sequence,
        at: Some(instant(record.at)),
        actor: record.actor,
        command_id: record.command_id,
        r#type: record.event.kind,
        record: bytes.as_bytes().to_vec().into(),
        hash: hash.into(),
        masked: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_back_the_very_bytes_that_were_hashed() {
        let record = r#"{"revision":7,"subject":"node/1","sequence":2,"at":1700000000000001,"actor":"a\"b","command_id":"c","event":{"type":"node.deleted","data":{"n":1.0,"e":1e2}}}"#;
        let text = format!("{{\"hash\":\"00ff\",\"record\":{record}}}\n");
        let event = parse(&text).unwrap();
        assert_eq!(event.record, record.as_bytes());
        assert_eq!((event.revision, event.sequence, event.actor.as_str()), (7, 2, "a\"b"));
        assert_eq!(line(&event), text.as_bytes());
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for wrong in [
            "",
            "{}\n",
            "{\"hash\":\"00\",\"record\":{}}",
            "{\"hash\":\"0g\",\"record\":{}}\n",
            "{\"hash\":\"00\",\"record\":7}\n",
        ] {
            parse(wrong).unwrap_err();
        }
    }
}
