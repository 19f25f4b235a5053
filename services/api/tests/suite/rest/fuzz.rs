//! Requests of every shape: none may end in a defect of ours, and what is refused must leave no trace.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reqwest::Method;
use serde_json::{Map, Value};

use super::Ironic;

/// Requests of one run. The seed is fixed: a run that fails fails again.
const REQUESTS: usize = 1500;

/// Words that mean something somewhere, so that requests get past the first check.
const WORDS: &[&str] = &[
    "",
    "n1",
    "n2",
    "nobody",
    "detail",
    "validate",
    "true",
    "False",
    "0",
    "-1",
    "1",
    "1000",
    "enroll",
    "manageable",
    "available",
    "manage",
    "provide",
    "active",
    "rebuild",
    "deleted",
    "clean",
    "adopt",
    "inspect",
    "rescue",
    "unrescue",
    "service",
    "unhold",
    "CUSTOM_GPU",
    "abort",
    "power on",
    "power off",
    "rebooting",
    "asc",
    "desc",
    "uuid",
    "name",
    "driver",
    "extra",
    "fake-hardware",
    "fake",
    "redfish",
    "direct",
    "ramdisk",
    "add",
    "remove",
    "replace",
    "move",
    "copy",
    "test",
    "/extra/a",
    "/driver_info",
    "/name",
    "/",
    "/instance_info/image_source",
    "/maintenance",
    "deploy",
    "erase_devices",
    "http://a/b",
    "******",
    "é",
    "\u{0}",
    "52:54:00:00:00:01",
    "0192f1a6-0000-7000-8000-000000000001",
    "aGVsbG8=",
    "%",
    "../..",
];

const FIELDS: &[&str] = &[
    "uuid",
    "name",
    "driver",
    "driver_info",
    "instance_info",
    "properties",
    "extra",
    "owner",
    "description",
    "resource_class",
    "conductor_group",
    "deploy_interface",
    "boot_interface",
    "automated_clean",
    "maintenance",
    "protected",
    "retired_reason",
    "parent_node",
    "lessee",
    "target",
    "configdrive",
    "clean_steps",
    "deploy_steps",
    "service_steps",
    "rescue_password",
    "runbook",
    "traits",
    "candidate_nodes",
    "timeout",
    "reason",
    "op",
    "path",
    "value",
    "from",
    "interface",
    "step",
    "args",
    "priority",
    "meta_data",
    "user_data",
    "node_uuid",
    "address",
    "pxe_enabled",
    "physical_network",
    "image_source",
    "image_checksum",
    "root_gb",
    "root_device",
    "colour",
];

const PATHS: &[&str] = &[
    "/",
    "/v1",
    "/v1/nodes",
    "/v1/nodes/",
    "/v1/nodes/detail",
    "/v1/nodes/{}",
    "/v1/nodes/{}/states",
    "/v1/nodes/{}/states/power",
    "/v1/nodes/{}/states/provision",
    "/v1/nodes/{}/maintenance",
    "/v1/nodes/{}/validate",
    "/v1/nodes/{}/history",
    "/v1/nodes/{}/history/{}",
    "/v1/nodes/{}/inventory",
    "/v1/nodes/{}/ports",
    "/v1/nodes/{}/traits",
    "/v1/nodes/{}/traits/{}",
    "/v1/nodes/{}/allocation",
    "/v1/allocations",
    "/v1/allocations/{}",
    "/v1/ports",
    "/v1/ports/detail",
    "/v1/ports/{}",
    "/v1/conductors",
    "/v1/conductors/{}",
    "/v1/drivers",
    "/v1/drivers/{}",
    "/v1/chassis",
    "/{}",
];

const PARAMETERS: &[&str] = &[
    "fields",
    "detail",
    "limit",
    "marker",
    "sort_key",
    "sort_dir",
    "maintenance",
    "associated",
    "provision_state",
    "driver",
    "owner",
    "conductor",
    "description_contains",
    "include_children",
    "node",
    "address",
    "type",
    "colour",
];

const HEADERS: &[&str] = &["if-match", "x-request-id", "x-openstack-ironic-api-version"];

const VERSIONS: &[&str] = &["1.1", "1.8", "1.31", "1.60", "1.115", "latest", "1.999", "x"];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(WORDS).prop_map(str::to_owned),
        1 => ".{0,12}",
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let field = proptest::sample::select(FIELDS).prop_map(str::to_owned);
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => proptest::collection::vec((field, inner), 0..5)
                .prop_map(|pairs| Value::Object(Map::from_iter(pairs))),
        ]
    })
}

#[derive(Debug)]
struct Shot {
    method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

fn shots() -> impl Strategy<Value = Shot> {
    let method = proptest::sample::select(
        &[Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE][..],
    );
    let path = (
        proptest::sample::select(PATHS),
        word(),
        proptest::collection::vec((proptest::sample::select(PARAMETERS), word()), 0..3),
    );
    let path = path.prop_map(|(path, name, query)| {
        let escaped =
            |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02x}")).collect() };
        let query: Vec<_> =
            query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let path = path.replace("{}", &escaped(&name));
        if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
    });
    let header = (proptest::sample::select(HEADERS), proptest::sample::select(VERSIONS))
        .prop_map(|(name, value)| (name.to_owned(), value.to_owned()));
    let body = prop_oneof![
        2 => Just(None),
        6 => json().prop_map(|body| Some(body.to_string().into_bytes())),
        1 => proptest::collection::vec(any::<u8>(), 0..40).prop_map(Some),
    ];
    (method, path, proptest::collection::vec(header, 0..2), body)
        .prop_map(|(method, path, headers, body)| Shot { method, path, headers, body })
}

#[tokio::test]
async fn no_request_ends_in_a_defect_and_none_that_is_refused_is_stored() {
    let ironic = Ironic::start().await;
    ironic.create("n1").await;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (shots, mut refused) = (shots(), 0);
    let mut revision = ironic.running.revision().await;
    for _ in 0..REQUESTS {
        let shot = shots.new_tree(&mut runner).unwrap().current();
        let url = format!("{}{}", ironic.running.rest, shot.path);
        let mut request = ironic.http.request(shot.method.clone(), url);
        for (name, value) in &shot.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &shot.body {
            request = request.body(body.clone());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        let text = response.text().await.unwrap();
        assert!(!status.is_server_error(), "{status} {text}: {shot:?}");
        let now = ironic.running.revision().await;
        if status.is_client_error() {
            refused += 1;
            assert_eq!(now, revision, "{status} {text}: {shot:?}");
            let error: Value = serde_json::from_str(&text).unwrap();
            assert!(error["error_message"].is_string(), "{status} {text}: {shot:?}");
        }
        revision = now;
    }
    assert!(refused > REQUESTS / 4 && refused < REQUESTS, "{refused} of {REQUESTS} were refused");
}
