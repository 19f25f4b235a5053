//! Hardware type `redfish` against BMCs of many shapes, and against faults that sushy-tools does not have.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod claim;
mod faults;
mod server;
mod shapes;
