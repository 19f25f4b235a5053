//! What goes wrong, until it is told to stop.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use crate::clock::CLOCK_OFF_MAX;
use crate::network::Host;
use crate::world::{CONDUCTORS, MEMBERS, NODES, World};

/// How long things go wrong, in milliseconds.
const FAULTS_LAST: RangeInclusive<u64> = 90_000..=240_000;

/// Pause between two faults, in milliseconds.
const PAUSE: RangeInclusive<u64> = 200..=6_000;

impl World {
    /// Breaks things for a while, then mends everything.
    pub(crate) async fn break_things(self: Rc<Self>) {
        self.network.is_rough.set(true);
        let until = self.exec.now() + self.exec.between(FAULTS_LAST);
        while self.exec.now() < until {
            self.exec.pause(PAUSE).await;
            self.break_something();
        }
        self.note("faults end");
        self.faults.set(false);
        self.mend_everything();
    }

    fn break_something(self: &Rc<Self>) {
        match self.exec.below(14) {
            0 | 1 => self.restart_member(),
            2 | 3 => self.restart_conductor(),
            4 | 5 => self.cut_a_link(),
            6 => self.cut_off_a_host(),
            7 => self.stall_a_member(),
            8 => self.depose(),
            9 => self.lose_jetstream(),
            10 => self.restart_agent(),
            11 => self.jump_a_clock(),
            12 => self.deafen_a_bmc(),
            _ => self.surprise_a_machine(),
        }
    }

    /// Undoes a fault after some milliseconds.
    fn later(self: &Rc<Self>, after: RangeInclusive<u64>, undo: impl FnOnce(&Rc<Self>) + 'static) {
        let world = Rc::clone(self);
        self.exec.spawn(&self.wires, async move {
            world.exec.pause(after).await;
            undo(&world);
        });
    }

    fn restart_member(self: &Rc<Self>) {
        let index = self.exec.below(MEMBERS);
        if self.process_of(Host::Member(index)).is_alive() {
            self.crash_member(index);
            self.later(300..=8_000, move |world| world.start_member_if_down(index));
        }
    }

    fn start_member_if_down(self: &Rc<Self>, index: usize) {
        if !self.process_of(Host::Member(index)).is_alive() {
            self.start_member(index);
        }
    }

    fn restart_conductor(self: &Rc<Self>) {
        let index = self.exec.below(CONDUCTORS);
        if self.process_of(Host::Conductor(index)).is_alive() {
            self.crash_conductor(index);
            self.later(200..=12_000, move |world| world.start_conductor_if_down(index));
        }
    }

    fn start_conductor_if_down(self: &Rc<Self>, index: usize) {
        if !self.process_of(Host::Conductor(index)).is_alive() {
            self.start_conductor(index);
        }
    }

    fn all_hosts() -> Vec<Host> {
        let members = (0..MEMBERS).map(Host::Member);
        let conductors = (0..CONDUCTORS).map(Host::Conductor);
        members.chain(conductors).chain((0..NODES).map(Host::Machine)).collect()
    }

    fn any_host(&self) -> Host {
        let hosts = Self::all_hosts();
        hosts[self.exec.below(hosts.len())]
    }

    fn cut_a_link(self: &Rc<Self>) {
        let (a, b) = (self.any_host(), self.any_host());
        if a != b {
            self.note(&format!("network: {a:?} and {b:?} are cut"));
            self.network.cut(a, b);
            self.later(500..=20_000, move |world| world.network.heal(a, b));
        }
    }

    fn cut_off_a_host(self: &Rc<Self>) {
        let host = self.any_host();
        self.note(&format!("network: {host:?} is cut off"));
        for other in Self::all_hosts().into_iter().chain([Host::User]) {
            self.network.cut(host, other);
        }
        self.later(500..=15_000, move |world| {
            for other in Self::all_hosts().into_iter().chain([Host::User]) {
                world.network.heal(host, other);
            }
        });
    }

    fn stall_a_member(self: &Rc<Self>) {
        let index = self.exec.below(MEMBERS);
        self.note(&format!("member {index} stalls"));
        self.members[index].is_stalled.set(true);
        self.later(200..=5_000, move |world| world.members[index].is_stalled.set(false));
    }

    fn lose_jetstream(self: &Rc<Self>) {
        if self.exec.chance(50) {
            self.note("jetstream: down");
            self.jetstream.is_down.set(true);
            self.later(200..=10_000, |world| world.jetstream.is_down.set(false));
        } else {
            self.empty_stream();
        }
    }

    fn restart_agent(self: &Rc<Self>) {
        let index = self.exec.below(NODES);
        if self.machines[index].memory.borrow().is_some() {
            self.note(&format!("machine {index}: agent crashes"));
            self.exec.kill(&self.process_of(Host::Machine(index)));
            self.start_agent(index, 500..=3_000);
        }
    }

    fn jump_a_clock(&self) {
        let ahead = self.exec.between(0..=CLOCK_OFF_MAX.as_millis() as u64 * 2);
        let index = self.exec.below(MEMBERS + CONDUCTORS);
        self.note(&format!("clock {index} jumps"));
        match index.checked_sub(MEMBERS) {
            None => self.members[index].clock.set(ahead),
            Some(conductor) => self.conductors[conductor].clock.set(ahead),
        }
    }

    fn deafen_a_bmc(self: &Rc<Self>) {
        let index = self.exec.below(NODES);
        self.note(&format!("machine {index}: BMC hangs"));
        self.machines[index].is_deaf.set(true);
        self.later(500..=20_000, move |world| world.machines[index].is_deaf.set(false));
    }

    /// A machine under an agent loses its power, or the image cache goes away.
    fn surprise_a_machine(self: &Rc<Self>) {
        let index = self.exec.below(NODES);
        if self.exec.chance(40) {
            self.note("image cache: down");
            self.image_cache.is_down.set(true);
            self.later(200..=10_000, |world| world.image_cache.is_down.set(false));
        } else if self.machines[index].memory.borrow().is_some() {
            self.note(&format!("machine {index} loses power"));
            self.lose_power(index);
        }
    }

    fn mend_everything(self: &Rc<Self>) {
        self.network.is_rough.set(false);
        self.network.heal_all();
        self.jetstream.is_down.set(false);
        self.image_cache.is_down.set(false);
        self.machines.iter().for_each(|machine| machine.is_deaf.set(false));
        for index in 0..MEMBERS {
            self.members[index].is_stalled.set(false);
            self.start_member_if_down(index);
        }
        (0..CONDUCTORS).for_each(|index| self.start_conductor_if_down(index));
    }

    /// Clocks differ from the start.
    pub(crate) fn set_clocks(&self) {
        let any = || self.exec.between(0..=CLOCK_OFF_MAX.as_millis() as u64 * 2);
        self.members.iter().for_each(|member| member.clock.set(any()));
        self.conductors.iter().for_each(|conductor| conductor.clock.set(any()));
    }
}

/// How long everything may take to come to rest once nothing goes wrong any more.
pub(crate) const LIVENESS_LIMIT: Duration = Duration::from_secs(3_600);
