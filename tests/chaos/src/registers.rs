//! Registers: nodes whose description clients write and read through every member while the cluster is broken. In the end
//! what each client saw must be what one single copy of each node would have shown it: linearizability.
//!
//! History is the witness: it says in which order the writes took effect, so that every operation has a place and nothing
//! has to be searched for. Writes of which no answer came may have a place or none.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use bessemer_client::{Client, Error};
use bessemer_proto::v1::{
    CreateNodeRequest, Event, GetNodeRequest, Node, NodeSpec, UpdateNodeRequest,
};
use bessemer_testkit::Cluster;
use futures::future::try_join_all;
use prost_types::FieldMask;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// Few, so that clients meet.
const REGISTERS: usize = 3;

/// Clients of each member.
const CLIENTS_PER_MEMBER: usize = 2;

/// How long a client waits for an answer before it does something else.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two operations of a client: enough of them meet, and there is time left for the rest.
const PAUSES_MILLISECONDS: std::ops::Range<u64> = 5..50;

/// What a client did, and what it heard of it.
#[derive(Debug, Clone)]
struct Operation {
    register: usize,
    began: Instant,
    ended: Instant,
    seen: Seen,
}

#[derive(Debug, Clone)]
enum Seen {
    /// The register had this value at this version.
    Read { version: u64, value: String },
    /// The write was acknowledged, when the register had this version.
    Written { command_id: String, version: u64 },
    /// No answer came in time; it may have been done or not.
    Unanswered { command_id: String },
}

/// What all clients did.
#[derive(Debug, Default)]
pub(crate) struct Registers {
    nodes: Vec<Node>,
    operations: Vec<Operation>,
}

impl Registers {
    pub(crate) async fn create(cluster: &Cluster) -> anyhow::Result<Self> {
        let nodes = (0..REGISTERS).map(async |number| {
            let request = CreateNodeRequest {
                name: format!("register-{number}"),
                spec: Some(NodeSpec { driver: "fake".to_owned(), ..NodeSpec::default() }),
                ..CreateNodeRequest::default()
            };
            cluster.client.create_node(request).await
        });
        Ok(Self { nodes: try_join_all(nodes).await?, operations: Vec::new() })
    }

    /// Has clients of every member read and write until the time is over.
    pub(crate) async fn use_until(
        &mut self,
        api_urls: &[String],
        until: Instant,
        seed: u64,
    ) -> anyhow::Result<()> {
        let ids: Vec<_> = self.nodes.iter().map(id_of).collect();
        let mut living = Vec::new();
        for (url, seed) in api_urls.iter().flat_map(|url| [url; CLIENTS_PER_MEMBER]).zip(seed..) {
            // Of that member alone: another one must not hide what it says.
            let client = Client::new(&[url])?.with_actor("register").with_deadline(PATIENCE);
            let (ids, random) = (ids.clone(), fastrand::Rng::with_seed(seed));
            // A task of its own, which goes on while whoever breaks the cluster waits for a process.
            living.push(tokio::spawn(async move { live(&client, &ids, until, random).await }));
        }
        for client in living {
            self.operations.extend(client.await??);
        }
        Ok(())
    }

    /// Compares what the clients saw with history.
    pub(crate) fn check(&self, events: &[Event]) -> anyhow::Result<()> {
        let mut told = (0, 0, 0);
        for (register, node) in self.nodes.iter().enumerate() {
            let history = History::of(&id_of(node), events)?;
            let operations =
                self.operations.iter().filter(|operation| operation.register == register);
            let operations: Vec<_> = operations.cloned().collect();
            check(&history, &operations).with_context(|| format!("register {register}"))?;
            for operation in operations {
                match operation.seen {
                    Seen::Read { .. } => told.0 += 1,
                    Seen::Written { .. } => told.1 += 1,
                    Seen::Unanswered { .. } => told.2 += 1,
                }
            }
        }
        let (reads, writes, unanswered) = told;
        ensure!(reads > 0 && writes > 0, "nothing was read or nothing was written");
        println!(
            "{reads} reads and {writes} writes ({unanswered} more unanswered) are linearizable"
        );
        Ok(())
    }
}

