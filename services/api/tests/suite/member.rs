//! A member alone in its cluster, and what tests ask of it.

use std::collections::BTreeSet;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use bessemer_api::{Config, Handle, Member, start};
use bessemer_client::{Client, Error, Refusal};
use bessemer_domain::conductor::Registration;
use bessemer_domain::ids::{CommandId, ConductorId, Incarnation, NodeId, PlanId};
use bessemer_domain::node::{StepReport, StepResult};
use bessemer_domain::{Command, CommandBody, Outcome, Timestamp};
use bessemer_proto::v1;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

/// How long anything may take on a busy machine before a test gives up.
const DEADLINE: Duration = Duration::from_secs(30);

/// The conductor that tests speak for.
pub(crate) const CONDUCTOR: &str = "conductor-1";

/// Where it says that it listens.
pub(crate) const CONDUCTOR_ADDRESS: &str = "http://127.0.0.1:7000";

const ANY: &str = "127.0.0.1:0";

/// Silent conductors are not the subject of most tests.
const LEASE_MILLISECONDS: u32 = 600_000;

pub(crate) struct Running {
    pub(crate) client: Client,
    pub(crate) incarnation: Incarnation,
    /// Where its dashboard is.
    pub(crate) dashboard: String,
    /// Where Ironic's REST API is.
    pub(crate) rest: String,
    /// Where its metrics are.
    pub(crate) metrics: String,
    address: String,
    handle: Handle,
    shutdown: CancellationToken,
}

