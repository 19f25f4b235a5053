//! Several machines at once: asked together, followed together.

use std::collections::HashMap;
use std::path::Path;

use bessemer_client::Client;
use bessemer_hardware::fake::{AgentRunner, Fake};
use bessemer_hardware::{Bmc, unclaimed};
use bessemer_proto::v1::{ListNodesRequest, Node, NodeStatus};
use console::style;
use futures::future::try_join_all;

use super::verb;
use crate::dev::machines_dir;
use crate::failure::Failure;
use crate::node::verdict::{Goal, Verdict};
use crate::node::wait::POLL_INTERVAL;
use crate::node::{label, state, steps};
use crate::progress::Screen;

/// Machines that are drawn; more would not fit a terminal.
const DRAWN_MAX: usize = 16;

/// Cells of a machine's bar.
const BAR_WIDTH: usize = 24;

/// Brings enrolled machines to `available`.
pub(super) async fn make_available(
    client: &Client,
    nodes: &[Node],
    screen: &mut Screen,
) -> Result<(), Failure> {
    let nodes = try_join_all(nodes.iter().map(|node| client.manage_node(verb(node)))).await?;
    let nodes = settle(client, &nodes, &Goal::State("manageable"), screen).await?;
    let nodes = try_join_all(nodes.iter().map(|node| client.provide_node(verb(node)))).await?;
    settle(client, &nodes, &Goal::State("available"), screen).await.map(drop)
}

/// Follows machines until all are where they should be, or one is not. In the order they were given.
pub(super) async fn settle(
    client: &Client,
    nodes: &[Node],
    goal: &Goal,
    screen: &mut Screen,
) -> Result<Vec<Node>, Failure> {
    loop {
        let nodes = read(client, nodes).await?;
        let lines: Vec<_> = nodes.iter().take(DRAWN_MAX).map(line).collect();
        screen.draw(&lines, &nodes.iter().map(steps::plain).collect::<Vec<_>>());
        let mut all_reached = true;
        for node in &nodes {
            match goal.verdict(node) {
                Verdict::Reached => {}
                Verdict::Pending => all_reached = false,
                Verdict::Failed { message, .. } => {
                    return Err(Failure::failed(format!("{}: {message}", label(node))));
                }
            }
        }
        if all_reached {
            return Ok(nodes);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn read(client: &Client, nodes: &[Node]) -> Result<Vec<Node>, Failure> {
    let request = ListNodesRequest { page_size: 1000, ..ListNodesRequest::default() };
    let listed = client.list_nodes(request).await?.nodes;
    let mut by_name: HashMap<_, _> =
        listed.into_iter().map(|node| (label(&node).to_owned(), node)).collect();
    Ok(nodes.iter().filter_map(|node| by_name.remove(label(node))).collect())
}

fn line(node: &Node) -> String {
    let unknown = NodeStatus::default();
    let status = node.status.as_ref().unwrap_or(&unknown);
    let resting = status.target_provision_state.is_empty();
    let mark = if resting { style("✓").green() } else { style("▸").cyan() };
    let step = steps::running(status).map(|step| step.name.as_str()).unwrap_or_default();
    let transfer = steps::transfer(status).map(|transfer| transfer.line(BAR_WIDTH));
    format!(
        "    {} {:<9} {:<14} {step:<22} {}",
        mark.for_stderr(),
        label(node),
        state(node),
        transfer.unwrap_or_default()
    )
}

/// Ends the agents that a demo that failed left running. What cannot be stopped has no one left to tell.
pub(super) async fn pull_the_plug(directory: &Path) {
    let machines_dir = machines_dir(&directory.join("cluster"));
    let fake = Fake {
        ca_file: None,
        machines_dir: machines_dir.clone(),
        runner: AgentRunner::Program(directory.join(super::AGENT_PROGRAM)),
        api_urls: Vec::new(),
        steps_dir: None,
    };
    for entry in std::fs::read_dir(machines_dir).into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        if let Ok(machine) = fake.machine(&id, &serde_json::Map::new(), Vec::new()) {
            machine.power_off(&unclaimed).await.ok();
        }
    }
}
