//! The machine that the agent runs on: what it was told about it, and what the kernel knows.

use std::path::{Path, PathBuf};

use bessemer_proto::v1::{Disk, Inventory};
use bessemer_runtime::tls::Transport;

use crate::config::Config;
use crate::inventory;
use crate::plugin::Plugins;

/// A disk and where it is opened.
#[derive(Debug, Clone)]
pub(crate) struct FoundDisk {
    pub(crate) path: PathBuf,
    pub(crate) disk: Disk,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Machine {
    given_mac_addresses: Vec<String>,
    given_system_uuid: Option<String>,
    given_disks: Vec<PathBuf>,
    state_dir: PathBuf,
    rescue_program: PathBuf,
    podman: PathBuf,
    plugins: Plugins,
    transport: Transport,
}

impl Machine {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            given_mac_addresses: config.mac_addresses.clone(),
            given_system_uuid: config.system_uuid.clone(),
            given_disks: config.disks.clone(),
            state_dir: config.state_dir.clone(),
            rescue_program: config.rescue_program.clone(),
            podman: config.podman.clone(),
            plugins: Plugins::default(),
            transport: Transport::plain(),
        }
    }

    /// The same machine, in a cluster that is spoken to by `transport`.
    pub(crate) fn with_transport(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    /// The same machine, with these plug-ins.
    pub(crate) fn with_plugins(self, plugins: Plugins) -> Self {
        Self { plugins, ..self }
    }

    /// What is kept until the machine is switched off.
    pub(crate) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// What lets a person log in.
    pub(crate) fn rescue_program(&self) -> &Path {
        &self.rescue_program
    }

    /// What runs containers.
    pub(crate) fn podman(&self) -> &Path {
        &self.podman
    }

    pub(crate) const fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// How the cluster is spoken to.
    pub(crate) const fn transport(&self) -> &Transport {
        &self.transport
    }

    /// MAC addresses of all interfaces.
    pub(crate) fn mac_addresses(&self) -> Vec<String> {
        if !self.given_mac_addresses.is_empty() {
            return self.given_mac_addresses.clone();
        }
        let interfaces = inventory::network_interfaces();
        interfaces.into_iter().map(|interface| interface.mac_address).collect()
    }

    /// The firmware's UUID; empty when there is none.
    pub(crate) fn system_uuid(&self) -> String {
        self.given_system_uuid.clone().unwrap_or_else(inventory::system_uuid)
    }

    /// The disks that tasks may touch, in the kernel's order, or in the order they were given.
    pub(crate) fn disks(&self) -> Vec<FoundDisk> {
        if self.given_disks.is_empty() {
            return inventory::disks();
        }
        self.given_disks.iter().map(|path| inventory::disk_at(path)).collect()
    }

    /// All that a conductor wants to know.
    pub(crate) fn inventory(&self) -> Inventory {
        let disks = self.disks().into_iter().map(|found| found.disk).collect();
        inventory::of(disks)
    }
}
