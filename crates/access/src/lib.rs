//! Who may do what: identities of people and services, tokens, one table of calls and roles, and the guard that holds
//! services to it.
//!
//! A caller is known by its certificate or by a token; what it says of itself counts for nothing. A call that the table does
//! not hold is refused.

mod guard;
mod identity;
mod layer;
mod refusal;
pub mod table;
mod token;

pub use guard::{Guard, Who};
pub use identity::{Identity, InvalidIdentity, Role};
pub use layer::GuardLayer;
pub use refusal::{Refusal, Refused};
pub use token::{InvalidTokenFile, NewToken, Tokens};
