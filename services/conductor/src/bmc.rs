//! Orders to a machine's BMC, none of which leaves without the right to give it.

use bessemer_domain::ids::NodeId;
use bessemer_hardware::{BootDevice, HardwareError};
use futures::FutureExt;

use crate::Context;

/// A machine's BMC under a claim. Every request that changes something waits for the lease; once the claim is another
/// conductor's it is not sent, also when it is one of several that an order takes.
pub(crate) struct Bmc<'a> {
    context: &'a Context,
    node: NodeId,
    epoch: u64,
    machine: Box<dyn bessemer_hardware::Bmc>,
}

impl<'a> Bmc<'a> {
    pub(crate) fn new(
        context: &'a Context,
        node: NodeId,
        epoch: u64,
        machine: Box<dyn bessemer_hardware::Bmc>,
    ) -> Self {
        Self { context, node, epoch, machine }
    }

    /// Whether the machine is on. Changes nothing, so anybody may ask.
    pub(crate) async fn is_on(&self) -> Result<bool, HardwareError> {
        self.machine.is_on().await
    }

    pub(crate) async fn set_boot_device(&self, device: BootDevice) -> Result<(), HardwareError> {
        let entitled = || self.context.entitled(self.node, self.epoch).boxed();
        self.machine.set_boot_device(device, &entitled).await
    }

    pub(crate) async fn set_boot_iso(
        &self,
        iso: &str,
        config_drive: Option<&str>,
    ) -> Result<(), HardwareError> {
        let entitled = || self.context.entitled(self.node, self.epoch).boxed();
        self.machine.set_boot_iso(iso, config_drive, &entitled).await
    }

    pub(crate) async fn power_on(&self) -> Result<(), HardwareError> {
        let entitled = || self.context.entitled(self.node, self.epoch).boxed();
        self.machine.power_on(&entitled).await
    }

    pub(crate) async fn power_off(&self) -> Result<(), HardwareError> {
        let entitled = || self.context.entitled(self.node, self.epoch).boxed();
        self.machine.power_off(&entitled).await
    }

    pub(crate) async fn shut_down(&self) -> Result<(), HardwareError> {
        let entitled = || self.context.entitled(self.node, self.epoch).boxed();
        self.machine.shut_down(&entitled).await
    }

    pub(crate) async fn inject_nmi(&self) -> Result<(), HardwareError> {
        let entitled = || self.context.entitled(self.node, self.epoch).boxed();
        self.machine.inject_nmi(&entitled).await
    }
}
