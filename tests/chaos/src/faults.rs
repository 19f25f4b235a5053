//! What is done to the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use bessemer_testkit::{Cluster, Cut, Process};
use clap::ValueEnum;
use tokio::time::{Instant, sleep, sleep_until};

/// How long a killed process stays away: enough for an election and for leases to run out.
const AWAY_MILLISECONDS: std::ops::Range<u64> = 200..6000;

/// How long a paused conductor stands still: longer than its lease.
const PAUSED: Duration = Duration::from_secs(8);

/// How long a paused member stands still: another one leads by then.
const MEMBER_PAUSED: Duration = Duration::from_secs(4);

/// What a slow way lets through, in a second: less than what members tell each other.
const SLOW_BYTES_PER_SECOND: u64 = 16 << 10;

/// Which faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A random process is killed (-9), or a conductor is stopped past its lease and goes on, or the network between the
    /// agents and the cache is slow.
    Random,
    /// All of this, and hosts are cut off from the network: a member, a conductor with its machines, the cache, NATS, or
    /// the majority of members; in both directions or in one; or the way to a member is slow. Needs root.
    Network,
    /// Members are killed, one or all at once, or stand still until another one leads and go on.
    Members,
    /// All members are killed at once, every time.
    Blackout,
    /// All members and conductors are restarted in order, one after the other, as an upgrade does it.
    Rolling,
    /// Nothing, to compare with.
    None,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    KillMember,
    KillAllMembers,
    PauseMember,
    KillConductor,
    PauseConductor,
    KillCache,
    SlowNetwork,
    KillNats,
    EmptyNats,
    CutMember,
    MuteMember,
    DeafMember,
    CutMajority,
    SlowMember,
    CutConductor,
    CutCache,
    CutNats,
    Restart,
}

const RANDOM: [Fault; 8] = [
    Fault::KillMember,
    Fault::PauseMember,
    Fault::KillConductor,
    Fault::PauseConductor,
    Fault::KillCache,
    Fault::SlowNetwork,
    Fault::KillNats,
    Fault::EmptyNats,
];

const CUTS: [Fault; 8] = [
    Fault::CutMember,
    Fault::MuteMember,
    Fault::DeafMember,
    Fault::CutMajority,
    Fault::SlowMember,
    Fault::CutConductor,
    Fault::CutCache,
    Fault::CutNats,
];

const MEMBERS: [Fault; 3] = [Fault::KillMember, Fault::KillAllMembers, Fault::PauseMember];

/// Draws faults, and remembers how many of each there were.
pub(crate) struct Faults {
    kind: Kind,
    random: fastrand::Rng,
    told: BTreeMap<Fault, u32>,
}

impl Faults {
    pub(crate) fn new(kind: Kind, seed: u64) -> Self {
        Self { kind, random: fastrand::Rng::with_seed(seed), told: BTreeMap::new() }
    }

    /// How many faults of which kind there were.
    pub(crate) fn told(&self) -> String {
        let each: Vec<_> =
            self.told.iter().map(|(fault, count)| format!("{count} {fault:?}")).collect();
        if each.is_empty() { "no faults".to_owned() } else { each.join(", ") }
    }

    /// Breaks something every now and then until the time is over; leaves everything mended.
    pub(crate) async fn go_on(
        &mut self,
        cluster: &mut Cluster,
        until: Instant,
        every: Duration,
    ) -> anyhow::Result<()> {
        let mut next = Instant::now();
        while self.kind != Kind::None && next < until {
            sleep_until(next).await;
            match self.kind {
                Kind::Random => self.one_of(&RANDOM, cluster).await?,
                Kind::Network => {
                    let faults: &[Fault] = if self.random.bool() { &RANDOM } else { &CUTS };
                    self.one_of(faults, cluster).await?;
                }
                Kind::Members => self.one_of(&MEMBERS, cluster).await?,
                Kind::Blackout => self.one_of(&[Fault::KillAllMembers], cluster).await?,
                Kind::Rolling => self.rolling_restart(cluster).await?,
                Kind::None => {}
            }
            next = Instant::now().max(next + every);
        }
        Ok(())
    }

