//! Orders to a machine's BMC, none of which leaves without the right to give it.

use bessemer_domain::ids::NodeId;
use bessemer_hardware::fake::Machine;
use bessemer_hardware::{BootDevice, HardwareError};

use crate::Context;

/// A machine's BMC under a claim. Orders wait for the lease; once the claim is another conductor's they are not given.
pub(crate) struct Bmc<'a> {
    context: &'a Context,
    node: NodeId,
    epoch: u64,
    machine: Machine,
}

impl<'a> Bmc<'a> {
    pub(crate) fn new(context: &'a Context, node: NodeId, epoch: u64, machine: Machine) -> Self {
        let machine = machine.on_behalf_of(context.own.id.as_str(), epoch);
        Self { context, node, epoch, machine }
    }

    /// Whether the machine is on. Changes nothing, so anybody may ask.
    pub(crate) fn is_on(&self) -> Result<bool, HardwareError> {
        self.machine.is_on()
    }

    pub(crate) async fn set_boot_device(&self, device: BootDevice) -> Result<(), HardwareError> {
        self.entitled().await.set_boot_device(device)
    }

    pub(crate) async fn power_on(&self) -> Result<(), HardwareError> {
        self.entitled().await.power_on().await
    }

    pub(crate) async fn power_off(&self) -> Result<(), HardwareError> {
        self.entitled().await.power_off().await
    }

    async fn entitled(&self) -> &Machine {
        self.context.entitled(self.node, self.epoch).await;
        &self.machine
    }
}
