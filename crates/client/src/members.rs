//! What is sent to every member, and not to any.

use std::time::Duration;

use bessemer_proto::v1;
use bessemer_proto::v1::conductor_service_client::ConductorServiceClient;
use futures::future::join_all;
use tokio::time::timeout;

use crate::rpc::service;
use crate::{Client, Error};

/// A heartbeat that takes longer is late for the lease it is to keep.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(1);

impl Client {
    /// Sends a heartbeat to every member at once: each keeps its own count, and any may lead next. Never repeated, as
    /// the next one follows soon. One answer for each endpoint, in the order they were given.
    pub async fn heartbeat(
        &self,
        request: v1::HeartbeatRequest,
    ) -> Vec<Result<v1::HeartbeatResponse, Error>> {
        join_all(self.endpoints.all().iter().map(|member| {
            let request = self.request(request.clone());
            async move {
                let mut service = service!(ConductorServiceClient on member.channel.clone());
                match timeout(HEARTBEAT_TIMEOUT, service.heartbeat(request)).await {
                    Ok(answer) => Ok(answer?.into_inner()),
                    Err(_elapsed) => Err(Error::Unreachable {
                        operation: "heartbeat",
                        endpoints: vec![member.address.clone()],
                        waited: HEARTBEAT_TIMEOUT,
                        last: "nothing".to_owned(),
                    }),
                }
            }
        }))
        .await
    }
}
