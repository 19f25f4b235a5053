//! Asking again: one member after the other, then after a pause.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::error::is_transient;
use crate::{Client, Error};

/// How long one member is waited for. Longer than an election, so that a member that waits for one can still answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// First pause once every member was tried, and the one that pauses grow to.
const PAUSE_MIN: Duration = Duration::from_millis(25);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One call's attempts: which member is next, and until when.
#[derive(Debug)]
pub(crate) struct Attempts {
    operation: &'static str,
    started: Instant,
    failures: usize,
}

impl Attempts {
    pub(crate) fn new(operation: &'static str) -> Self {
        Self { operation, started: Instant::now(), failures: 0 }
    }

    /// Forgets the failures: the deadline counts from now.
    pub(crate) fn succeeded(&mut self) {
        self.started = Instant::now();
        self.failures = 0;
    }

    /// Passes on from the member at `place`, after a pause if all were tried.
    ///
    /// # Errors
    /// What to tell the caller, when it will not get better or the deadline has passed.
    pub(crate) async fn failed(
        &mut self,
        client: &Client,
        place: usize,
        status: Status,
    ) -> Result<(), Error> {
        if !is_transient(&status) {
            return Err(status.into());
        }
        self.failures += 1;
        let members = client.endpoints.all();
        client.endpoints.leave(place);
        let waited = self.started.elapsed();
        let rounds = self.failures / members.len();
        let tried_all = self.failures.is_multiple_of(members.len());
        let pause = if tried_all { pause(rounds) } else { Duration::ZERO };
        tracing::debug!(
            operation = self.operation,
            endpoint = client.endpoints.member(place).address,
            error = status.message(),
            "asking again"
        );
        if waited + pause >= client.deadline {
            return Err(Error::Unreachable {
                operation: self.operation,
                endpoints: members.iter().map(|member| member.address.clone()).collect(),
                waited,
                last: status.message().to_owned(),
            });
        }
        sleep(pause).await;
        Ok(())
    }
}

impl Client {
    /// Makes the same request of one member after the other until one answers it.
    pub(crate) async fn call<Q, A, F, Fut>(
        &self,
        operation: &'static str,
        message: Q,
        call: F,
    ) -> Result<A, Error>
    where
        Q: Clone,
        F: Fn(Channel, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let mut attempts = Attempts::new(operation);
        loop {
            let place = self.endpoints.current();
            let channel = self.endpoints.member(place).channel.clone();
            let answer = call(channel, self.request(message.clone()));
            let status = match timeout(ATTEMPT_TIMEOUT, answer).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_elapsed) => {
                    Status::deadline_exceeded(format!("no answer within {ATTEMPT_TIMEOUT:?}"))
                }
            };
            attempts.failed(self, place, status).await?;
        }
    }
}

/// Doubles with every round over the members; drawn from its upper half, so that clients do not come back together.
fn pause(rounds: usize) -> Duration {
    let doublings = u32::try_from(rounds.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let longest = PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX);
    let (random, _) = Uuid::new_v4().as_u64_pair();
    let half = longest / 2;
    half + half.mul_f64((random >> 32) as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_their_bounds() {
        for rounds in 1..100 {
            let longest = PAUSE_MIN * 2_u32.pow(u32::try_from(rounds - 1).unwrap().min(10));
            let pause = pause(rounds);
            assert!(
                pause <= longest.min(PAUSE_MAX) && pause >= longest.min(PAUSE_MAX) / 2,
                "{pause:?}"
            );
        }
    }
}
