//! Finding the node that this machine is, and the conductor that drives it.

use std::time::Duration;

use bessemer_proto::v1::agent_lookup_service_client::AgentLookupServiceClient;
use bessemer_proto::v1::{LookupRequest, LookupResponse};
use bessemer_runtime::tls::{InvalidUrl, Transport};

use crate::backoff::Backoff;
use crate::task::chain;

/// How long a member of the API may take to connect, and then to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// First pause after all members were asked in vain: a new leader is elected within about a second.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// Longest pause. A conductor that takes over waits 15 s for an agent to return, before it boots
/// the machine anew.
const PAUSE_LONGEST: Duration = Duration::from_secs(2);

/// Asks the members of the API in turn, for ever; every time with what the machine looks like then: a network
/// interface may appear while we ask.
pub(super) async fn lookup(
    api_urls: &[String],
    transport: &Transport,
    request: impl Fn() -> LookupRequest,
) -> LookupResponse {
    let mut backoff = Backoff::new(PAUSE_FIRST, PAUSE_LONGEST);
    // A machine may ask for days: what is logged already is not logged again.
    let mut logged = vec![String::new(); api_urls.len()];
    loop {
        for (url, logged) in api_urls.iter().zip(&mut logged) {
            match ask(transport, url, request()).await {
                Ok(found) => return found,
                Err(error) => {
                    let error = chain(&error);
                    if *logged != error {
                        tracing::info!(api.url = url, error, "lookup not answered");
                        *logged = error;
                    }
                }
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

#[derive(Debug, thiserror::Error)]
enum LookupError {
    #[error(transparent)]
    Url(#[from] InvalidUrl),
    #[error("cannot connect")]
    Connect(#[from] tonic::transport::Error),
    #[error("refused")]
    Refused(#[from] tonic::Status),
}

async fn ask(
    transport: &Transport,
    url: &str,
    request: LookupRequest,
) -> Result<LookupResponse, LookupError> {
    let endpoint = transport
        .endpoint(url)?
        .connect_timeout(ANSWER_LIMIT)
        .timeout(ANSWER_LIMIT)
        .tcp_nodelay(true);
    let mut client = AgentLookupServiceClient::new(transport.connect(&endpoint).await?);
    Ok(client.lookup(request).await?.into_inner())
}
