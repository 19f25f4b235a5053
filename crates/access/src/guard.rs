//! Finds out who calls, and holds callers to the table.

use std::net::SocketAddr;
use std::sync::Arc;

use bessemer_runtime::tls::Peer;

use crate::refusal::{Refusal, Refused};
use crate::table::Need;
use crate::{Identity, Tokens};

/// Longest name that a caller gives itself; what is beyond is cut off.
const NAME_CHARACTERS_MAX: usize = 255;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Where nobody is asked who they are: the name that the caller gave itself, which proves nothing.
    Unasked(String),
    /// Somebody who showed nothing.
    Nobody,
    /// Somebody who proved it.
    Known(Identity),
}

impl Who {
    /// As history has it.
    #[must_use]
    pub fn actor(&self) -> String {
        match self {
            Self::Unasked(name) => name.clone(),
            Self::Nobody => "anonymous".to_owned(),
            Self::Known(identity) => identity.actor(),
        }
    }

    /// Whose nodes the caller is held to; none for those who see all.
    #[must_use]
    pub fn project(&self) -> Option<&str> {
        match self {
            Self::Known(identity) => identity.project.as_deref(),
            Self::Unasked(_) | Self::Nobody => None,
        }
    }
}

/// Finds out who calls, and what they may do. Clones are alike.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    /// None where everybody may do everything: without TLS nobody could prove anything.
    asked: Option<Arc<Option<Tokens>>>,
    refused: Refused,
}

impl Guard {
    /// Lets everybody do everything, and believes what they say of themselves.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Holds callers to the table: by their certificates, and by `tokens` if there are any.
    #[must_use]
    pub fn holding(tokens: Option<Tokens>) -> Self {
        Self { asked: Some(Arc::new(tokens)), refused: Refused::default() }
    }

    /// Whether callers have to be somebody.
    #[must_use]
    pub const fn asks(&self) -> bool {
        self.asked.is_some()
    }

    /// What was refused so far.
    #[must_use]
    pub const fn refused(&self) -> &Refused {
        &self.refused
    }

    /// Who calls: by the token, or else by the certificate. `named` is what they call themselves.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] when a token was shown that stands for nobody.
    pub fn who(
        &self,
        what: &str,
        peer: Option<&Peer>,
        token: Option<&str>,
        named: Option<&str>,
    ) -> Result<Who, Refusal> {
        let Some(tokens) = &self.asked else {
            let name = named.filter(|name| !name.is_empty()).unwrap_or("anonymous");
            return Ok(Who::Unasked(name.chars().take(NAME_CHARACTERS_MAX).collect()));
        };
        let identity = match token {
            Some(token) => {
                let known = tokens.as_ref().as_ref().and_then(|tokens| tokens.identity(token));
                let refusal = || Refusal::Unauthenticated {
                    what: what.to_owned(),
                    why: "the token is not in this service's token_file, or has expired",
                };
                Some(known.ok_or_else(refusal).inspect_err(|refusal| {
                    self.refused.note(refusal, peer.map(|peer| peer.address));
                })?)
            }
            None => peer.and_then(|peer| Identity::of_uris(&peer.uris)),
        };
        Ok(identity.map_or(Who::Nobody, Who::Known))
    }

    /// Whether they may: what a call needs is in the table; none is held by nobody.
    ///
    /// # Errors
    /// [`Refusal`], which was counted and logged.
    pub fn check(
        &self,
        who: &Who,
        what: &str,
        need: Option<Need>,
        address: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        let checked = if self.asks() { may(who, what, need) } else { Ok(()) };
        checked.inspect_err(|refusal| self.refused.note(refusal, address))
    }

    /// Notes a refusal that was found later, when it was known which node is meant.
    pub fn note(&self, refusal: &Refusal) {
        self.refused.note(refusal, None);
    }
}

fn may(who: &Who, what: &str, need: Option<Need>) -> Result<(), Refusal> {
    let roles = match need {
        Some(Need::Nothing) => return Ok(()),
        Some(Need::One { roles, .. }) => roles,
        None => &[],
    };
    let identity = match who {
        Who::Known(identity) => identity,
        Who::Unasked(_) => return Ok(()),
        Who::Nobody => {
            return Err(Refusal::Unauthenticated {
                what: what.to_owned(),
                why: "the caller showed neither",
            });
        }
    };
    let denied =
        |needed| Refusal::Denied { who: identity.to_string(), what: what.to_owned(), needed };
    if !roles.contains(&identity.role) {
        let roles: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        return Err(denied(match roles.as_slice() {
            [] => "a role that does not exist".to_owned(),
            roles => format!("the role {}", roles.join(" or ")),
        }));
    }
    if identity.project.is_some() && !matches!(need, Some(Need::One { by_project: true, .. })) {
        return Err(denied("somebody who is not held to the nodes of a project".to_owned()));
    }
    Ok(())
}
