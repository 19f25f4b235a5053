//! Users: each enrols a machine, asks this and that of it, and knows what it wants in the end.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::ids::{CommandId, NodeId};
use bessemer_domain::node::{
    DeploymentSpec, ImageDownloadSource, Node, NodeSpec, PowerTarget, ProvisionState,
    RequestedStep, Step,
};
use bessemer_domain::{CommandBody, Outcome};
use futures::FutureExt;

use crate::disk::Image;
use crate::image_cache::{IMAGES, image_spec};
use crate::member::encode;
use crate::network::Host;
use crate::sync::Watch;
use crate::world::{CONDUCTORS, MEMBERS, World};

/// How long a user waits for an answer before it asks another member.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// Share of images that turn out to be corrupt, in percent.
const CORRUPT_PERCENT: u32 = 15;

/// Share of deployments with a step of the operator's, in percent.
const PLUGIN_STEP_PERCENT: u32 = 30;

/// Which users have what they want.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    fulfilled: Watch<BTreeSet<usize>>,
}

impl Wishes {
    pub(crate) fn fulfilled(&self) -> usize {
        self.fulfilled.get().len()
    }
}

impl World {
    /// A user's life with one machine.
    pub(crate) async fn user(self: Rc<Self>, index: usize) {
        let node = self.machines[index].node;
        let create = || CommandBody::CreateNode {
            node,
            name: None,
            spec: Box::new(NodeSpec { driver: "fake".to_owned(), ..NodeSpec::default() }),
            ports: Vec::new(),
        };
        // No conductor may have registered yet.
        while self.ask(create()).await.is_err() {
            self.exec.pause(500..=2_000).await;
        }
        while self.faults.get() {
            self.exec.pause(200..=8_000).await;
            if self.exec.chance(3) {
                self.drain_for_a_while().await;
            }
            if let Some(found) = self.read(node).await
                && let Some(body) = self.whim(&found)
            {
                self.ask(body).await.ok();
            }
        }
        self.insist(node).await;
        self.wishes.fulfilled.update(|fulfilled| fulfilled.insert(index));
        self.note(&format!("user {index} has what it wants"));
    }

    /// An operator has a conductor hand its nodes over, though it may be the last one, and changes their mind.
    async fn drain_for_a_while(self: &Rc<Self>) {
        let conductor = self.conductors[self.exec.below(CONDUCTORS)].id.clone();
        let drain = CommandBody::DrainConductor { conductor: conductor.clone(), force: true };
        // One that never registered is not known.
        self.ask(drain).await.ok();
        self.exec.pause(500..=5_000).await;
        self.ask(CommandBody::ResumeConductor { conductor }).await.ok();
    }

    /// Sends a command until a member answers: the same one each time.
    async fn ask(self: &Rc<Self>, body: CommandBody) -> Outcome {
        let at = self.members[self.exec.below(MEMBERS)].clock.read(self.exec.now());
        let command = self.command("user", at, body);
        let entry = encode(std::slice::from_ref(&command));
        loop {
            let (world, entry, member) =
                (Rc::clone(self), Rc::clone(&entry), self.exec.below(MEMBERS));
            let serve =
                move || Rc::clone(&world).propose_at(member, Rc::clone(&entry)).boxed_local();
            let to = Host::Member(member);
            let answer = self.call(Host::User, to, ANSWER_LIMIT, serve).await;
            if let Some(outcome) = answer.flatten().and_then(|mut outcomes| outcomes.pop()) {
                self.answered(&command, &outcome);
                return outcome;
            }
            self.exec.pause(50..=500).await;
        }
    }

    async fn read(self: &Rc<Self>, node: NodeId) -> Option<Node> {
        let (world, member) = (Rc::clone(self), self.exec.below(MEMBERS));
        let serve = move || {
            let world = Rc::clone(&world);
            async move { world.latest_state(member).await }.boxed_local()
        };
        let state = self.call(Host::User, Host::Member(member), ANSWER_LIMIT, serve).await??;
        state.node(node).cloned()
    }

