//! The hardware types of this conductor, by Ironic's names.

use bessemer_domain::State;
use bessemer_domain::ids::{ConductorId, NodeId};
use bessemer_hardware::fake::{AgentRunner, Fake};
use bessemer_hardware::ipmi::Ipmi;
use bessemer_hardware::redfish::Redfish;
use bessemer_hardware::{Bmc, HardwareError};

use bessemer_secrets::{self as secrets, KeyRing};

use crate::Config;

/// What reaches machines.
pub(crate) struct HardwareTypes {
    /// Open the secrets of nodes.
    keys: Option<KeyRing>,
    fake: Option<Fake>,
    ipmi: Ipmi,
    redfish: Redfish,
}

impl HardwareTypes {
    /// As configured; `runner` starts the agents of `fake` machines.
    pub(crate) fn new(config: &Config, runner: AgentRunner, keys: Option<KeyRing>) -> Self {
        Self {
            keys,
            fake: config.fake.as_ref().map(|fake| Fake {
                machines_dir: fake.machines_dir.clone(),
                runner,
                steps_dir: fake.steps_dir.clone(),
                api_urls: config.api_urls.clone(),
                ca_file: config.tls.ca_file.clone(),
            }),
            ipmi: Ipmi { program: config.ipmi.ipmitool.clone() },
            redfish: Redfish::new(config.redfish.deploy_iso.clone()),
        }
    }

    /// What nodes may have as `driver` here.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fake.iter().map(|_| "fake").chain(["ipmi", "redfish"])
    }

    /// The machine behind a node, for the conductor `own` under the claim with `epoch`.
    pub(crate) fn machine(
        &self,
        state: &State,
        node: NodeId,
        own: &ConductorId,
        epoch: u64,
    ) -> Result<Box<dyn Bmc>, HardwareError> {
        let spec = state.node(node).map(|node| &node.spec);
        let driver = spec.map_or("", |spec| spec.driver.as_str());
        let opened = spec.map(|spec| secrets::opened(self.keys.as_ref(), node, &spec.driver_info));
        let driver_info = opened
            .transpose()
            .map_err(|error| HardwareError::Secret { reason: error.to_string() })?;
        match (driver, &self.fake, &driver_info) {
            ("fake", Some(fake), Some(driver_info)) => {
                let ports = state.ports_of(node).map(|port| port.spec.address.to_string());
                let machine = fake.machine(&node.to_string(), driver_info, ports.collect())?;
                Ok(Box::new(machine.on_behalf_of(own.as_str(), epoch)))
            }
            ("ipmi", _, Some(driver_info)) => Ok(Box::new(self.ipmi.machine(driver_info)?)),
            ("redfish", _, Some(driver_info)) => Ok(Box::new(self.redfish.machine(driver_info)?)),
            _ => Err(HardwareError::UnknownDriver {
                driver: driver.to_owned(),
                known: self.names().collect::<Vec<_>>().join(", "),
            }),
        }
    }
}