fn id_of(node: &Node) -> String {
    node.metadata.as_ref().map(|metadata| metadata.id.clone()).unwrap_or_default()
}

async fn live(
    client: &Client,
    ids: &[String],
    until: Instant,
    mut random: fastrand::Rng,
) -> anyhow::Result<Vec<Operation>> {
    let mut operations = Vec::new();
    while Instant::now() < until {
        let register = random.usize(..ids.len());
        let began = Instant::now();
        let seen = if random.bool() {
            write(client, &ids[register], format!("{:016x}", random.u64(..))).await?
        } else {
            read(client, &ids[register]).await?
        };
        let ended = Instant::now();
        operations.extend(seen.map(|seen| Operation { register, began, ended, seen }));
        sleep(Duration::from_millis(random.u64(PAUSES_MILLISECONDS))).await;
    }
    Ok(operations)
}

async fn read(client: &Client, id: &str) -> anyhow::Result<Option<Seen>> {
    let request = GetNodeRequest { node: id.to_owned(), ..GetNodeRequest::default() };
    match client.get_node(request).await {
        Ok(node) => {
            let value = node.spec.unwrap_or_default().description;
            Ok(Some(Seen::Read { version: node.version, value }))
        }
        // Nothing was learnt.
        Err(Error::Unreachable { .. }) => Ok(None),
        Err(refused) => Err(refused).context("a read"),
    }
}

async fn write(client: &Client, id: &str, value: String) -> anyhow::Result<Option<Seen>> {
    let command_id = Uuid::new_v4().to_string();
    let request = UpdateNodeRequest {
        command_id: command_id.clone(),
        node: id.to_owned(),
        spec: Some(NodeSpec { description: value, ..NodeSpec::default() }),
        update_mask: Some(FieldMask { paths: vec!["spec.description".to_owned()] }),
        ..UpdateNodeRequest::default()
    };
    match client.update_node(request).await {
        Ok(node) => Ok(Some(Seen::Written { command_id, version: node.version })),
        Err(Error::Unreachable { .. }) => Ok(Some(Seen::Unanswered { command_id })),
        Err(refused) => Err(refused).context("a write"),
    }
}

/// A register's writes in the order in which they took effect.
#[derive(Debug, Default)]
struct History {
    /// Its value from each version on.
    values: BTreeMap<u64, String>,
    /// The version that each command led to.
    versions: BTreeMap<String, u64>,
}

impl History {
    fn of(id: &str, events: &[Event]) -> anyhow::Result<Self> {
        let mut history = Self::default();
        let subject = format!("node/{id}");
        for event in events.iter().filter(|event| event.subject == subject) {
            let record: serde_json::Value = serde_json::from_slice(&event.record)?;
            let value = record.pointer("/event/data/spec/description");
            if let Some(value) = value.and_then(|value| value.as_str()) {
                history.values.insert(event.sequence, value.to_owned());
            }
            let before = history.versions.insert(event.command_id.clone(), event.sequence);
            ensure!(before.is_none(), "command {} took effect twice", event.command_id);
        }
        Ok(history)
    }
}

