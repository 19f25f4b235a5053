//! Neither an agent nor a BMC obeys an order of an older claim after one of a newer claim.
//!
//! Why: two conductors at one machine power it off under a write, or boot what the other one is erasing. Agents refuse
//! old epochs themselves. A BMC knows none: there, only leases keep the old conductor from sending.

use std::collections::BTreeMap;

use bessemer_domain::ids::NodeId;

use super::{Verdict, Violation};

const NAME: &str = "one_driver";

/// The newest epoch that each obeyed.
#[derive(Debug, Default)]
pub(crate) struct OneDriver {
    bmcs: BTreeMap<NodeId, u64>,
    agents: BTreeMap<NodeId, u64>,
}

impl OneDriver {
    pub(crate) fn bmc_obeyed(&mut self, node: NodeId, epoch: u64) -> Verdict {
        obeyed("the BMC", &mut self.bmcs, node, epoch)
    }

    /// A machine's agent lives as long as its boot.
    pub(crate) fn agent_booted(&mut self, node: NodeId) {
        self.agents.remove(&node);
    }

    pub(crate) fn agent_obeyed(&mut self, node: NodeId, epoch: u64) -> Verdict {
        obeyed("the agent", &mut self.agents, node, epoch)
    }
}

fn obeyed(who: &str, newest: &mut BTreeMap<NodeId, u64>, node: NodeId, epoch: u64) -> Verdict {
    let newest = newest.entry(node).or_default();
    if epoch < *newest {
        let what = format!("{who} of node {node} obeyed epoch {epoch} after epoch {newest}");
        return Err(Violation::new(NAME, what));
    }
    *newest = epoch;
    Ok(())
}
