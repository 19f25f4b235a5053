//! How machines are reached from outside: power and boot device. One module for each hardware type; knows nothing of
//! deployments.
//!
//! What every hardware type must do is the contract of [`Bmc`]; `tests/conformance` holds each of them against it, with
//! a peer that others wrote.

mod bmc;
mod driver_info;
mod error;
pub mod fake;
pub mod ipmi;
mod poll;
pub mod redfish;

pub use bmc::{Bmc, BootDevice, Entitled, NetworkProtocol, unclaimed};
pub use error::HardwareError;
