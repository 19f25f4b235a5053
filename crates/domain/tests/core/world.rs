//! A cluster of one, driven by hand: what tests of the core share.

use std::collections::BTreeSet;

use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::conductor::Registration;
use bessemer_domain::effects::{Effect, effect};
use bessemer_domain::ids::{ClusterId, CommandId, ConductorId, Incarnation, NodeId, NodeName};
use bessemer_domain::node::{
    BootcOptions, DeployInterface, DeploymentSpec, DiskFormat, ImageDownloadSource, ImageInput,
    ImageSpec, InstallReport, Inventory, Node, NodeSpec, PinnedContainer, PowerState,
    RequestedStep, ResolvedImage, Step, StepReport, StepResult, WriteReport,
};
use bessemer_domain::{Command, CommandBody, Event, Outcome, SealedEvent, State, Timestamp};
use uuid::Uuid;

pub(crate) const NODE: u128 = 0x0a;

/// A state and everything that happened to it.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) history: Vec<SealedEvent>,
    pub(crate) commands: Vec<Command>,
    /// The node that it is about, `n1` unless told.
    pub(crate) subject: NodeId,
    drawn: u128,
}

impl World {
    /// A cluster with one conductor and one node, `n1`.
    pub(crate) fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            history: Vec::new(),
            commands: Vec::new(),
            subject: node_id(),
            drawn: 1000,
        };
        world.expect(CommandBody::InitialiseCluster { cluster_id: ClusterId::new(Uuid::nil()) });
        world.register("c1", 1);
        world.expect(CommandBody::CreateNode {
            node: node_id(),
            name: Some(NodeName::try_new("n1").unwrap()),
            spec: Box::new(NodeSpec { driver: "fake".to_owned(), ..NodeSpec::default() }),
            ports: Vec::new(),
        });
        world
    }

    pub(crate) fn register(&mut self, name: &str, incarnation: u128) {
        self.expect(CommandBody::RegisterConductor {
            conductor: ConductorId::try_new(name).unwrap(),
            registration: Box::new(Registration {
                incarnation: Incarnation::new(Uuid::from_u128(incarnation)),
                conductor_group: String::new(),
                hardware_types: BTreeSet::from(["fake".to_owned()]),
                address: format!("http://{name}"),
            }),
        });
    }

    pub(crate) fn send(&mut self, body: CommandBody) -> Outcome {
        self.drawn += 1;
        let command = Command {
            id: CommandId::new(Uuid::from_u128(self.drawn)),
            fingerprint: 0,
            actor: "test".to_owned(),
            at: Timestamp::from_micros(u64::try_from(self.drawn).unwrap() * 1_000_000),
            body,
        };
        let (outcome, events) = self.state.apply(&command);
        let before = self.state.tip();
        let (again, none) = self.state.apply(&command);
        assert_eq!((&again, none.len()), (&outcome, 0), "a repeat has the first outcome");
        assert_eq!(self.state.tip(), before);
        self.history.extend(events);
        self.commands.push(command);
        outcome
    }

    pub(crate) fn expect(&mut self, body: CommandBody) {
        let shown = format!("{body:?}");
        if let Err(rejection) = self.send(body) {
            panic!("{rejection}: {shown}");
        }
    }

    pub(crate) fn verb(&mut self, verb: ProvisionVerb) -> Outcome {
        self.send(CommandBody::Provision { node: self.subject, expected_version: None, verb })
    }

    pub(crate) fn node(&self) -> &Node {
        self.state.node(self.subject).unwrap()
    }

    pub(crate) fn effect_of(&self, name: &str, incarnation: u128) -> Option<Effect> {
        let conductor = ConductorId::try_new(name).unwrap();
        let incarnation = Incarnation::new(Uuid::from_u128(incarnation));
        effect(&self.state, self.node(), &conductor, incarnation)
    }

    /// Does what the state asks of `c1`, once. False when it asks for nothing.
    pub(crate) fn work(&mut self) -> bool {
        match self.effect_of("c1", 1) {
            None => return false,
            Some(Effect::Claim) => self.expect(CommandBody::ClaimNode {
                node: self.subject,
                conductor: ConductorId::try_new("c1").unwrap(),
                incarnation: Incarnation::new(Uuid::from_u128(1)),
            }),
            Some(Effect::Release { epoch }) => {
                self.expect(CommandBody::ReleaseNode { node: self.subject, epoch });
            }
            Some(Effect::SetPower { epoch, target, .. }) => self.expect(CommandBody::ReportPower {
                node: self.subject,
                epoch,
                result: Ok(target.state()),
            }),
            Some(Effect::RunStep { step, .. }) => {
                self.report(StepReport::Started);
                self.report(StepReport::Completed(Box::new(result_of(step))));
            }
        }
        true
    }

    /// Works until the node is at rest.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100 {
            if !self.work() {
                return;
            }
        }
        panic!("never at rest: {:?}", self.node());
    }

    /// Reports the current step.
    pub(crate) fn report(&mut self, report: StepReport) {
        let (plan, index, _) = self.node().current_step().unwrap();
        let (plan, epoch) = (plan.id, self.node().epoch());
        self.expect(CommandBody::ReportStep { node: self.subject, epoch, plan, index, report });
    }

    /// Works until `step` is the next to be done, and begins it.
    pub(crate) fn begin(&mut self, step: Step) {
        while !matches!(self.effect_of("c1", 1), Some(Effect::RunStep { step: next, .. }) if next == step)
        {
            assert!(self.work(), "at rest before {step}");
        }
        self.report(StepReport::Started);
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.history.iter().map(|event| &event.record.event)
    }
}