    /// What a user may ask of a node in that state; nothing at times.
    fn whim(&self, node: &Node) -> Option<CommandBody> {
        use ProvisionState as At;
        if self.exec.chance(6) {
            let reason = node.maintenance.is_none().then(|| "a look inside".to_owned());
            let (node, expected_version) = (node.id, None);
            return Some(CommandBody::SetMaintenance { node, expected_version, reason });
        }
        if node.maintenance.is_some() {
            let (node, expected_version) = (node.id, None);
            return Some(CommandBody::SetMaintenance { node, expected_version, reason: None });
        }
        let verb = match node.provision.state {
            At::Enroll => ProvisionVerb::Manage,
            At::Manageable | At::InspectFailed if self.exec.chance(8) => ProvisionVerb::Inspect,
            At::Manageable if self.exec.chance(8) => ProvisionVerb::Clean(vec![Step::EraseDevices]),
            At::Manageable if self.exec.chance(4) => ProvisionVerb::Adopt(self.any_deployment()),
            At::Manageable => ProvisionVerb::Provide,
            At::InspectFailed | At::AdoptFailed => ProvisionVerb::Manage,
            At::Available if self.exec.chance(10) => ProvisionVerb::Manage,
            At::Available => ProvisionVerb::Deploy(self.any_deployment()),
            At::CleanFailed => ProvisionVerb::Manage,
            At::DeployFailed | At::Error if self.exec.chance(50) => ProvisionVerb::Undeploy,
            At::DeployFailed | At::Error => ProvisionVerb::Rebuild(Some(self.any_deployment())),
            At::Active if self.exec.chance(25) => {
                return Some(self.any_power(node.id));
            }
            At::Active if self.exec.chance(25) => {
                ProvisionVerb::Rebuild(self.exec.chance(50).then(|| self.any_deployment()))
            }
            At::Active if self.exec.chance(20) => rescue(),
            At::Active if self.exec.chance(20) => ProvisionVerb::Service(self.any_steps()),
            At::Active if self.exec.chance(30) => ProvisionVerb::Undeploy,
            At::Rescue | At::RescueFailed if self.exec.chance(20) => rescue(),
            At::Rescue | At::RescueFailed | At::UnrescueFailed => ProvisionVerb::Unrescue,
            At::ServiceFailed if self.exec.chance(30) => ProvisionVerb::Service(self.any_steps()),
            At::ServiceFailed => ProvisionVerb::Abort,
            At::DeployHold | At::CleanHold | At::ServiceHold if self.exec.chance(40) => {
                ProvisionVerb::Unhold
            }
            At::WaitCallBack if self.exec.chance(3) => ProvisionVerb::Undeploy,
            At::Active => return None,
            At::Verifying
            | At::Inspecting
            | At::InspectWait
            | At::Adopting
            | At::Cleaning
            | At::CleanWait
            | At::Deploying
            | At::WaitCallBack
            | At::Deleting
            | At::DeployHold
            | At::CleanHold
            | At::Rescuing
            | At::RescueWait
            | At::Unrescuing
            | At::Servicing
            | At::ServiceWait
            | At::ServiceHold => {
                return self.exec.chance(4).then(|| provision(node.id, ProvisionVerb::Abort));
            }
        };
        Some(provision(node.id, verb))
    }

    fn any_power(&self, node: NodeId) -> CommandBody {
        let targets =
            [PowerTarget::On, PowerTarget::Off, PowerTarget::Reboot, PowerTarget::SoftReboot];
        let target = targets[self.exec.below(4)];
        CommandBody::SetPower { node, expected_version: None, target, limit_seconds: None }
    }

    /// What a service is asked for.
    fn any_steps(&self) -> Vec<RequestedStep> {
        let steps = ["flash_nic", "reboot", "power_off", "hold"];
        vec![requested(steps[self.exec.below(4)], 50), requested("reboot", 40)]
    }

