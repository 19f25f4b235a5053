//! The members of the API: those of the configuration at first, and whoever votes from then on.
//!
//! Members come and go without a restart of anything. A conductor that only spoke to those of its configuration would not be
//! heard by a leader that came later, and lose its nodes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bessemer_proto::v1::ListMembersRequest;
use bessemer_proto::v1::cluster_service_client::ClusterServiceClient;
use bessemer_runtime::tls::{InvalidUrl, Transport};
use tonic::transport::{Channel, Endpoint};

/// How long a member has to accept a connection; another one is tried then.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// How often a peer that says nothing is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(1);

/// How long a member has to answer that: both together are a lease.
const PING_ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How often the members are asked who they are: well within the lease, so that a new leader hears of this conductor
/// before it misses it.
const LEARN_EVERY: Duration = Duration::from_millis(500);

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct Member {
    url: String,
    pub(super) channel: Channel,
    /// Whether it is known to vote; one of the configuration that does not is still asked when no other answers.
    votes: bool,
}

/// All of them. One is used until it fails, then the next.
#[derive(Debug)]
pub(crate) struct Members {
    transport: Transport,
    configured: Vec<String>,
    known: RwLock<Arc<[Member]>>,
    current: AtomicUsize,
}

impl Members {
    /// Connects lazily to each.
    ///
    /// # Errors
    /// When an address is none.
    pub(crate) fn new(urls: &[String], transport: &Transport) -> Result<Arc<Self>, InvalidUrl> {
        let known =
            urls.iter().map(|url| connect(transport, url, true)).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            transport: transport.clone(),
            configured: urls.to_owned(),
            known: RwLock::new(known),
            current: AtomicUsize::new(0),
        }))
    }

    fn known(&self) -> Arc<[Member]> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All that vote: one of them leads, or will.
    pub(super) fn voters(&self) -> Vec<Channel> {
        let known = self.known();
        known.iter().filter(|member| member.votes).map(|member| member.channel.clone()).collect()
    }

    /// The one in use.
    pub(super) fn current(&self) -> Member {
        let known = self.known();
        known[self.current.load(Ordering::Relaxed) % known.len()].clone()
    }

    /// Uses the next one from now on, unless somebody has moved on from `failed` already.
    pub(super) fn move_on(&self, failed: &Member) {
        let known = self.known();
        let place = self.current.load(Ordering::Relaxed);
        if known[place % known.len()].url == failed.url {
            let next = (place + 1) % known.len();
            self.current.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed).ok();
        }
    }

    /// Takes note of who votes. Connections that are open stay.
    fn update(&self, voters: &[String]) -> Result<(), InvalidUrl> {
        let before = self.known();
        let others = self.configured.iter().filter(|url| !voters.contains(url));
        let now = voters.iter().map(|url| (url, true)).chain(others.map(|url| (url, false)));
        if before.iter().map(|member| (&member.url, member.votes)).eq(now.clone()) {
            return Ok(());
        }
        let known = now
            .map(|(url, votes)| match before.iter().find(|member| member.url == *url) {
                Some(member) => Ok(Member { votes, ..member.clone() }),
                None => connect(&self.transport, url, votes),
            })
            .collect::<Result<Arc<[_]>, _>>()?;
        tracing::info!(?voters, "the members of the cluster are others now");
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }
}

fn connect(transport: &Transport, url: &str, votes: bool) -> Result<Member, InvalidUrl> {
    let endpoint = noticing_silence(transport.endpoint(url)?, PING_ANSWER_LIMIT)
        .connect_timeout(CONNECT_LIMIT);
    Ok(Member { url: url.to_owned(), channel: transport.channel(&endpoint), votes })
}

/// A peer that the network has swallowed sends no goodbye. One that does not answer pings has its connection ended, and
/// with it every request that waits for it, however long it may take its time otherwise.
pub(crate) fn noticing_silence(endpoint: Endpoint, answer_limit: Duration) -> Endpoint {
    endpoint
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(answer_limit)
        .keep_alive_while_idle(true)
}

/// Asks for ever who the members are.
pub(crate) async fn learn(members: Arc<Members>) {
    loop {
        let answer = members
            .ask("learn who the members are", |channel| {
                let mut client = ClusterServiceClient::new(channel);
                async move { client.list_members(ListMembersRequest {}).await }
            })
            .await;
        let voters = answer.into_inner().members.into_iter().filter(|member| member.voter);
        let voters: Vec<_> = voters
            .map(|member| format!("{}://{}", members.transport.scheme(), member.address))
            .collect();
        // A member that knows none yet is new itself.
        if !voters.is_empty()
            && let Err(error) = members.update(&voters)
        {
            tracing::warn!(%error, "a member's address is none");
        }
        tokio::time::sleep(LEARN_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(ports: &[u16]) -> Vec<String> {
        ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect()
    }

    fn known(members: &Members) -> Vec<(String, bool)> {
        members.known().iter().map(|member| (member.url.clone(), member.votes)).collect()
    }

    #[tokio::test]
    async fn those_that_vote_now_are_spoken_to() {
        let members = Members::new(&urls(&[1, 2, 3]), &Transport::plain()).unwrap();
        assert_eq!(members.voters().len(), 3);
        members.update(&urls(&[2, 3, 4, 5])).unwrap();
        assert_eq!(members.voters().len(), 4);
        // The one that was removed is still there to be asked.
        let votes = [(2, true), (3, true), (4, true), (5, true), (1, false)];
        let expected = votes.map(|(port, votes)| (urls(&[port]).remove(0), votes));
        assert_eq!(known(&members), expected);
        members.update(&urls(&[5])).unwrap();
        assert_eq!(members.voters().len(), 1);
        assert_eq!(known(&members).len(), 4);
    }

    /// Connections to it are accepted, by the kernel, and never answered.
    #[tokio::test]
    async fn a_member_that_was_swallowed_by_the_network_is_given_up() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let live = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ports = [silent.local_addr().unwrap().port(), live.local_addr().unwrap().port()];
        let (_health, service) = tonic_health::server::health_reporter();
        let incoming = tonic::transport::server::TcpIncoming::from(live);
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(incoming));

        let members = Members::new(&urls(&ports), &Transport::plain()).unwrap();
        let asked = members.ask("check", |channel| {
            let mut client = tonic_health::pb::health_client::HealthClient::new(channel);
            async move { client.check(tonic_health::pb::HealthCheckRequest::default()).await }
        });
        let limit = (PING_EVERY + PING_ANSWER_LIMIT) * 5;
        tokio::time::timeout(limit, asked).await.expect("it is still waited for");
        assert_eq!(members.current().url, urls(&ports)[1]);
    }

    #[tokio::test]
    async fn callers_that_saw_the_same_member_fail_move_one_place_together() {
        let members = Members::new(&urls(&[1, 2, 3]), &Transport::plain()).unwrap();
        let first = members.current();
        members.move_on(&first);
        members.move_on(&first);
        assert_eq!(members.current().url, urls(&[2])[0]);
    }
}
