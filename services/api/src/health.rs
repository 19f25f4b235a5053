//! Whether this member is of use, as `grpc.health.v1` tells it.

use std::time::Duration;

use bessemer_ledger::Ledger;
use tokio::time::interval;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// How often it is looked at: a fraction of an election.
const LOOK_EVERY: Duration = Duration::from_millis(200);

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
