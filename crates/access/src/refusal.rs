//! What is refused: told to the caller, counted, and written down.

use bessemer_wire::Failure;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Why a call was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody is known to be calling.
    #[error("{what} is for those who are known: {why}; show a client certificate or a token")]
    Unauthenticated {
        /// What was called.
        what: String,
        /// Why the caller is not known.
        why: &'static str,
    },
    /// The caller is known and may not.
    #[error("{who} may not call {what}: it takes {needed}")]
    Denied {
        /// Who called.
        who: String,
        /// What was called.
        what: String,
        /// What would have been needed.
        needed: String,
    },
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::Unauthenticated { what, .. } => Self::Unauthenticated { what, message },
            Refusal::Denied { who, what, .. } => Self::PermissionDenied { who, what, message },
        }
    }
}

/// Counts and logs refusals.
#[derive(Debug, Clone, Default)]
pub struct Refused(Family<Labels, Counter>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    call: String,
    reason: &'static str,
}

impl Refused {
    /// Makes the count known to monitoring, as `access_refused_total`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "access_refused",
            "Calls that were refused for who made them, by what was called and why",
            self.0.clone(),
        );
    }

    /// Notes a refusal of a call that came from `address`.
    pub(crate) fn note(&self, refusal: &Refusal, address: Option<std::net::SocketAddr>) {
        let (call, reason, who) = match refusal {
            Refusal::Unauthenticated { what, .. } => (what, "unauthenticated", "nobody"),
            Refusal::Denied { who, what, .. } => (what, "permission_denied", who.as_str()),
        };
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        tracing::warn!(
            audit.what = %call, audit.who = who, audit.reason = reason, peer.address = address,
            "refused: {refusal}"
        );
        self.0.get_or_create(&Labels { call: call.clone(), reason }).inc();
    }
}