pub(crate) fn node_id() -> NodeId {
    NodeId::new(Uuid::from_u128(NODE))
}

pub(crate) fn deployment() -> DeploymentSpec {
    let image = ImageInput {
        source: "http://images/debian.qcow2",
        checksum: &"ab".repeat(32),
        disk_format: "qcow2",
        ..ImageInput::default()
    };
    DeploymentSpec {
        image: Some(ImageSpec::try_new(&image).unwrap()),
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

pub(crate) fn raw_over_http() -> DeploymentSpec {
    let mut spec = deployment();
    spec.image.as_mut().unwrap().disk_format = Some(DiskFormat::Raw);
    spec.image_download_source = ImageDownloadSource::Http;
    spec
}

/// What an operator asks of a plug-in.
pub(crate) fn requested(step: &str, priority: u32) -> RequestedStep {
    RequestedStep {
        step: step.to_owned(),
        args: serde_json::Map::new(),
        priority,
        limit_seconds: None,
    }
}

pub(crate) fn plugin_step(step: &str, priority: u32) -> Step {
    Step::Plugin(Box::new(requested(step, priority)))
}

/// A deployment that the operator's steps do.
pub(crate) fn custom_agent() -> DeploymentSpec {
    DeploymentSpec {
        image: None,
        deploy_interface: DeployInterface::CustomAgent,
        deploy_steps: vec![requested("write_raw", 80), requested("burn_in", 95)],
        ..deployment()
    }
}

/// A deployment that boots an ISO.
pub(crate) fn ramdisk() -> DeploymentSpec {
    DeploymentSpec {
        image: None,
        deploy_interface: DeployInterface::Ramdisk,
        boot_iso: Some("http://images/live.iso".to_owned()),
        ..deployment()
    }
}

/// A deployment of a container that installs itself.
pub(crate) fn bootc() -> DeploymentSpec {
    let image = ImageInput { source: "oci://registry/os:latest", ..ImageInput::default() };
    DeploymentSpec {
        image: Some(ImageSpec::try_new(&image).unwrap()),
        deploy_interface: DeployInterface::Bootc,
        bootc: Some(BootcOptions {
            authorized_keys: "ssh-ed25519 AAAA me\n".to_owned(),
            tpm2_luks: true,
        }),
        ..deployment()
    }
}

pub(crate) fn resolved(raw_size_bytes: u64) -> ResolvedImage {
    ResolvedImage {
        id: "ef".repeat(32),
        source_format: "qcow2".to_owned(),
        raw_size_bytes,
        raw_hash_algo: "sha256".to_owned(),
        raw_hash_value: "cd".repeat(32),
        pack_size_bytes: raw_size_bytes / 3,
    }
}

/// What a step that goes well reports.
pub(crate) fn result_of(step: Step) -> StepResult {
    match step {
        Step::VerifyPower
        | Step::TearDown
        | Step::TearDownAgent
        | Step::TearDownCleaning
        | Step::TearDownInspection
        | Step::TearDownRescue
        | Step::TearDownService
        | Step::PowerOff(_) => StepResult::Power(PowerState::Off),
        Step::BootInstance | Step::BootRamdisk | Step::PowerOn(_) | Step::Reboot(_) => {
            StepResult::Power(PowerState::On)
        }
        Step::PrepareImage => StepResult::Image(resolved(1 << 30)),
        Step::Deploy
        | Step::PrepareCleaning
        | Step::PrepareInspection
        | Step::PrepareRescue
        | Step::PrepareService => StepResult::Agent(inventory(4 << 30)),
        Step::WriteImage => StepResult::Written(WriteReport {
            device: "/dev/sda".to_owned(),
            image_bytes: 1 << 30,
            wire_bytes: 1 << 28,
            refused_chunks: 0,
            resumed_bytes: 0,
            duration_milliseconds: 900,
            agent_peak_rss_bytes: 1 << 25,
            root_uuid: None,
        }),
        Step::EraseDevicesMetadata => StepResult::Erased(vec!["/dev/sda".to_owned()]),
        Step::EraseDevices => StepResult::ErasedDevices(Vec::new()),
        Step::RunPlaybook
        | Step::WriteConfigdrive
        | Step::PrepareInstanceBoot
        | Step::Rescue
        | Step::Hold(_)
        | Step::Wait(_) => StepResult::Done,
        Step::PinContainer => StepResult::Pinned(PinnedContainer {
            reference: format!("registry/os@sha256:{}", "ab".repeat(32)),
            insecure: false,
        }),
        Step::ExecuteBootcInstall => StepResult::Installed(InstallReport {
            device: "sda".to_owned(),
            duration_milliseconds: 1,
            log: "installed".to_owned(),
        }),
        Step::Plugin(_) => StepResult::Plugin(Default::default()),
    }
}

pub(crate) fn inventory(disk_bytes: u64) -> Inventory {
    let disk = bessemer_domain::node::Disk {
        name: "/dev/sda".to_owned(),
        size_bytes: disk_bytes,
        ..Default::default()
    };
    Inventory { disks: vec![disk], ..Inventory::default() }
}
