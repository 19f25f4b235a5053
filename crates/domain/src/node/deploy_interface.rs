//! Deploy interfaces: the ways in which a deployment gets onto a machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::choice;
use crate::Invalid;

/// How a deployment gets onto the machine. Names are Ironic's, and stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployInterface {
    /// The agent writes an image.
    #[default]
    Direct,
    /// The agent does the operator's steps, and nothing else writes the disk.
    CustomAgent,
    /// The machine boots an ISO, or a kernel over the network, and runs from that; nothing is written.
    Ramdisk,
    /// A playbook of the operator's reaches the machine, on which the agent runs, by SSH.
    Ansible,
    /// The agent runs a container, which installs itself.
    Bootc,
    /// Nothing is done: somebody else looks after what runs on the machine.
    Noop,
    /// What the request asks for says which: one of the others, in the deployment.
    Autodetect,
}

impl DeployInterface {
    /// All there are.
    pub const ALL: &'static [Self] = &[
        Self::Direct,
        Self::CustomAgent,
        Self::Ramdisk,
        Self::Ansible,
        Self::Bootc,
        Self::Noop,
        Self::Autodetect,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::CustomAgent => "custom-agent",
            Self::Ramdisk => "ramdisk",
            Self::Ansible => "ansible",
            Self::Bootc => "bootc",
            Self::Noop => "noop",
            Self::Autodetect => "autodetect",
        }
    }

    /// Whether an agent runs on the machine during a deployment.
    #[must_use]
    pub const fn runs_agent(self) -> bool {
        match self {
            Self::Direct | Self::CustomAgent | Self::Ansible | Self::Bootc => true,
            Self::Ramdisk | Self::Noop | Self::Autodetect => false,
        }
    }
}

impl fmt::Display for DeployInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeployInterface {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        choice::named("deploy_interface", text, Self::ALL, Self::as_str)
    }
}
