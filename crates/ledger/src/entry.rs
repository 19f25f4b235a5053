//! What a log entry carries: commands, encoded once where they are proposed and decoded once where they are applied.

use std::fmt;

use bessemer_domain::{Command, Outcome, Revision};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// First byte of an encoded batch.
const FORMAT: u8 = 1;

/// Bytes before each command: its length.
const LENGTH_BYTES: usize = 4;

/// Commands as they stand in the log: a format byte, then each command's length (u32, big endian) and JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Batch(Bytes);

/// An entry that this version cannot read: a newer one wrote it, or it is damaged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BatchError {
    #[error(
        "format {format} of a batch of commands is unknown, {FORMAT} is known; upgrade this member"
    )]
    Format { format: u8 },
    #[error("a batch of commands ends early")]
    Short,
    #[error("command {position} of a batch cannot be read")]
    Command { position: usize, source: serde_json::Error },
}

impl Batch {
    /// Packs commands that [`encode`] encoded.
    pub(crate) fn pack<'a>(commands: impl Iterator<Item = &'a Bytes> + Clone) -> Self {
        let size: usize = commands.clone().map(|command| command.len() + LENGTH_BYTES).sum();
        let mut bytes = BytesMut::with_capacity(size + 1);
        bytes.put_u8(FORMAT);
        for command in commands {
            let length = u32::try_from(command.len());
            bytes.put_u32(length.expect("proposals are bounded far below 4 GiB"));
            bytes.put_slice(command);
        }
        Self(bytes.freeze())
    }

    /// The commands, in order.
    pub(crate) fn unpack(&self) -> Result<Vec<Command>, BatchError> {
        let mut rest = self.0.clone();
        let format = rest.try_get_u8().map_err(|_| BatchError::Short)?;
        if format != FORMAT {
            return Err(BatchError::Format { format });
        }
        let mut commands = Vec::new();
        while rest.has_remaining() {
            let length = rest.try_get_u32().map_err(|_| BatchError::Short)? as usize;
            if length > rest.len() {
                return Err(BatchError::Short);
            }
            let json = rest.split_to(length);
            let command = serde_json::from_slice(&json)
                .map_err(|source| BatchError::Command { position: commands.len(), source })?;
            commands.push(command);
        }
        Ok(commands)
    }

    pub(crate) const fn from_bytes(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.0.len())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Encodes one command.
pub(crate) fn encode(command: &Command) -> Bytes {
    serde_json::to_vec(command)
        .expect("commands hold only strings, numbers and string-keyed maps")
        .into()
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Applied {
    /// One for each command, in order. None for entries that Raft wrote for itself.
    pub(crate) outcomes: Vec<Outcome>,
    /// The newest revision after it.
    pub(crate) revision: Revision,
}

#[cfg(test)]
mod tests {
    use bessemer_domain::ids::{ClusterId, CommandId};
    use bessemer_domain::{CommandBody, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn command(n: u128) -> Command {
        Command {
            id: CommandId::new(Uuid::from_u128(n)),
            fingerprint: 0,
            actor: "test".to_owned(),
            at: Timestamp::from_micros(7),
            body: CommandBody::InitialiseCluster { cluster_id: ClusterId::new(Uuid::nil()) },
        }
    }

    #[test]
    fn unpacks_what_was_packed() {
        let commands: Vec<_> = (0..3).map(command).collect();
        let encoded: Vec<_> = commands.iter().map(encode).collect();
        assert_eq!(Batch::pack(encoded.iter()).unpack().unwrap(), commands);
        assert_eq!(Batch::pack([].iter()).unpack().unwrap(), []);
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        let whole = Batch::pack([encode(&command(1))].iter()).0;
        let cut = Batch(whole.slice(..whole.len() - 1));
        assert!(matches!(cut.unpack(), Err(BatchError::Short)));
        assert!(matches!(Batch(Bytes::new()).unpack(), Err(BatchError::Short)));
        let newer = Batch(Bytes::from_static(&[9]));
        assert!(matches!(newer.unpack(), Err(BatchError::Format { format: 9 })));
        let lying = Batch(Bytes::from_static(&[FORMAT, 0xff, 0xff, 0xff, 0xff, 1]));
        assert!(matches!(lying.unpack(), Err(BatchError::Short)));
        let garbage = Batch(Bytes::from_static(&[FORMAT, 0, 0, 0, 2, b'{', b'x']));
        assert!(matches!(garbage.unpack(), Err(BatchError::Command { position: 0, .. })));
    }
}
