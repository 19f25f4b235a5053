//! Machines: a power switch, a boot device, a disk, and a BMC that obeys whoever has its password.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bessemer_domain::ids::NodeId;
use bessemer_domain::node::PowerState;
use futures::channel::oneshot;
use uuid::Uuid;

use crate::disk::{Disk, Image};
use crate::executor::{Executor, Process};
use crate::world::World;

/// What it starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum BootDevice {
    /// The agent.
    Ramdisk,
    /// What was deployed.
    #[default]
    Disk,
}

/// What a BMC is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    ReadPower,
    Boot(BootDevice),
    Power(PowerState),
}

/// What an agent keeps across its own restarts, until the machine's next boot.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) token: String,
    pub(crate) epoch: u64,
}

/// A machine.
#[derive(Debug)]
pub(crate) struct Machine {
    index: usize,
    pub(crate) node: NodeId,
    /// The agent's.
    process: RefCell<Process>,
    is_on: Cell<bool>,
    /// Its BMC hangs.
    pub(crate) is_deaf: Cell<bool>,
    boot_device: Cell<BootDevice>,
    pub(crate) disk: RefCell<Disk>,
    /// Of the boot it is in; none unless an agent runs, or would if it had not crashed.
    pub(crate) memory: RefCell<Option<Memory>>,
    /// What it runs, if it started from its disk.
    pub(crate) booted: Cell<Option<Image>>,
}

impl Machine {
    pub(crate) fn new(exec: &Executor, index: usize) -> Self {
        Self {
            index,
            node: NodeId::new(Uuid::from_u128(0xb_0000 + index as u128)),
            process: RefCell::new(exec.process()),
            is_on: Cell::default(),
            is_deaf: Cell::default(),
            boot_device: Cell::default(),
            disk: RefCell::default(),
            memory: RefCell::default(),
            booted: Cell::default(),
        }
    }

    /// The agent's process: the one that runs, or the last one that did.
    pub(crate) fn process(&self) -> Process {
        self.process.borrow().clone()
    }

    fn power(&self) -> PowerState {
        if self.is_on.get() { PowerState::On } else { PowerState::Off }
    }
}

impl World {
    pub(crate) fn machine_of(&self, node: NodeId) -> &Machine {
        let machine = self.machines.iter().find(|machine| machine.node == node);
        machine.expect("users enrol only machines that there are")
    }

    /// Tells a machine's BMC to do something. An order that was sent is carried out within a tenth of a second or not at
    /// all, whether or not its sender still waits: that much is asked of a BMC, or nothing could fence it.
    pub(crate) async fn bmc(
        self: &Rc<Self>,
        machine: &Machine,
        epoch: u64,
        order: Order,
    ) -> Result<PowerState, String> {
        let (answer, answered) = oneshot::channel();
        let (world, index) = (Rc::clone(self), machine.index);
        self.exec.spawn(&self.wires, async move {
            world.exec.pause(5..=100).await;
            let is_refused = world.network.is_rough.get() && world.exec.chance(5);
            if is_refused || world.machines[index].is_deaf.get() {
                return;
            }
            world.obey(index, epoch, order);
            world.exec.pause(1..=50).await;
            if !(world.network.is_rough.get() && world.exec.chance(3)) {
                answer.send(world.machines[index].power()).ok();
            }
        });
        answered.await.map_err(|_| "the BMC does not answer".to_owned())
    }

    fn obey(self: &Rc<Self>, index: usize, epoch: u64, order: Order) {
        let machine = &self.machines[index];
        if order != Order::ReadPower {
            self.note(&format!("machine {index}: BMC obeys {order:?} of epoch {epoch}"));
            self.judge(self.invariants.one_driver.borrow_mut().bmc_obeyed(machine.node, epoch));
        }
        match order {
            Order::ReadPower => {}
            Order::Boot(device) => machine.boot_device.set(device),
            Order::Power(PowerState::Off) => self.lose_power(index),
            Order::Power(PowerState::On) => self.power_on(index),
        }
    }

    /// Ends whatever runs on a machine, in the middle of whatever it does.
    pub(crate) fn lose_power(&self, index: usize) {
        let machine = &self.machines[index];
        if machine.is_on.replace(false) {
            self.exec.kill(&machine.process());
            *machine.memory.borrow_mut() = None;
            machine.booted.set(None);
            machine.disk.borrow_mut().lose_power(&self.exec);
            self.look_at_disk(index);
        }
    }

    fn power_on(self: &Rc<Self>, index: usize) {
        let machine = &self.machines[index];
        if machine.is_on.replace(true) {
            return;
        }
        match machine.boot_device.get() {
            BootDevice::Disk => {
                machine.booted.set(machine.disk.borrow().table());
                self.note(&format!("machine {index} boots {:?}", machine.booted.get()));
            }
            BootDevice::Ramdisk => {
                self.invariants.one_driver.borrow_mut().agent_booted(machine.node);
                let token = self.exec.uuid().to_string();
                *machine.memory.borrow_mut() = Some(Memory { token, epoch: 0 });
                // Some boots hang.
                if !(self.faults.get() && self.exec.chance(5)) {
                    self.start_agent(index, 2_000..=20_000);
                }
            }
        }
    }

    /// Starts the agent's process, after some milliseconds.
    pub(crate) fn start_agent(self: &Rc<Self>, index: usize, after: std::ops::RangeInclusive<u64>) {
        let process = self.exec.process();
        *self.machines[index].process.borrow_mut() = process.clone();
        let world = Rc::clone(self);
        self.exec.spawn(&process, async move {
            world.exec.pause(after).await;
            world.agent(index).await;
        });
    }

    /// What must be so of a disk whenever something was written, or lost.
    pub(crate) fn look_at_disk(&self, index: usize) {
        let machine = &self.machines[index];
        self.judge(self.invariants.no_half_image.judge(machine.node, &machine.disk.borrow()));
    }
}