    async fn one_of(&mut self, faults: &[Fault], cluster: &mut Cluster) -> anyhow::Result<()> {
        let fault = faults[self.random.usize(..faults.len())];
        *self.told.entry(fault).or_default() += 1;
        let away = Duration::from_millis(self.random.u64(AWAY_MILLISECONDS));
        let (member, conductor, cache) = (
            self.random.usize(..cluster.members.len()),
            self.random.usize(..cluster.conductors.len()),
            self.random.usize(..cluster.caches.len()),
        );
        match fault {
            Fault::KillMember => killed(&mut cluster.members[member], away).await,
            Fault::KillAllMembers => {
                cluster.members.iter_mut().for_each(Process::kill);
                cluster.members.iter_mut().try_for_each(Process::restart)
            }
            Fault::PauseMember => {
                cluster.members[member].pause()?;
                sleep(MEMBER_PAUSED).await;
                cluster.members[member].resume()
            }
            Fault::KillConductor => killed(&mut cluster.conductors[conductor], away).await,
            Fault::PauseConductor => {
                cluster.conductors[conductor].pause()?;
                sleep(PAUSED).await;
                cluster.conductors[conductor].resume()
            }
            Fault::KillCache => killed(&mut cluster.caches[cache].process, away).await,
            Fault::SlowNetwork => {
                let limit = |bytes_per_second| {
                    cluster
                        .caches
                        .iter()
                        .for_each(|cache| cache.proxy.limit_bytes_per_second(bytes_per_second));
                };
                limit(1 << 20);
                sleep(away).await;
                limit(0);
                Ok(())
            }
            Fault::KillNats => match &mut cluster.nats {
                Some(nats) => killed(&mut nats.process, away).await,
                None => Ok(()),
            },
            Fault::EmptyNats => cluster.nats.as_mut().map_or(Ok(()), |nats| nats.lose_everything()),
            Fault::CutMember => cut(&[&cluster.members[member]], Cut::Whole, away).await,
            Fault::MuteMember => cut(&[&cluster.members[member]], Cut::Mute, away).await,
            Fault::DeafMember => cut(&[&cluster.members[member]], Cut::Deaf, away).await,
            Fault::CutMajority => {
                let others = (0..cluster.members.len()).filter(|place| *place != member);
                let others: Vec<_> = others.map(|place| &cluster.members[place]).collect();
                cut(&others, Cut::Whole, away).await
            }
            Fault::SlowMember => {
                let host = cluster.members[member].host();
                host.limit_bytes_per_second(SLOW_BYTES_PER_SECOND)?;
                sleep(away).await;
                host.limit_bytes_per_second(0)
            }
            Fault::CutConductor => cut(&[&cluster.conductors[conductor]], Cut::Whole, PAUSED).await,
            Fault::CutCache => cut(&[&cluster.caches[cache].process], Cut::Whole, away).await,
            Fault::CutNats => match &cluster.nats {
                Some(nats) => cut(&[&nats.process], Cut::Whole, away).await,
                None => Ok(()),
            },
            Fault::Restart => Ok(()),
        }
    }

    async fn rolling_restart(&mut self, cluster: &mut Cluster) -> anyhow::Result<()> {
        let conductors = cluster.conductors.len();
        for place in 0..cluster.members.len() {
            cluster.members[place].stop()?;
            cluster.members[place].restart()?;
            cluster.ready(conductors).await?;
            *self.told.entry(Fault::Restart).or_default() += 1;
        }
        for place in 0..conductors {
            cluster.conductors[place].stop()?;
            cluster.conductors[place].restart()?;
            cluster.ready(conductors).await?;
            *self.told.entry(Fault::Restart).or_default() += 1;
        }
        Ok(())
    }
}

async fn cut(processes: &[&Process], cut: Cut, away: Duration) -> anyhow::Result<()> {
    processes.iter().try_for_each(|process| process.host().cut(cut))?;
    sleep(away).await;
    processes.iter().try_for_each(|process| process.host().mend(cut))
}

async fn killed(process: &mut Process, away: Duration) -> anyhow::Result<()> {
    process.kill();
    sleep(away).await;
    process.restart()
}
