//! The JetStream stream that holds the events.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, LastRawMessageErrorKind, Stream};
use async_nats::jetstream::{self, Context as JetStream};
use bessemer_domain::ids::ClusterId;
use bessemer_domain::outbox::{Acknowledgement, Cursor};
use bessemer_domain::{SealedEvent, Subject};
use bessemer_proto::v1::Event;
use bytes::Bytes;

use crate::config::NatsConfig;

/// The stream's name.
const STREAM: &str = "BESSEMER_EVENTS";

/// All subjects of the stream are below it.
const SUBJECT_ROOT: &str = "bessemer.events";

/// The event's place in its subject's history.
const SEQUENCE_HEADER: &str = "Bessemer-Sequence";

/// The event's place in the cluster's history.
const REVISION_HEADER: &str = "Bessemer-Revision";

/// The event's place in the hash chain, hexadecimal.
const HASH_HEADER: &str = "Bessemer-Hash";

/// JetStream drops a message whose id it saw within this time, even if the first one was deleted since. The expected
/// sequence already keeps doubles out, so the shortest time that spares a resend is enough.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1);

/// How long JetStream may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// How often a silent server is asked whether it is there; after two pings without an answer another one is tried.
const PING_EVERY: Duration = Duration::from_secs(2);

/// An event as it is published.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) revision: u64,
    pub(crate) sequence: u64,
    pub(crate) hash: String,
    pub(crate) record: Bytes,
}

impl Message {
    pub(super) fn of(event: &SealedEvent) -> Self {
        Self {
            revision: event.record.revision.0,
            sequence: event.record.sequence,
            hash: event.hash.to_string(),
            record: Bytes::from(event.bytes.clone()),
        }
    }
}

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        Self {
            revision: event.revision,
            sequence: event.sequence,
            hash: hex::encode(&event.hash),
            record: event.record,
        }
    }
}

/// Why events could not be published. All of these pass: with time, or by reading the cursor again.
#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    /// No connection.
    #[error("cannot connect to {url}")]
    Connect {
        /// The server.
        url: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
    /// Nobody to be.
    #[error("nats.credentials_file {} cannot be read", path.display())]
    Credentials {
        /// As configured.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The server does not do what was asked.
    #[error("cannot {action}")]
    Server {
        /// What was asked.
        action: &'static str,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another publisher was there first.
    #[error("{subject} was published by another conductor meanwhile")]
    Overtaken {
        /// Whose events.
        subject: String,
    },
    /// JetStream took the message for a resend of one that it no longer has.
    #[error("{subject} event {sequence} was dropped as a duplicate")]
    Dropped {
        /// Whose event.
        subject: String,
        /// Which.
        sequence: u64,
    },
    /// The member of the API that was asked has not applied them yet.
    #[error("the API does not have the newest events of {subject} yet")]
    LedgerBehind {
        /// Whose events.
        subject: String,
    },
}

/// The stream, as found when it was opened.
#[derive(Debug)]
pub(super) struct EventStream {
    jetstream: JetStream,
    stream: Stream,
}

impl EventStream {
    /// Connects, and makes the stream if it is not there.
    pub(super) async fn open(config: &NatsConfig) -> Result<Self, PublishError> {
        let mut options = match &config.credentials_file {
            None => async_nats::ConnectOptions::new(),
            Some(path) => {
                let read = async_nats::ConnectOptions::with_credentials_file(path).await;
                read.map_err(|source| PublishError::Credentials { path: path.clone(), source })?
            }
        };
        if let Some(ca_file) = &config.ca_file {
            options = options.require_tls(true).add_root_certificates(ca_file.clone());
        }
        if let (Some(certificate), Some(key)) = (&config.certificate_file, &config.key_file) {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        let client = options
            .connection_timeout(ANSWER_LIMIT)
            .ping_interval(PING_EVERY)
            .connect(config.url.split(',').map(str::trim).collect::<Vec<_>>())
            .await
            .map_err(|source| PublishError::Connect { url: config.url.clone(), source })?;
        let mut jetstream = jetstream::new(client);
        jetstream.set_timeout(ANSWER_LIMIT);
        let wanted = Config {
            name: STREAM.to_owned(),
            description: Some("Every event of the cluster, in order for each subject".to_owned()),
            subjects: vec![format!("{SUBJECT_ROOT}.>")],
            num_replicas: config.replicas,
            duplicate_window: DUPLICATE_WINDOW,
            ..Config::default()
        };
        let stream = jetstream
            .get_or_create_stream(wanted)
            .await
            .map_err(server("make the event stream"))?;
        Ok(Self { jetstream, stream })
    }

    /// Whether the stream is the one that was opened, and none of its messages were removed since.
    pub(super) async fn is_whole(&self) -> bool {
        let Ok(now) = self.stream.get_info().await else { return false };
        let opened = self.stream.cached_info();
        now.created == opened.created
            && now.state.first_sequence <= opened.state.first_sequence.max(1)
    }

    /// How far a subject has been published.
    pub(super) async fn cursor(&self, subject: &Subject) -> Result<Cursor, PublishError> {
        match self.stream.get_last_raw_message_by_subject(&nats_subject(subject)).await {
            Ok(message) => Ok(Cursor {
                event_sequence: message
                    .headers
                    .get(SEQUENCE_HEADER)
                    .and_then(|value| value.as_str().parse().ok())
                    .unwrap_or_default(),
                stream_sequence: message.sequence,
            }),
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => {
                Ok(Cursor::default())
            }
            Err(error) => Err(server("read the newest event of a subject")(error)),
        }
    }

    /// Publishes the event after the cursor. Refused by the server when another one is there already.
    pub(super) async fn publish(
        &self,
        cluster_id: ClusterId,
        subject: &Subject,
        message: &Message,
        cursor: Cursor,
    ) -> Result<Cursor, PublishError> {
        let publish = PublishMessage::build()
            .payload(message.record.clone())
            .message_id(format!("{cluster_id}-{}", message.revision))
            .expected_last_subject_sequence(cursor.stream_sequence)
            .header(SEQUENCE_HEADER, message.sequence.to_string().as_str())
            .header(REVISION_HEADER, message.revision.to_string().as_str())
            .header(HASH_HEADER, message.hash.as_str());
        let sent = self.jetstream.send_publish(nats_subject(subject), publish).await;
        let outcome = match sent {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(ack) => {
                let acknowledged =
                    Acknowledgement { stream_sequence: ack.sequence, duplicate: ack.duplicate };
                cursor.after(message.sequence, acknowledged).ok_or_else(|| PublishError::Dropped {
                    subject: subject.to_string(),
                    sequence: message.sequence,
                })
            }
            Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
                Err(PublishError::Overtaken { subject: subject.to_string() })
            }
            Err(error) => Err(server("publish an event")(error)),
        }
    }
}

fn nats_subject(subject: &Subject) -> String {
    format!("{SUBJECT_ROOT}.{}", subject.to_string().replace('/', "."))
}

fn server<E: std::error::Error + Send + Sync + 'static>(
    action: &'static str,
) -> impl FnOnce(E) -> PublishError {
    move |source| PublishError::Server { action, source: Box::new(source) }
}
