//! Every provision state against every verb and outcome, held against a stored table: a change of the machine is a
//! change of that file, seen in review.

use std::fmt::Write;
use std::path::Path;

use bessemer_domain::node::{ProvisionState, TRANSITIONS, Trigger, Verb};

fn table() -> String {
    let verbs = Verb::ALL.iter().copied().map(Trigger::Verb);
    let outcomes = [
        Trigger::Done,
        Trigger::Fail,
        Trigger::Wait,
        Trigger::Resume,
        Trigger::Hold,
        Trigger::Clean,
        Trigger::Manage,
    ];
    let triggers: Vec<_> = verbs.chain(outcomes).collect();
    let mut table = String::new();
    for state in ProvisionState::ALL {
        for trigger in &triggers {
            let to = state.after(*trigger).map_or("-", ProvisionState::as_str);
            table.push_str(&format!("{:14} | {:8} | {to}\n", state.as_str(), trigger.to_string()));
        }
    }
    table
}

/// The same for people: what the operator guide refers to.
fn page() -> String {
    let mut page = String::from(
        "# Provision states\n\n\
         Every state of a node and every move between them, written from the table that decides them. The names are \
         Ironic's. A move is made by a verb of a user, such as `deploy`, or by how the work goes: `done`, `fail`, `wait` (the \
         agent's turn), `resume` (the conductor's turn again), `hold` (a person's turn, which `unhold` ends).\n\n\
         ```mermaid\nstateDiagram-v2\n",
    );
    for row in TRANSITIONS {
        let (from, to) = (name(row.from), name(row.to));
        writeln!(page, "    {from} --> {to}: {}", row.trigger).unwrap();
    }
    page.push_str(
        "```\n\n| state | on its way to | verbs | moves by itself |\n|---|---|---|---|\n",
    );
    for state in ProvisionState::ALL {
        let rows = TRANSITIONS.iter().filter(|row| row.from == *state);
        let (verbs, outcomes): (Vec<_>, Vec<_>) =
            rows.partition(|row| matches!(row.trigger, Trigger::Verb(_)));
        let list = |rows: Vec<&bessemer_domain::node::Transition>| {
            let moves: Vec<_> =
                rows.iter().map(|row| format!("{} → `{}`", row.trigger, row.to)).collect();
            moves.join(", ")
        };
        let target = state.target().map(|target| format!("`{target}`")).unwrap_or_default();
        writeln!(page, "| `{state}` | {target} | {} | {} |", list(verbs), list(outcomes)).unwrap();
    }
    page
}

/// The state as an identifier of the diagram.
fn name(state: ProvisionState) -> String {
    state.as_str().replace([' ', '-'], "_")
}

fn assert_stored(path: &Path, made: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, made).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(made, stored, "run with BLESS=1 to store the new one, and look at its diff");
}

#[test]
fn the_table_is_the_stored_one() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    assert_stored(&tests.join("golden/provision_table.txt"), &table());
}

#[test]
fn the_documentation_is_the_table() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    assert_stored(&docs.join("provision-states.md"), &page());
}
