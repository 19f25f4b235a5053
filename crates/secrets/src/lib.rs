//! Secrets of nodes: sealed before they enter the log, so that neither logs, events, backups nor exports hold them, and opened
//! by the conductor that speaks with the hardware.
//!
//! What is a secret is told by its key, as everywhere ([`bessemer_wire::mask`]). What was stored in the clear before there were
//! keys is read as it is, and sealed when it is written again.

mod keys;
mod seal;

pub use self::keys::{InvalidKeyRing, KeyRing, draw_key};
pub use self::seal::{NotOpened, opened, opened_instance_info, opened_step};
