//! What goes with every message between members, so that none is taken by whom it was not meant for.
//!
//! An address may have gone to another member, and a cluster that was restored from a backup may have members of before
//! the disaster that still run: they share its id and not its history.

use tokio::sync::watch;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::MemberId;

/// The member that is spoken to.
const TO: &str = "x-bessemer-to-member";

/// The history that the speaker belongs to; absent while it knows none.
const HISTORY: &str = "x-bessemer-history";

/// Adds what goes with a message to member `to`.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(super) to: MemberId,
    pub(super) history: watch::Receiver<Option<String>>,
}

impl Interceptor for Envelope {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(TO, MetadataValue::from(self.to.0));
        if let Some(history) = value(&self.history) {
            metadata.insert(HISTORY, history);
        }
        Ok(request)
    }
}

/// Whether a message is meant for this member.
pub(super) fn check(
    metadata: &MetadataMap,
    me: MemberId,
    history: &watch::Receiver<Option<String>>,
) -> Result<(), Status> {
    let to = metadata.get(TO).and_then(|to| to.to_str().ok()?.parse().ok()).map(MemberId);
    if to.is_some_and(|to| to != me) {
        return Err(Status::failed_precondition(format!("this is member {me}")));
    }
    match (value(history), metadata.get(HISTORY)) {
        (Some(ours), Some(theirs)) if ours != theirs => Err(Status::failed_precondition(format!(
            "member {me} has history {}, not {}: it belongs to another cluster, or to this one before it was restored",
            ours.to_str().unwrap_or_default(),
            theirs.to_str().unwrap_or_default(),
        ))),
        _ => Ok(()),
    }
}

fn value(history: &watch::Receiver<Option<String>>) -> Option<MetadataValue<Ascii>> {
    MetadataValue::try_from(history.borrow().as_ref()?).ok()
}
