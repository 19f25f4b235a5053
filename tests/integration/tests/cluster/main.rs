//! The main job on real processes: deployed, killed in the middle, refused, damaged, restarted.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod ansible;
mod bootc;
mod corruption;
mod deploy;
mod disaster;
mod images;
mod ipmi;
mod ironic;
mod members;
mod partition;
mod plugins;
mod prefetch;
mod ramdisk;
mod refusal;
mod restart;
mod secrets;
mod survival;
mod tls;
mod turns;
mod verbs;