    fn any_image(&self) -> Option<Image> {
        (!self.exec.chance(CORRUPT_PERCENT)).then(|| Image::numbered(self.exec.below(IMAGES)))
    }

    fn any_deployment(&self) -> Box<DeploymentSpec> {
        let mut spec = deployment(self.any_image());
        if self.exec.chance(PLUGIN_STEP_PERCENT) {
            let step = ["flash_nic", "flash_nic", "reboot", "hold"][self.exec.below(4)];
            spec.deploy_steps = vec![requested(step, [45, 65, 90][self.exec.below(3)])];
        }
        Box::new(spec)
    }

    /// Asks until the node holds what is wanted, or failed because what is wanted cannot be had.
    async fn insist(self: &Rc<Self>, node: NodeId) {
        use ProvisionState as At;
        let image = self.any_image();
        let spec = || Box::new(deployment(image));
        let end = if image.is_some() { At::Active } else { At::DeployFailed };
        let mut asked: Option<CommandId> = None;
        loop {
            let Some(found) = self.read(node).await else { continue };
            let is_mine = found.deployment.as_ref().map(|it| it.id) == asked && asked.is_some();
            if is_mine && found.provision.state == end {
                return;
            }
            let verb = match found.provision.state {
                At::Enroll | At::CleanFailed | At::InspectFailed | At::AdoptFailed => {
                    Some(ProvisionVerb::Manage)
                }
                At::Manageable => Some(ProvisionVerb::Provide),
                At::Available => Some(ProvisionVerb::Deploy(spec())),
                At::Active | At::DeployFailed | At::Error => {
                    Some(ProvisionVerb::Rebuild(Some(spec())))
                }
                At::Verifying
                | At::Inspecting
                | At::InspectWait
                | At::Adopting
                | At::Cleaning
                | At::CleanWait
                | At::Deploying
                | At::WaitCallBack
                | At::Deleting
                | At::Rescuing
                | At::RescueWait
                | At::Unrescuing
                | At::Servicing
                | At::ServiceWait => None,
                At::Rescue | At::RescueFailed | At::UnrescueFailed => Some(ProvisionVerb::Unrescue),
                At::ServiceFailed => Some(ProvisionVerb::Abort),
                At::DeployHold | At::CleanHold | At::ServiceHold => Some(ProvisionVerb::Unhold),
            };
            let deploys =
                matches!(verb, Some(ProvisionVerb::Deploy(_) | ProvisionVerb::Rebuild(_)));
            let body = match verb {
                _ if found.maintenance.is_some() => {
                    Some(CommandBody::SetMaintenance { node, expected_version: None, reason: None })
                }
                Some(verb) => Some(provision(node, verb)),
                None => None,
            };
            if let Some(body) = body {
                let accepted = self.ask(body).await.is_ok();
                if deploys && accepted && found.maintenance.is_none() {
                    asked = self.read_until_some(node).await.deployment.map(|it| it.id);
                }
            }
            self.exec.pause(200..=1_000).await;
        }
    }

    async fn read_until_some(self: &Rc<Self>, node: NodeId) -> Node {
        loop {
            if let Some(found) = self.read(node).await {
                return found;
            }
        }
    }
}

fn rescue() -> ProvisionVerb {
    ProvisionVerb::Rescue { password_hash: "$6$salt$hash".to_owned() }
}

fn requested(step: &str, priority: u32) -> RequestedStep {
    let step = step.to_owned();
    RequestedStep { step, args: Default::default(), priority, limit_seconds: None }
}

fn provision(node: NodeId, verb: ProvisionVerb) -> CommandBody {
    CommandBody::Provision { node, expected_version: None, verb }
}

fn deployment(image: Option<Image>) -> DeploymentSpec {
    DeploymentSpec {
        image: Some(image_spec(image)),
        deploy_interface: Default::default(),
        image_download_source: ImageDownloadSource::Local,
        config_drive: None,
        root_device: Default::default(),
        partitions: None,
        deploy_steps: Vec::new(),
        boot_iso: None,
        bootc: None,
        network_boot: None,
    }
}
