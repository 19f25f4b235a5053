//! A node that is `active` in the end runs the image that was asked for last, whole, started from its disk.
//!
//! Why: it is what the whole system is for. A ledger that says `active` is worth nothing if the machine disagrees.

use bessemer_domain::State;
use bessemer_domain::node::ProvisionState;

use super::{Verdict, Violation};
use crate::image_cache::image_of;
use crate::machine::Machine;

const NAME: &str = "deployed_as_asked";

/// Judges machines against the ledger.
#[derive(Debug, Default)]
pub(crate) struct DeployedAsAsked;

impl DeployedAsAsked {
    pub(crate) fn judge(&self, state: &State, machine: &Machine) -> Verdict {
        let Some(node) = state.node(machine.node) else { return Ok(()) };
        if node.provision.state != ProvisionState::Active {
            return Ok(());
        }
        let asked = node
            .deployment
            .as_ref()
            .and_then(|deployment| image_of(deployment.spec.image.as_ref()?));
        let is_whole = asked.is_some_and(|image| machine.disk.borrow().holds(image));
        if is_whole && machine.booted.get() == asked {
            return Ok(());
        }
        let booted = machine.booted.get();
        let what = format!("node {} is active with {asked:?}, runs {booted:?}", node.id);
        Err(Violation::new(NAME, what))
    }
}
