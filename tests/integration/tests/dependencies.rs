//! The rules of the architecture that a manifest can break: who may know whom, and under which licences we ship.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Crates of ours, and what must not be among their direct dependencies.
const MUST_NOT: &[(&str, &[&str])] = &[
    ("bessemer-proto", &["bessemer-*"]),
    (
        "bessemer-domain",
        &[
            "bessemer-*",
            "async-nats",
            "futures",
            "openraft",
            "prost",
            "rand",
            "reqwest",
            "sled",
            "tokio",
            "tonic",
            "tracing",
        ],
    ),
    ("bessemer-image", &["bessemer-*", "axum", "hyper", "prost", "reqwest", "tokio", "tonic"]),
    ("bessemer-configdrive", &["bessemer-*", "tokio", "tonic"]),
    ("bessemer-ledger", &["bessemer-wire", "async-nats"]),
    ("bessemer-wire", &["bessemer-ledger", "openraft", "sled", "async-nats", "tokio"]),
    ("bessemer-hardware", &["bessemer-agent", "bessemer-conductor", "prost", "tonic"]),
    ("bessemer-process", &["bessemer-*"]),
    ("bessemer-runtime", &["bessemer-*"]),
    ("bessemer-client", &["bessemer-ledger", "bessemer-domain", "openraft", "sled"]),
    ("bessemer-access", &["bessemer-client", "bessemer-domain", "bessemer-ledger"]),
    ("bessemer-secrets", &["bessemer-ledger", "bessemer-runtime", "tokio", "tonic"]),
    ("bessemer-agent", &SERVICES),
    ("bessemer-api", &SERVICES),
    ("bessemer-conductor", &SERVICES),
    ("bessemer-simulation", &["async-nats", "openraft", "sled", "tokio", "tonic"]),
    ("bessemer-image-cache", &SERVICES),
];

const SERVICES: [&str; 4] =
    ["bessemer-agent", "bessemer-api", "bessemer-conductor", "bessemer-image-cache"];

/// Crates that only one of ours may name.
const ONLY: &[(&str, &str)] = &[
    ("openraft", "bessemer-ledger"),
    ("sled", "bessemer-ledger"),
    ("bessemer-ledger", "bessemer-api"),
];

/// Tests and benches may use anything.
const EXEMPT: [&str; 4] =
    ["bessemer-bench", "bessemer-chaos", "bessemer-integration", "bessemer-testkit"];

fn metadata(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Normal dependencies of each crate of ours, by name.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = metadata(&["--no-deps"]);
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let direct = package["dependencies"].as_array().unwrap().iter();
            let normal = direct
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned());
            (package["name"].as_str().unwrap().to_owned(), normal.collect())
        })
        .collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

#[test]
fn crates_know_only_whom_they_may() {
    let all = dependencies();
    let mut broken = Vec::new();
    for (name, forbidden) in MUST_NOT {
        for dependency in &all[*name] {
            if forbidden.iter().any(|pattern| matches(pattern, dependency)) {
                broken.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    for (dependency, owner) in ONLY {
        for (name, direct) in &all {
            if direct.contains(*dependency) && name != owner && !EXEMPT.contains(&name.as_str()) {
                broken.push(format!("only {owner} may depend on {dependency}, not {name}"));
            }
        }
    }
    for (name, direct) in &all {
        if direct.contains("bessemer-testkit") && !EXEMPT.contains(&name.as_str()) {
            broken.push(format!("{name} must not depend on bessemer-testkit"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn there_is_one_tls_provider() {
    let metadata = metadata(&[]);
    let names: BTreeSet<_> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    assert!(names.contains("ring"));
    for other in ["aws-lc-rs", "aws-lc-sys", "openssl-sys"] {
        assert!(!names.contains(other), "{other} is in the tree beside ring");
    }
}

#[test]
fn every_licence_is_one_we_may_ship_under() {
    let policy = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deny.toml"));
    let policy = policy.unwrap();
    let allowed: BTreeSet<_> = policy
        .split_once("[licenses]")
        .and_then(|(_, rest)| rest.split_once("\n[bans]"))
        .map(|(section, _)| section)
        .unwrap()
        .split('"')
        .skip(1)
        .step_by(2)
        .collect();
    let metadata = metadata(&[]);
    let mut refused = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or("none");
        // An expression of alternatives needs one that is allowed; of conjunctions, each.
        let fits =
            licence.replace('/', " OR ").replace(['(', ')'], "").split(" OR ").any(|option| {
                option
                    .split(" AND ")
                    .all(|name| allowed.contains(name.trim().trim_end_matches('+')))
            });
        if !fits {
            refused.push(format!("{} {licence}", package["name"]));
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
}
