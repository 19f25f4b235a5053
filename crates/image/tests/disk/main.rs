//! The readers of disk images against `qemu-img`, and against images that they must refuse.

#![expect(clippy::unwrap_used, reason = "what fails here fails its test")]

mod damage;
mod huge;
mod qcow2;
mod sample;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;
