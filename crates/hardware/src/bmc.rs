//! What is asked of a machine's baseboard management controller (BMC), whatever it speaks.

use std::fmt::Debug;

use futures::future::BoxFuture;

use crate::HardwareError;

/// What a machine boots next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootDevice {
    /// The deploy ramdisk on a virtual CD, once: a machine that loses its conductor would boot it for ever.
    Ramdisk,
    /// What the network has for it.
    Network {
        /// How it is asked.
        protocol: NetworkProtocol,
        /// From now on, and not only once.
        lasting: bool,
    },
    /// Its own disk.
    Disk,
}

/// How firmware boots from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkProtocol {
    /// DHCP and TFTP.
    Pxe,
    /// DHCP and HTTP (UEFI 2.10, 24.7).
    UefiHttp,
}

/// Returns when the caller may give an order, and never once it may not any more. Awaited anew right before each
/// request that changes something on the machine: an operation may send several, with long waits between them.
pub type Entitled<'a> = &'a (dyn Fn() -> BoxFuture<'a, ()> + Send + Sync);

/// For callers that nobody contends with.
#[must_use]
pub fn unclaimed<'a>() -> BoxFuture<'a, ()> {
    Box::pin(std::future::ready(()))
}

/// A machine's BMC.
///
/// Every operation is safe to repeat: asked for what is already so, it succeeds and changes nothing that matters. One
/// that is dropped in the middle leaves nothing behind that runs on. Success means that the machine *is* as asked, not
/// only that the BMC took the order. Errors name BMC, request and answer, hold no secret, and say whether another
/// attempt can help ([`HardwareError::is_retryable`]).
pub trait Bmc: Debug + Send + Sync {
    /// Whether the machine is on. Changes nothing, so anybody may ask.
    fn is_on(&self) -> BoxFuture<'_, Result<bool, HardwareError>>;

    /// Sets what the machine boots the next time it is switched on; for [`BootDevice::Disk`], from then on wherever the
    /// hardware can keep it. To be called while it is off: what a running machine does with it is up to its vendor.
    /// [`HardwareError::NotSupported`] for a device that machines of the hardware type cannot boot.
    fn set_boot_device<'a>(
        &'a self,
        device: BootDevice,
        entitled: Entitled<'a>,
    ) -> BoxFuture<'a, Result<(), HardwareError>>;

    /// Has the machine boot from an ISO, which the BMC fetches from this URL, the next time it is switched on, and from then
    /// on wherever the hardware can keep it. Beside it the machine sees a USB stick with the image at `config_drive`, if
    /// there is to be one. To be called while it is off. [`HardwareError::NotSupported`] where there are no virtual
    /// media. [`Bmc::set_boot_device`] takes both out again.
    fn set_boot_iso<'a>(
        &'a self,
        iso: &'a str,
        config_drive: Option<&'a str>,
        entitled: Entitled<'a>,
    ) -> BoxFuture<'a, Result<(), HardwareError>>;

    /// Switches it on. A machine that is on stays as it is.
    fn power_on<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>>;

    /// Switches it off, at once: what runs on it ends in the middle of whatever it does.
    fn power_off<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>>;

    /// Asks what runs on it to shut down, as a short press of its button does, and waits a while until it is off. An operating
    /// system that takes longer, or does not listen, is an error that is worth another attempt.
    fn shut_down<'a>(&'a self, entitled: Entitled<'a>) -> BoxFuture<'a, Result<(), HardwareError>>;

    /// Sends a non-maskable interrupt to a machine that is on. The one operation that does something each time.
    fn inject_nmi<'a>(&'a self, entitled: Entitled<'a>)
    -> BoxFuture<'a, Result<(), HardwareError>>;
}
