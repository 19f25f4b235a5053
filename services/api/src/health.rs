//! Whether this member is of use: as `grpc.health.v1` tells it, as monitoring asks, and as pages say it.

use std::time::Duration;

use bessemer_ledger::{Ledger, Status};
use tokio::time::interval;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// How often it is looked at: a fraction of an election.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Whether this member can be asked for anything now, or why not.
pub(crate) fn of_use(status: &Status) -> Result<(), String> {
    match (&status.failure, &status.waits_for, status.leader) {
        (Some(failure), ..) => Err(format!("the ledger has failed: {failure}")),
        (None, Some(what), _) => Err(format!("waiting for {what}")),
        (None, None, None) => Err("no leader is known".to_owned()),
        (None, None, Some(leader)) if leader == status.member_id && !has_majority(status) => {
            Err("leads, but too few of the other voters answer".to_owned())
        }
        (None, None, Some(_)) => Ok(()),
    }
}

/// Whether enough voters answer this leader. One that is cut off does not stop to lead, it only decides nothing.
fn has_majority(status: &Status) -> bool {
    let voters = status.members.iter().filter(|member| member.voter);
    let up = voters.clone().filter(|member| member.up == Some(true)).count();
    up * 2 > voters.count()
}

/// Serving while a leader is known. Never ends; dropped when the member stops.
pub(crate) async fn report(ledger: Ledger, reporter: HealthReporter) {
    let mut looks = interval(LOOK_EVERY);
    let mut told = None;
    loop {
        looks.tick().await;
        let serves = ledger.status().leader.is_some();
        if told != Some(serves) {
            let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
            // The empty name stands for the whole server.
            reporter.set_service_status("", status).await;
            told = Some(serves);
        }
    }
}
