//! Every hardware type against the contract of `Bmc`: simulated machines, BMCs that others wrote for Redfish
//! (sushy-tools) and for IPMI (OpenIPMI's `ipmi_sim`).

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod contract;
mod fake;
mod ipmi;
mod redfish;