/// Whether an order exists that keeps to history and to time: what ended before something else began took effect before.
fn check(history: &History, operations: &[Operation]) -> anyhow::Result<()> {
    let mut placed = Vec::new();
    for operation in operations {
        let (place, is_write, ended) = match &operation.seen {
            Seen::Read { version, value } => {
                let held = history.values.range(..=version).next_back().map(|(_, value)| value);
                ensure!(held == Some(value), "`{value}` was read, version {version} has {held:?}");
                (*version, false, Some(operation.ended))
            }
            Seen::Written { command_id, version } => {
                let place = history.versions.get(command_id);
                let place = *place.with_context(|| format!("write {command_id} was lost"))?;
                ensure!(place <= *version, "acknowledged at version {version}, done at {place}");
                (place, true, Some(operation.ended))
            }
            Seen::Unanswered { command_id } => match history.versions.get(command_id) {
                Some(place) => (*place, true, None),
                None => continue,
            },
        };
        placed.push((operation.began, ended, place, is_write));
    }
    let mut ends: Vec<_> =
        placed.iter().filter_map(|(_, ended, place, _)| Some(((*ended)?, *place))).collect();
    ends.sort_unstable();
    placed.sort_unstable_by_key(|(began, ..)| *began);
    let mut ends = ends.into_iter().peekable();
    // The latest place of all that had ended.
    let mut reached = 0;
    for (began, _, place, is_write) in placed {
        while let Some((_, ended_place)) = ends.next_if(|(ended, _)| *ended < began) {
            reached = reached.max(ended_place);
        }
        if is_write {
            ensure!(place > reached, "version {place} was written after {reached} had been seen");
        } else {
            ensure!(place >= reached, "version {place} was read after {reached} had been seen");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Versions 1 to 3, each with its number as value and command.
    fn history() -> History {
        let numbers = || (1..=3_u64).map(|number| (number, number.to_string()));
        History {
            values: numbers().collect(),
            versions: numbers().map(|(number, text)| (text, number)).collect(),
        }
    }

    fn at(base: Instant, milliseconds: (u64, u64), seen: Seen) -> Operation {
        let at = |milliseconds| base + Duration::from_millis(milliseconds);
        Operation { register: 0, began: at(milliseconds.0), ended: at(milliseconds.1), seen }
    }

    fn read(version: u64) -> Seen {
        Seen::Read { version, value: version.to_string() }
    }

    fn written(version: u64) -> Seen {
        Seen::Written { command_id: version.to_string(), version }
    }

    fn complaint(operations: &[((u64, u64), Seen)]) -> Option<String> {
        let base = Instant::now();
        let operations: Vec<_> =
            operations.iter().map(|(time, seen)| at(base, *time, seen.clone())).collect();
        check(&history(), &operations).err().map(|error| error.to_string())
    }

    #[test]
    fn what_one_copy_could_have_shown_is_accepted() {
        let unanswered = Seen::Unanswered { command_id: "3".to_owned() };
        let lost = Seen::Unanswered { command_id: "9".to_owned() };
        assert_eq!(
            complaint(&[
                ((0, 10), written(1)),
                ((5, 15), read(1)),
                // While it is written, old and new may be seen.
                ((20, 40), written(2)),
                ((21, 25), read(1)),
                ((26, 30), read(2)),
                ((31, 35), read(2)),
                ((32, 33), unanswered),
                ((32, 33), lost),
                ((50, 60), read(3)),
            ]),
            None
        );
    }

    #[test]
    fn a_stale_read_is_found() {
        let found = complaint(&[((0, 10), written(2)), ((11, 20), read(1))]);
        assert_eq!(found.unwrap(), "version 1 was read after 2 had been seen");
        // Also one that is stale only beside what another reader saw.
        let found = complaint(&[((0, 50), written(2)), ((5, 10), read(2)), ((11, 20), read(1))]);
        assert_eq!(found.unwrap(), "version 1 was read after 2 had been seen");
    }

    #[test]
    fn a_write_that_was_lost_or_came_before_its_time_is_found() {
        assert_eq!(complaint(&[((0, 10), written(4))]).unwrap(), "write 4 was lost");
        let found = complaint(&[((0, 10), read(2)), ((11, 20), written(2))]);
        assert_eq!(found.unwrap(), "version 2 was written after 2 had been seen");
        let late = Seen::Unanswered { command_id: "1".to_owned() };
        let found = complaint(&[((0, 10), read(2)), ((11, 20), late)]);
        assert_eq!(found.unwrap(), "version 1 was written after 2 had been seen");
    }

    #[test]
    fn a_value_that_was_never_there_is_found() {
        let never = Seen::Read { version: 2, value: "1".to_owned() };
        assert!(complaint(&[((0, 10), never)]).unwrap().contains("version 2 has Some(\"2\")"));
    }
}
