//! What must be so when all is over.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, ensure};
use bessemer_proto::v1::Node;
use bessemer_testkit::{Cluster, assert_stream_complete};

use crate::fleet::{Fleet, name_of};
use crate::registers::Registers;

/// Checks history, the stream, and what the machines themselves recorded.
pub(crate) async fn all(
    cluster: &Cluster,
    fleet: &Fleet,
    registers: &Registers,
) -> anyhow::Result<()> {
    let events = assert_stream_complete(cluster).await?;
    println!("{} events: gapless, and each once in the stream", events.len());
    registers.check(&events)?;
    let mut next_step = BTreeMap::<&str, u64>::new();
    let mut deployments = BTreeMap::<&str, u32>::new();
    for event in &events {
        match event.r#type.as_str() {
            "node.plan_started" => drop(next_step.insert(&event.subject, 0)),
            "node.step_completed" => {
                let record: serde_json::Value = serde_json::from_slice(&event.record)?;
                let index = record["event"]["data"]["index"].as_u64().context("no index")?;
                let expected = next_step.entry(&event.subject).or_default();
                let subject = &event.subject;
                ensure!(index == *expected, "{subject}: step {index} completed, not {expected}");
                *expected += 1;
            }
            "node.deployment_requested" => *deployments.entry(&event.subject).or_default() += 1,
            _ => {}
        }
    }
    println!("every step of every plan completed once, in its order");
    for node in fleet.nodes().await? {
        let subject = format!("node/{}", node.metadata.clone().unwrap_or_default().id);
        let deployed = deployments.get(subject.as_str()).copied().unwrap_or_default();
        check_machine(fleet, &node, deployed).with_context(|| name_of(&node))?;
    }
    println!(
        "every machine booted from its disk once for each deployment, and obeyed no old claim"
    );
    Ok(())
}

fn check_machine(fleet: &Fleet, node: &Node, deployed: u32) -> anyhow::Result<()> {
    let machine = fleet.machine(node);
    let console = fs::read_to_string(machine.join("console.log"))?;
    let booted = console.lines().filter(|line| *line == "booted from disk").count();
    let orders = fs::read_to_string(machine.join("orders.log"))?;
    ensure!(
        booted == deployed as usize,
        "{deployed} deployments, but booted {booted} times; the console said:\n{console}\nthe orders were:\n{orders}"
    );
    let mut highest = 0;
    for order in orders.lines() {
        let epoch = order.split(' ').nth(1).and_then(|epoch| epoch.parse::<u64>().ok());
        let epoch = epoch.with_context(|| format!("no epoch in `{order}`"))?;
        ensure!(epoch >= highest, "an order of an old claim was obeyed: {order}, after {highest}");
        highest = epoch;
    }
    Ok(())
}
