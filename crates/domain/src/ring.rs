//! Which conductor drives which node: consistent hashing with virtual nodes.
//!
//! The ring is a contract between processes of every version: its hash, its points and its tie rule never change.

use std::collections::{BTreeMap, BTreeSet};

use crate::Subject;
use crate::conductor::Conductor;
use crate::ids::{ConductorId, NodeId};

/// Points of each conductor on the circle. 128 keep the largest share of 10 conductors within about 25 % of the mean.
const POINTS_PER_CONDUCTOR: u32 = 128;

/// The rings of all conductor groups and hardware types.
#[derive(Debug, Clone, Default)]
pub struct Rings {
    by_domain: BTreeMap<(String, String), Ring>,
    everyone: Ring,
}

/// One circle: points in order, each with the conductor it belongs to.
#[derive(Debug, Clone, Default)]
struct Ring {
    points: BTreeSet<(u64, ConductorId)>,
}

impl Rings {
    /// The rings of the conductors that are online.
    pub fn new<'a>(conductors: impl Iterator<Item = &'a Conductor>) -> Self {
        let mut rings = Self::default();
        for conductor in conductors.filter(|conductor| conductor.online) {
            let group = &conductor.registration.conductor_group;
            // Publishing goes on while nodes are handed over.
            rings.everyone.add(&conductor.id);
            if !conductor.takes_nodes() {
                continue;
            }
            for hardware_type in &conductor.registration.hardware_types {
                let domain = (group.clone(), hardware_type.clone());
                rings.by_domain.entry(domain).or_default().add(&conductor.id);
            }
        }
        rings
    }

    /// The conductor that owns a node of that group and hardware type; none when no online one can drive it.
    #[must_use]
    pub fn owner(&self, group: &str, hardware_type: &str, node: NodeId) -> Option<&ConductorId> {
        let ring = self.by_domain.get(&(group.to_owned(), hardware_type.to_owned()))?;
        ring.at(hash(node.as_uuid().as_bytes()))
    }

    /// The conductor that publishes a subject's events; none when no conductor is online.
    #[must_use]
    pub fn publisher(&self, subject: &Subject) -> Option<&ConductorId> {
        self.everyone.at(match subject {
            Subject::Node(id) => hash(id.as_uuid().as_bytes()),
            Subject::Cluster
            | Subject::Port(_)
            | Subject::Conductor(_)
            | Subject::Allocation(_)
            | Subject::Template(_) => hash(subject.to_string().as_bytes()),
        })
    }
}

impl Ring {
    fn add(&mut self, conductor: &ConductorId) {
        for point in 0..POINTS_PER_CONDUCTOR {
            self.points.insert((point_of(conductor, point), conductor.clone()));
        }
    }

    /// The conductor at the first point at or after `place`, going round.
    fn at(&self, place: u64) -> Option<&ConductorId> {
        let after = self.points.range((place, least())..).next();
        after.or_else(|| self.points.first()).map(|(_, conductor)| conductor)
    }
}

/// Sorts before every conductor, so that a point exactly at a node's place is included.
fn least() -> ConductorId {
    ConductorId::try_new("-").expect("a hyphen is the least character a name may hold")
}

fn point_of(conductor: &ConductorId, point: u32) -> u64 {
    let mut key = conductor.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(&point.to_le_bytes());
    hash(&key)
}

/// The first eight bytes of BLAKE3, little endian.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let digest = blake3::hash(bytes);
    let (head, _) = digest.as_bytes().split_first_chunk().expect("a digest has 32 bytes");
    u64::from_le_bytes(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::Timestamp;
    use crate::conductor::Registration;
    use crate::ids::Incarnation;

    fn conductor(name: &str) -> Conductor {
        Conductor {
            id: ConductorId::try_new(name).unwrap(),
            version: 1,
            registration: Registration {
                incarnation: Incarnation::new(Uuid::nil()),
                conductor_group: String::new(),
                hardware_types: BTreeSet::from(["fake".to_owned()]),
                address: String::new(),
            },
            online: true,
            since: Timestamp::default(),
            draining: false,
        }
    }

    fn owners(conductors: &[Conductor], nodes: u128) -> Vec<ConductorId> {
        let rings = Rings::new(conductors.iter());
        (0..nodes)
            .map(|n| rings.owner("", "fake", NodeId::new(Uuid::from_u128(n))).unwrap().clone())
            .collect()
    }

    #[test]
    fn the_ring_is_a_contract() {
        // Frozen: processes of different versions must agree on these.
        let conductors: Vec<_> = ["a", "b", "c"].map(conductor).into();
        let owners: String = owners(&conductors, 24).iter().map(ConductorId::as_str).collect();
        assert_eq!(owners, FROZEN_OWNERS);
    }

    const FROZEN_OWNERS: &str = "aabbbbcaacacabcbbacbbcbc";

    #[test]
    fn shares_are_even() {
        let conductors: Vec<_> = (0..10).map(|n| conductor(&format!("c{n}"))).collect();
        let mut shares = BTreeMap::<_, u32>::new();
        for owner in owners(&conductors, 20_000) {
            *shares.entry(owner).or_default() += 1;
        }
        assert_eq!(shares.len(), 10);
        for (conductor, share) in shares {
            assert!((1_300..2_700).contains(&share), "{conductor} owns {share} of 20000");
        }
    }

    proptest! {
        #[test]
        fn only_the_nodes_of_a_lost_conductor_move(count in 2_usize..8, lost in 0_usize..8) {
            let all: Vec<_> = (0..count).map(|n| conductor(&format!("c{n}"))).collect();
            let lost = &all[lost % count];
            let rest: Vec<_> = all.iter().filter(|c| c.id != lost.id).cloned().collect();
            for (before, after) in owners(&all, 500).into_iter().zip(owners(&rest, 500)) {
                prop_assert!(before == after || before == lost.id);
            }
        }
    }
}
