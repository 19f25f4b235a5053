//! The conductor's side of its conversation with the API: commands up, events down, and the lease.

mod follow;
mod lease;
mod members;
mod propose;

use std::time::Duration;

use bessemer_domain::Subject;
use bessemer_proto::v1::event_service_client::EventServiceClient;
use bessemer_proto::v1::{EventFilter, ListEventsRequest};
use tonic::Status;
use tonic::transport::Channel;

use crate::publish::Message;

pub(crate) use follow::{Followers, follow};
pub(crate) use lease::keep_lease;
pub(crate) use members::{Members, learn, noticing_silence};
pub(crate) use propose::Proposals;

/// Largest answer that is taken: a slice of the state, or a batch of events with their config drives.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Pause before the next member is tried: an election takes about that long.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Events fetched at once when a subject's published history is completed.
const EVENTS_PAGE: u32 = 500;

impl Members {
    /// Repeats a request, member after member, until one answers.
    pub(crate) async fn ask<T, F>(
        &self,
        what: &'static str,
        request: impl Fn(Channel) -> F + Send,
    ) -> T
    where
        F: Future<Output = Result<T, Status>> + Send,
    {
        loop {
            let member = self.current();
            match request(member.channel.clone()).await {
                Ok(answer) => return answer,
                Err(status) => {
                    tracing::info!(error = status.message(), code = ?status.code(), "{what}: asking another member");
                }
            }
            self.move_on(&member);
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// A page of a subject's events after `sequence`, from the ledger.
    pub(crate) async fn events_of(&self, subject: &Subject, sequence: u64) -> Vec<Message> {
        let request = ListEventsRequest {
            after_revision: 0,
            page_size: EVENTS_PAGE,
            filter: Some(EventFilter { subject: subject.to_string(), ..EventFilter::default() }),
            after_sequence: sequence,
        };
        let answer = self
            .ask("list events", |channel| {
                let request = request.clone();
                let mut client =
                    EventServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
                async move { client.list_events(request).await }
            })
            .await;
        answer.into_inner().events.into_iter().map(Message::from).collect()
    }
}