impl Running {
    pub(crate) async fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, LEASE_MILLISECONDS).await
    }

    pub(crate) async fn start_with(data_dir: &Path, lease_milliseconds: u32) -> Self {
        let lease = |config: &mut Config| config.conductor_lease_milliseconds = lease_milliseconds;
        Self::start_by(data_dir, lease).await
    }

    /// With a configuration that is changed before it starts.
    pub(crate) async fn start_by(data_dir: &Path, change: impl FnOnce(&mut Config)) -> Self {
        let only = Member { id: 1, address: "127.0.0.1:1".into() };
        let mut config = Config {
            listen: ANY.parse().unwrap(),
            dashboard_listen: Some(ANY.parse().unwrap()),
            rest_listen: Some(ANY.parse().unwrap()),
            metrics_listen: Some(ANY.parse().unwrap()),
            conductor_lease_milliseconds: LEASE_MILLISECONDS,
            ..Config::new(1, data_dir, vec![only])
        };
        change(&mut config);
        let shutdown = CancellationToken::new();
        let handle = start(config, shutdown.clone()).await.unwrap();
        let address = format!("http://{}", handle.address);
        let client = Client::new(&[&address]).unwrap().with_deadline(DEADLINE).with_actor("tester");
        let running = Self {
            client,
            incarnation: Incarnation::new(Uuid::new_v4()),
            dashboard: format!("http://{}", handle.dashboard_address.unwrap()),
            rest: format!("http://{}", handle.rest_address.unwrap()),
            metrics: format!("http://{}", handle.metrics_address.unwrap()),
            address,
            handle,
            shutdown,
        };
        running
            .wait_for("a leader", async || {
                running.client.get_status(v1::GetStatusRequest {}).await.unwrap().revision > 0
            })
            .await;
        running
    }

    /// With a conductor that drives `fake` machines.
    pub(crate) async fn with_conductor(data_dir: &Path) -> Self {
        let running = Self::start(data_dir).await;
        running.register().await;
        running
    }

    /// A plain connection, for services that the client does not have.
    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(self.address.clone()).unwrap().connect_lazy()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.handle.stopped().await.unwrap();
    }

    pub(crate) async fn register(&self) {
        let registration = Registration {
            incarnation: self.incarnation,
            conductor_group: String::new(),
            hardware_types: BTreeSet::from(["fake".to_owned()]),
            address: CONDUCTOR_ADDRESS.to_owned(),
        };
        let conductor = ConductorId::try_new(CONDUCTOR).unwrap();
        let registration = Box::new(registration);
        self.command(CommandBody::RegisterConductor { conductor, registration }).await.unwrap();
    }

    /// What a conductor would send.
    pub(crate) async fn command(&self, body: CommandBody) -> Outcome {
        let command = Command {
            id: CommandId::new(Uuid::new_v4()),
            fingerprint: 0,
            actor: CONDUCTOR.to_owned(),
            at: Timestamp::from_micros(1_700_000_000_000_000),
            body,
        };
        let commands = vec![serde_json::to_vec(&command).unwrap()];
        let answer = self.client.propose(v1::ProposeRequest { commands }).await.unwrap();
        serde_json::from_slice(&answer.outcomes[0]).unwrap()
    }

    pub(crate) async fn heartbeat(&self, progress: Vec<v1::NodeProgress>) -> bool {
        let request = v1::HeartbeatRequest {
            conductor_id: CONDUCTOR.to_owned(),
            incarnation: self.incarnation.to_string(),
            progress,
        };
        let answer = self.client.heartbeat(request).await.remove(0);
        answer.unwrap().registered
    }

    pub(crate) async fn create(&self, name: &str) -> v1::Node {
        self.client.create_node(new_node(name)).await.unwrap()
    }

    pub(crate) async fn get(&self, node: &str) -> v1::Node {
        let request = v1::GetNodeRequest { node: node.into(), ..v1::GetNodeRequest::default() };
        self.client.get_node(request).await.unwrap()
    }

    pub(crate) async fn revision(&self) -> u64 {
        self.client.get_status(v1::GetStatusRequest {}).await.unwrap().revision
    }

    /// Takes the node to `available` as its conductor would, its cleaning switched off.
    pub(crate) async fn make_available(&self, node: &str) {
        self.client.manage_node(verb(node)).await.unwrap();
        self.claim(node).await;
        self.run_step(node, StepResult::Done).await;
        self.client.provide_node(verb(node)).await.unwrap();
    }

    pub(crate) async fn claim(&self, node: &str) {
        let conductor = ConductorId::try_new(CONDUCTOR).unwrap();
        let (node, incarnation) = (id_of(&self.get(node).await), self.incarnation);
        self.command(CommandBody::ClaimNode { node, conductor, incarnation }).await.unwrap();
    }

    /// Begins the node's current step.
    pub(crate) async fn start_step(&self, node: &str) {
        self.report(node, StepReport::Started).await;
    }

    /// Begins and ends the node's current step.
    pub(crate) async fn run_step(&self, node: &str, result: StepResult) {
        self.start_step(node).await;
        self.report(node, StepReport::Completed(Box::new(result))).await;
    }

    async fn report(&self, node: &str, report: StepReport) {
        let node = self.get(node).await;
        let status = node.status.as_ref().unwrap();
        let plan = status.plan.as_ref().unwrap();
        let ended = plan.steps.iter().filter(|step| step.state() == v1::StepState::Done).count();
        let body = CommandBody::ReportStep {
            node: id_of(&node),
            epoch: status.claim.as_ref().unwrap().epoch,
            plan: plan.id.parse::<PlanId>().unwrap(),
            index: ended,
            report,
        };
        self.command(body).await.unwrap();
    }

    pub(crate) async fn wait_for(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) {
        let started = Instant::now();
        while !holds().await {
            assert!(started.elapsed() < DEADLINE, "{what} did not come within {DEADLINE:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn new_node(name: &str) -> v1::CreateNodeRequest {
    v1::CreateNodeRequest {
        name: name.into(),
        spec: Some(v1::NodeSpec {
            driver: "fake".into(),
            automated_clean: Some(false),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn verb(node: &str) -> v1::NodeVerbRequest {
    v1::NodeVerbRequest { node: node.into(), ..Default::default() }
}

pub(crate) fn command_id() -> String {
    Uuid::new_v4().to_string()
}

pub(crate) fn id_of(node: &v1::Node) -> NodeId {
    node.metadata.as_ref().unwrap().id.parse().unwrap()
}

pub(crate) fn state_of(node: &v1::Node) -> &str {
    &node.status.as_ref().unwrap().provision_state
}

/// The refusal that a call must end with.
pub(crate) async fn refusal<T: std::fmt::Debug>(
    call: impl Future<Output = Result<T, Error>>,
) -> Refusal {
    match call.await {
        Err(Error::Refused(refusal)) => *refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}
