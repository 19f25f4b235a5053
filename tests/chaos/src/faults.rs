//! What is done to the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use bessemer_testkit::{Cluster, Process};
use clap::ValueEnum;
use tokio::time::{Instant, sleep, sleep_until};

/// How long a killed process stays away: enough for an election and for leases to run out.
const AWAY_MILLISECONDS: std::ops::Range<u64> = 200..6000;

/// How long a paused conductor stands still: longer than its lease.
const PAUSED: Duration = Duration::from_secs(8);

/// How long a paused member stands still: another one leads by then.
const MEMBER_PAUSED: Duration = Duration::from_secs(4);

/// Which faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A random process is killed (-9), or a conductor is stopped past its lease and goes on, or the network between the
    /// agents and the cache is slow.
    Random,
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
        let (member, conductor) = (
            self.random.usize(..cluster.members.len()),
            self.random.usize(..cluster.conductors.len()),
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
            Fault::KillCache => killed(&mut cluster.cache, away).await,
            Fault::SlowNetwork => {
                cluster.proxy.limit_bytes_per_second(1 << 20);
                sleep(away).await;
                cluster.proxy.limit_bytes_per_second(0);
                Ok(())
            }
            Fault::KillNats => match &mut cluster.nats {
                Some(nats) => killed(&mut nats.process, away).await,
                None => Ok(()),
            },
            Fault::EmptyNats => cluster.nats.as_mut().map_or(Ok(()), |nats| nats.lose_everything()),
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

async fn killed(process: &mut Process, away: Duration) -> anyhow::Result<()> {
    process.kill();
    sleep(away).await;
    process.restart()
}
