//! Identities. One type for each kind, so that no two can be swapped; drawn outside the core.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Invalid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $field:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID that was drawn outside the core.
            #[must_use]
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID itself.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                Uuid::parse_str(text)
                    .map(Self)
                    .map_err(|_| Invalid::new($field, text, "is not a UUID"))
            }
        }
    };
}

uuid_id!(
    /// A cluster; part of the message ids on the event stream.
    ClusterId,
    "cluster_id"
);
uuid_id!(
    /// A restoration of a cluster from a backup; tells apart what became of the same history.
    RestorationId,
    "restoration"
);
uuid_id!(
    /// A machine.
    NodeId,
    "node_id"
);
uuid_id!(
    /// A network interface of a node.
    PortId,
    "port_id"
);
uuid_id!(
    /// An allocation.
    AllocationId,
    "allocation"
);
uuid_id!(
    /// A deploy template or a runbook.
    TemplateId,
    "template"
);
uuid_id!(
    /// A command. The same id has one outcome, however often it is sent.
    CommandId,
    "command_id"
);
uuid_id!(
    /// One life of a process; tells a restarted conductor from its predecessor.
    Incarnation,
    "incarnation"
);

/// A plan or a deployment is named after the command that caused it.
pub type PlanId = CommandId;

/// A conductor's configured name, as Ironic uses the host name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConductorId(String);

impl ConductorId {
    /// Accepts 1 to 255 characters of `A-Z a-z 0-9 . _ -`.
    ///
    /// # Errors
    /// [`Invalid`] when the name is empty, longer, or holds another character.
    pub fn try_new(name: &str) -> Result<Self, Invalid> {
        check_name("conductor_id", name)?;
        Ok(Self(name.to_owned()))
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConductorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A node's name: what a host name may be, and never something that reads as a UUID.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(String);

impl NodeName {
    /// Accepts 1 to 255 characters of `A-Z a-z 0-9 . _ -` that are not a UUID.
    ///
    /// # Errors
    /// [`Invalid`] naming what is wrong with it.
    pub fn try_new(name: &str) -> Result<Self, Invalid> {
        check_name("name", name)?;
        if Uuid::parse_str(name).is_ok() {
            return Err(Invalid::new("name", name, "reads as a UUID; choose a name that does not"));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Longest name of a node or conductor, as in Ironic.
const NAME_CHARACTERS_MAX: usize = 255;

fn check_name(field: &'static str, name: &str) -> Result<(), Invalid> {
    if name.is_empty() {
        return Err(Invalid::new(field, name, "is empty"));
    }
    if name.len() > NAME_CHARACTERS_MAX {
        return Err(Invalid::new(field, name, "is longer than 255 characters"));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return Err(Invalid::new(field, name, "holds a character other than A-Z a-z 0-9 . _ -"));
    }
    Ok(())
}
