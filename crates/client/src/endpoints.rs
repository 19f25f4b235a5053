//! The members' addresses, and which of them is in use.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bessemer_runtime::tls::Transport;
use tonic::transport::Channel;

/// A member that does not accept a connection in this time is passed over.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection is asked for a sign of life this often, and given up when none comes for twice that.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// An endpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("endpoint `{endpoint}` {reason}")]
pub struct InvalidEndpoint {
    /// As it was given.
    pub endpoint: String,
    /// What is wrong with it; reads on from the endpoint.
    pub reason: &'static str,
}

/// One channel for each member; calls stick to one that works.
#[derive(Debug)]
pub(crate) struct Endpoints {
    members: Vec<Member>,
    current: AtomicUsize,
}

/// A member as it is reached.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) address: String,
    pub(crate) channel: Channel,
}

impl Endpoints {
    pub(crate) fn new<T: AsRef<str>>(
        endpoints: &[T],
        transport: &Transport,
    ) -> Result<Self, InvalidEndpoint> {
        if endpoints.is_empty() {
            let reason = "is missing: give at least one, such as http://127.0.0.1:6385";
            return Err(InvalidEndpoint { endpoint: String::new(), reason });
        }
        let members = endpoints
            .iter()
            .map(|endpoint| member(endpoint.as_ref(), transport))
            .collect::<Result<_, _>>()?;
        Ok(Self { members, current: AtomicUsize::new(0) })
    }

    pub(crate) fn all(&self) -> &[Member] {
        &self.members
    }

    /// The place of the member in use.
    pub(crate) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    pub(crate) fn member(&self, place: usize) -> &Member {
        &self.members[place % self.members.len()]
    }

    /// Passes on from the member at `failed`. Of several callers that saw it fail, only the first moves.
    pub(crate) fn leave(&self, failed: usize) {
        let next = (failed + 1) % self.members.len();
        // Losing the race is as good: another caller has moved on.
        self.current.compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed).ok();
    }
}

fn member(address: &str, transport: &Transport) -> Result<Member, InvalidEndpoint> {
    let endpoint = transport
        .endpoint(address)
        .map_err(|invalid| InvalidEndpoint { endpoint: invalid.url, reason: invalid.reason })?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_INTERVAL)
        .keep_alive_while_idle(true);
    Ok(Member { address: address.to_owned(), channel: transport.channel(&endpoint) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_cannot_work_is_named() {
        for endpoint in ["127.0.0.1:6385", "https://127.0.0.1", "http://", "http://a b"] {
            assert_eq!(
                Endpoints::new(&[endpoint], &Transport::plain()).unwrap_err().endpoint,
                endpoint
            );
        }
        assert!(Endpoints::new::<&str>(&[], &Transport::plain()).is_err());
    }

    #[tokio::test]
    async fn callers_that_saw_the_same_member_fail_move_one_place_together() {
        let endpoints =
            Endpoints::new(&["http://a:1", "http://b:1", "http://c:1"], &Transport::plain())
                .unwrap();
        endpoints.leave(0);
        endpoints.leave(0);
        assert_eq!(endpoints.member(endpoints.current()).address, "http://b:1");
        endpoints.leave(1);
        endpoints.leave(2);
        assert_eq!(endpoints.current(), 0);
    }
}
