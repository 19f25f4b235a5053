//! The history: pages of it, and as it happens.

pub(crate) mod filter;

use bessemer_access::{Role, Who};
use bessemer_domain::{Invalid, Revision, State};
use bessemer_proto::v1;
use bessemer_proto::v1::event_service_server::EventService;
use bessemer_wire::{Failure, event};
use futures::StreamExt;
use futures::stream::once;
use tonic::{Request, Response, Status};

use self::filter::Filter;
use crate::api::{Answers, Api, Freshness};
use crate::caller::who;
use crate::{ledger_error, page};

/// Events after the given revision that are looked at for one page, whether they match or not: bounds the work of a call.
const SCANNED_MAX: usize = 10_000;

#[tonic::async_trait]
impl EventService for Api {
    type WatchStream = Answers<v1::WatchResponse>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let sees_secrets = sees_secrets(&who(&request));
        let request = request.into_inner();
        let state = self.state(Freshness::Latest).await?;
        let filter = Filter::try_new(request.filter.unwrap_or_default(), &state)?;
        let after = match request.after_revision {
            Some(revision) => reached("after_revision", revision, &state)?,
            None => state.tip().revision,
        };
        // Sent at once, so that a watcher that is cut off before the first event knows where it began.
        let begin = v1::WatchResponse { events: Vec::new(), revision: after.0 };
        let events = self.ledger.watch(after).map(move |batch| {
            let batch = batch.map_err(ledger_error::watching)?;
            let reached = batch.last().map_or(after, |stored| stored.revision);
            let mut events = filter.select(&batch)?;
            if !sees_secrets {
                events = events.into_iter().map(event::masked).collect::<Result<_, _>>()?;
            }
            Ok(v1::WatchResponse { events, revision: reached.0 })
        });
        let responses = once(std::future::ready(Ok(begin))).chain(events);
        Ok(Response::new(self.until_stopped(responses)))
    }

    async fn list_events(
        &self,
        request: Request<v1::ListEventsRequest>,
    ) -> Result<Response<v1::ListEventsResponse>, Status> {
        let sees_secrets = sees_secrets(&who(&request));
        let state = self.state(Freshness::Latest).await?;
        let mut page = self.event_page(request.into_inner(), &state)?;
        if !sees_secrets {
            page.events = page.events.into_iter().map(event::masked).collect::<Result<_, _>>()?;
        }
        Ok(Response::new(page))
    }
}

/// Whether somebody is told records as they are stored: admins, who check and keep history, and conductors, who publish it. Where
/// nobody is asked who they are, everybody.
fn sees_secrets(who: &Who) -> bool {
    match who {
        Who::Unasked(_) => true,
        Who::Nobody => false,
        Who::Known(identity) => matches!(identity.role, Role::Admin | Role::Conductor),
    }
}

impl Api {
    fn event_page(
        &self,
        request: v1::ListEventsRequest,
        state: &State,
    ) -> Result<v1::ListEventsResponse, Failure> {
        let size = page::size(request.page_size);
        let filter = Filter::try_new(request.filter.unwrap_or_default(), state)?;
        let mut revision = reached("after_revision", request.after_revision, state)?;
        let mut sequence = request.after_sequence;
        let mut events = Vec::new();
        let mut scanned = 0;
        loop {
            let batch = match filter.subject() {
                Some(subject) => self.ledger.subject_events_after(subject, sequence, size),
                None => self.ledger.events_after(revision, size),
            }
            .map_err(ledger_error::loading)?;
            if batch.is_empty() {
                let revision = revision.max(state.tip().revision).0;
                return Ok(v1::ListEventsResponse { events, revision, more: false });
            }
            for stored in &batch {
                let event = filter::message(stored)?;
                sequence = sequence.max(event.sequence);
                if stored.revision <= revision {
                    continue;
                }
                scanned += 1;
                revision = stored.revision;
                if filter.matches(&event) {
                    events.push(event);
                }
                if events.len() == size {
                    return Ok(v1::ListEventsResponse { events, revision: revision.0, more: true });
                }
            }
            if scanned >= SCANNED_MAX {
                return Ok(v1::ListEventsResponse { events, revision: revision.0, more: true });
            }
        }
    }
}

/// The revision in a field, which history must have reached.
pub(crate) fn reached(field: &str, revision: u64, state: &State) -> Result<Revision, Failure> {
    let newest = state.tip().revision;
    if revision > newest.0 {
        let reason = format!("is beyond the newest revision, {newest}");
        return Err(Invalid::new(field, &revision.to_string(), reason).into());
    }
    Ok(Revision(revision))
}
