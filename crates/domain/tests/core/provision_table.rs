//! Every provision state against every verb and outcome, held against a stored table: a change of the machine is a
//! change of that file, seen in review.

use bessemer_domain::node::{ProvisionState, Trigger, Verb};

fn table() -> String {
    let verbs = Verb::ALL.iter().copied().map(Trigger::Verb);
    let outcomes = [Trigger::Done, Trigger::Fail, Trigger::Wait, Trigger::Resume, Trigger::Clean];
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

#[test]
fn the_table_is_the_stored_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/provision_table.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, table()).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap();
    assert_eq!(table(), stored, "run with BLESS=1 to store the new table, and look at its diff");
}
