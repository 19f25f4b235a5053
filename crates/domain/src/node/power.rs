//! Power: as seen and as asked for.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// How long a power change may take before it is given up; the slowest servers take minutes to shut down.
pub(crate) const POWER_CHANGE_LIMIT: Duration = Duration::from_secs(600);

/// What the hardware says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerState {
    /// Running.
    On,
    /// Not running.
    Off,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerTarget {
    /// Start it.
    On,
    /// Stop it, at once.
    Off,
    /// Stop it and start it.
    Reboot,
    /// Ask what runs on it to shut down.
    SoftOff,
    /// Ask what runs on it to shut down, then start it.
    SoftReboot,
    /// Send it a non-maskable interrupt: what runs on it writes a dump, if it is set up to.
    Nmi,
}

impl PowerTarget {
    /// The state it is in when that is done.
    #[must_use]
    pub const fn state(self) -> PowerState {
        match self {
            Self::On | Self::Reboot | Self::SoftReboot | Self::Nmi => PowerState::On,
            Self::Off | Self::SoftOff => PowerState::Off,
        }
    }
}

impl fmt::Display for PowerTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Reboot => "reboot",
            Self::SoftOff => "soft off",
            Self::SoftReboot => "soft reboot",
            Self::Nmi => "nmi",
        })
    }
}

/// A power change in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerRequest {
    /// To what.
    pub target: PowerTarget,
    /// Since when.
    pub since: Timestamp,
    /// When it is given up.
    pub until: Timestamp,
}

/// A node's power.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Power {
    /// As last seen; none before the first look.
    pub state: Option<PowerState>,
    /// The change in progress, if any.
    pub request: Option<PowerRequest>,
}
