//! Ironic's REST API, asked over HTTP.

mod auth;
mod fuzz;

use std::time::Duration;

use bessemer_domain::node::StepResult;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::member::Running;

const LIMIT: Duration = Duration::from_secs(30);

/// A member, and a client of its REST API.
struct Ironic {
    running: Running,
    http: reqwest::Client,
    _directory: TempDir,
}

/// An answer.
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    /// What is wrong, and the API's reason for it.
    fn fault(&self) -> Value {
        let text = self.body["error_message"].as_str().unwrap();
        serde_json::from_str(text).unwrap()
    }

    fn message(&self) -> String {
        let fault = self.fault();
        let message = fault.get("faultstring").or_else(|| fault.get("description")).unwrap();
        message.as_str().unwrap().to_owned()
    }

    fn header(&self, name: &'static str) -> &str {
        self.headers.get(HeaderName::from_static(name)).map_or("", |it| it.to_str().unwrap())
    }

    #[track_caller]
    fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }
}

impl Ironic {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let running = Running::with_conductor(directory.path()).await;
        Self::of(running, directory)
    }

    fn of(running: Running, directory: TempDir) -> Self {
        bessemer_runtime::install_tls_provider();
        let http = reqwest::Client::builder().timeout(LIMIT).build().unwrap();
        Self { running, http, _directory: directory }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let url = format!("{}{path}", self.running.rest);
        let mut request = self.http.request(method, url);
        if !headers.iter().any(|(name, _)| *name == "x-openstack-ironic-api-version") {
            request = request.header("x-openstack-ironic-api-version", "1.115");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_null() {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        Answer { status, headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], &Value::Null).await
    }

    async fn get_in(&self, version: &str, path: &str) -> Answer {
        self.ask(Method::GET, path, &[("x-openstack-ironic-api-version", version)], &Value::Null)
            .await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, &[], &body).await
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PUT, path, &[], &body).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::PATCH, path, &[], &body).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.ask(Method::DELETE, path, &[], &Value::Null).await
    }

    async fn create(&self, name: &str) -> String {
        let body = json!({"name": name, "driver": "fake-hardware", "automated_clean": false});
        let node = self.post("/v1/nodes", body).await.expect(201).body;
        node["uuid"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn versions_are_told_and_kept_to() {
    let ironic = Ironic::start().await;
    let root = ironic.get("/").await.expect(200);
    assert_eq!(root.body["default_version"]["version"], "1.115");
    assert_eq!(root.header("x-openstack-ironic-api-minimum-version"), "1.1");
    assert_eq!(root.header("x-openstack-ironic-api-maximum-version"), "1.115");
    assert_eq!(root.header("x-openstack-ironic-api-version"), "1.115");
    let v1 = ironic.get_in("1.1", "/v1/").await.expect(200).body;
    assert!(v1["nodes"].is_array() && v1.get("conductors").is_none(), "{v1}");

    let beyond = ironic.get_in("1.116", "/v1/nodes").await.expect(406);
    assert_eq!(beyond.header("x-openstack-ironic-api-maximum-version"), "1.115");
    assert_eq!(beyond.fault()["code"], 406);
    ironic.get_in("latest", "/v1/nodes").await.expect(200);

    ironic.create("n1").await;
    let old = ironic.get_in("1.1", "/v1/nodes/n1").await.expect(200).body;
    for (field, since) in [("name", "1.5"), ("resource_class", "1.21"), ("health", "1.109")] {
        assert!(old.get(field).is_none(), "{field}");
        let new = ironic.get_in(since, "/v1/nodes/n1").await.body;
        assert!(new.get(field).is_some(), "{field}");
    }
    ironic.get_in("1.49", "/v1/nodes?owner=x").await.expect(406);
    ironic.get_in("1.7", "/v1/nodes/n1?fields=uuid").await.expect(406);
    ironic.get("/v1/chassis").await.expect(404);
    ironic.ask(Method::PUT, "/v1/nodes", &[], &json!({})).await.expect(405);
}

#[tokio::test]
async fn nodes_are_enrolled_listed_and_changed() {
    let ironic = Ironic::start().await;
    let body = json!({
        "name": "n1", "driver": "fake-hardware", "resource_class": "large", "owner": "me",
        "driver_info": {"fake_password": "secret", "address": "a"}, "extra": {"rack": 7},
        "boot_interface": null, "power_interface": "fake", "chassis_uuid": null,
    });
    let created = ironic.post("/v1/nodes", body.clone()).await.expect(201);
    let node = &created.body;
    let uuid = node["uuid"].as_str().unwrap();
    assert!(created.header("location").ends_with(&format!("/v1/nodes/{uuid}")));
    assert_eq!(node["driver"], "fake-hardware");
    assert_eq!(node["driver_info"], json!({"fake_password": "******", "address": "a"}));
    assert_eq!(node["provision_state"], "enroll");
    assert_eq!((&node["power_state"], &node["updated_at"]), (&Value::Null, &Value::Null));
    assert_eq!(ironic.post("/v1/nodes", body).await.expect(409).fault()["faultcode"], "Client");

    let shown = ironic.get(&format!("/v1/nodes/{uuid}")).await.expect(200).body;
    assert_eq!(&shown, node);
    let few = ironic.get("/v1/nodes/n1?fields=name,owner").await.expect(200).body;
    assert_eq!(few.as_object().unwrap().keys().collect::<Vec<_>>(), ["links", "name", "owner"]);
    ironic.get("/v1/nodes/n1?fields=colour").await.expect(400);
    ironic.get("/v1/nodes/n2").await.expect(404);

    // One key after the other; the secret stays.
    let patch = json!([
        {"op": "add", "path": "/extra/row", "value": "b"},
        {"op": "replace", "path": "/driver_info",
            "value": {"fake_password": "******", "address": "b"}},
        {"op": "remove", "path": "/owner"},
        {"op": "add", "path": "/instance_info/image_source", "value": "http://a/b"},
    ]);
    let changed = ironic.patch("/v1/nodes/n1", patch).await.expect(200).body;
    assert_eq!(changed["extra"], json!({"rack": 7, "row": "b"}));
    assert_eq!(changed["owner"], Value::Null);
    assert_eq!(changed["instance_info"], json!({"image_source": "http://a/b"}));
    let history = ironic.running.revision().await;
    for wrong in [
        json!([{"op": "replace", "path": "/uuid", "value": "x"}]),
        json!([{"op": "remove", "path": "/extra/none"}]),
        json!([{"op": "add", "path": "/extra/x", "value": 1}, {"op": "jump", "path": "/extra"}]),
        json!([{"op": "add", "path": "/driver", "value": "abacus"}]),
    ] {
        ironic.patch("/v1/nodes/n1", wrong).await.expect(400);
    }
    assert_eq!(ironic.running.revision().await, history, "what is refused is not stored");

    let patch = json!([{"op": "replace", "path": "/maintenance", "value": true}]);
    assert_eq!(ironic.patch("/v1/nodes/n1", patch).await.expect(200).body["maintenance"], true);
    ironic.delete("/v1/nodes/n1/maintenance").await.expect(202);
    ironic.put("/v1/nodes/n1/maintenance", json!({"reason": "fan"})).await.expect(202);
    assert_eq!(ironic.get("/v1/nodes/n1").await.body["maintenance_reason"], "fan");

    assert_eq!(ironic.delete("/v1/nodes/n1").await.expect(204).body, Value::Null);
    ironic.delete("/v1/nodes/n1").await.expect(404);
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_cut_into_pages() {
    let ironic = Ironic::start().await;
    for name in ["b", "d", "a", "c"] {
        ironic.create(name).await;
    }
    ironic.put("/v1/nodes/c/maintenance", Value::Null).await.expect(202);
    let names = async |query: &str| -> Vec<String> {
        let mut names = Vec::new();
        let mut path = format!("/v1/nodes{query}");
        loop {
            let page = ironic.get(&path).await.expect(200).body;
            let nodes = page["nodes"].as_array().unwrap();
            names.extend(nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { return names };
            next.strip_prefix(&ironic.running.rest).unwrap().clone_into(&mut path);
        }
    };
    assert_eq!(names("").await, ["b", "d", "a", "c"]);
    assert_eq!(names("?sort_key=name&limit=1").await, ["a", "b", "c", "d"]);
    assert_eq!(names("?sort_key=name&sort_dir=desc&limit=3").await, ["d", "c", "b", "a"]);
    assert_eq!(names("/detail?limit=2&sort_key=name").await, ["a", "b", "c", "d"]);
    assert_eq!(names("?maintenance=true").await, ["c"]);
    assert_eq!(names("?maintenance=False&driver=fake-hardware&sort_key=name").await.len(), 3);
    assert_eq!(names("?provision_state=available").await.len(), 0);
    assert_eq!(names("?provision_state=enroll&limit=3").await.len(), 4);
    assert_eq!(names("?associated=true").await.len(), 0);
    assert_eq!(names("?conductor=conductor-1").await.len(), 4);

    let brief = ironic.get("/v1/nodes").await.body["nodes"][0].clone();
    assert_eq!(brief.as_object().unwrap().len(), 7, "{brief}");
    for wrong in [
        "limit=0",
        "limit=x",
        "sort_key=extra",
        "sort_key=colour",
        "sort_dir=up",
        "marker=0192f1a6-0000-7000-8000-000000000001",
        "provision_state=broken",
        "colour=red",
        "maintenance=perhaps",
        "fields=uuid&detail=true",
    ] {
        ironic.get(&format!("/v1/nodes?{wrong}")).await.expect(400);
    }
}

#[tokio::test]
async fn a_node_is_taken_through_its_states() {
    let ironic = Ironic::start().await;
    let (running, provision) = (&ironic.running, "/v1/nodes/n1/states/provision");
    ironic.create("n1").await;
    let moved = ironic.put(provision, json!({"target": "manage"})).await.expect(202);
    assert!(moved.header("location").ends_with("/v1/nodes/n1/states"));
    let states = ironic.get("/v1/nodes/n1/states").await.expect(200).body;
    assert_eq!(states["provision_state"], "verifying");
    assert_eq!(states["target_provision_state"], "manageable");
    running.claim("n1").await;
    running.run_step("n1", StepResult::Done).await;
    ironic.put(provision, json!({"target": "provide"})).await.expect(202);
    assert_eq!(
        ironic.get_in("1.1", "/v1/nodes/n1").await.body["provision_state"],
        Value::Null,
        "the first version knew no `available`"
    );

    // Not described yet.
    let refused = ironic.put(provision, json!({"target": "active"})).await.expect(400);
    assert!(refused.message().contains("instance_info/image_source"), "{}", refused.message());
    let verdicts = ironic.get("/v1/nodes/n1/validate").await.expect(200).body;
    assert_eq!(verdicts["deploy"]["result"], false);
    assert_eq!(verdicts["boot"]["result"], true);
    assert_eq!(verdicts["raid"]["result"], Value::Null);
    let describe = json!([
        {"op": "add", "path": "/instance_info/image_source", "value": "http://images/debian.raw"},
        {"op": "add", "path": "/instance_info/image_checksum", "value": "a".repeat(64)},
        {"op": "add", "path": "/instance_info/image_type", "value": "partition"},
        {"op": "add", "path": "/instance_info/root_gb", "value": "10"},
        {"op": "add", "path": "/properties/root_device", "value": {"size": 40}},
    ]);
    ironic.patch("/v1/nodes/n1", describe).await.expect(200);
    let verdicts = ironic.get("/v1/nodes/n1/validate").await.body;
    assert_eq!(verdicts["deploy"], json!({"result": true}));
    for (body, part) in [
        (json!({"target": "dance"}), "`dance`"),
        (json!({}), "target"),
        (json!({"target": "abort"}), "available"),
        (json!({"target": "active", "configdrive": "http://a/b"}), "configdrive"),
        (json!({"target": "manage", "configdrive": {}}), "configdrive"),
        (json!({"target": "active", "colour": 1}), "colour"),
        (json!({"target": "active", "deploy_steps": [{"step": "x"}]}), "interface"),
    ] {
        let refused = ironic.put(provision, body.clone()).await.expect(400);
        assert!(refused.message().contains(part), "{body}: {}", refused.message());
    }
    let drive = json!({"meta_data": {"hostname": "h"}, "user_data": "#!/bin/sh\n"});
    ironic.put(provision, json!({"target": "active", "configdrive": drive})).await.expect(202);
    let node = running.get("n1").await;
    let deployment = node.status.unwrap().deployment.unwrap().spec.unwrap();
    assert_eq!(deployment.partitions.unwrap().root_gb, 10);
    assert_eq!(deployment.root_device["size"], "40");
    assert_eq!(deployment.config_drive.unwrap().user_data, b"#!/bin/sh\n");
    assert_eq!(deployment.image.unwrap().source, "http://images/debian.raw");
    // A node at work is told other things all the same.
    let patch = json!([{"op": "add", "path": "/extra/a", "value": 1}]);
    ironic.patch("/v1/nodes/n1", patch).await.expect(200);
    ironic.put(provision, json!({"target": "abort"})).await.expect(202);
    assert_eq!(ironic.get("/v1/nodes/n1").await.body["provision_state"], "deploy failed");
    ironic.delete("/v1/nodes/n1").await.expect(409);

    let history = ironic.get("/v1/nodes/n1/history?limit=2").await.expect(200).body;
    assert_eq!(history["history"][0]["event"], "enroll → verifying");
    let next = history["next"].as_str().unwrap().strip_prefix(&running.rest).unwrap();
    let rest = ironic.get(next).await.expect(200).body;
    let entry = rest["history"][0]["uuid"].as_str().unwrap();
    let path = format!("/v1/nodes/n1/history/{entry}");
    assert_eq!(
        ironic.get(&path).await.expect(200).body["event_type"],
        "node.provision_state_changed"
    );
}

#[tokio::test]
async fn nodes_are_allocated_by_class_and_traits() {
    let ironic = Ironic::start().await;
    let (running, traits) = (&ironic.running, "/v1/nodes/n1/traits");
    let uuid = ironic.create("n1").await;
    let describe = json!([
        {"op": "add", "path": "/resource_class", "value": "gold"},
        {"op": "add", "path": "/lessee", "value": "you"},
        {"op": "add", "path": "/retired_reason", "value": "nothing to a node that is not"},
    ]);
    let node = ironic.patch("/v1/nodes/n1", describe).await.expect(200).body;
    assert_eq!((&node["lessee"], &node["retired_reason"]), (&json!("you"), &Value::Null));
    ironic.put(traits, json!({"traits": ["CUSTOM_GPU", "CUSTOM_OLD"]})).await.expect(204);
    ironic.delete(&format!("{traits}/CUSTOM_OLD")).await.expect(204);
    ironic.delete(&format!("{traits}/CUSTOM_OLD")).await.expect(404);
    ironic.put(&format!("{traits}/CUSTOM_SSD"), Value::Null).await.expect(204);
    ironic.put(&format!("{traits}/lower"), Value::Null).await.expect(400);
    ironic.put(traits, json!({"traits": "CUSTOM_GPU"})).await.expect(400);
    let shown = ironic.get(traits).await.expect(200).body;
    assert_eq!(shown["traits"], json!(["CUSTOM_GPU", "CUSTOM_SSD"]));

    let wanted = json!({"name": "a1", "resource_class": "gold", "traits": ["CUSTOM_GPU"]});
    let failed = ironic.post("/v1/allocations", wanted.clone()).await.expect(201).body;
    assert_eq!((&failed["state"], &failed["node_uuid"]), (&json!("error"), &Value::Null));
    assert!(failed["last_error"].is_string(), "{failed}");
    ironic.post("/v1/allocations", wanted.clone()).await.expect(409);
    ironic.delete("/v1/allocations/a1").await.expect(204);
    for verb in ["manage", "provide"] {
        ironic.put("/v1/nodes/n1/states/provision", json!({"target": verb})).await.expect(202);
        if verb == "manage" {
            running.claim("n1").await;
            running.run_step("n1", StepResult::Done).await;
        }
    }
    let made = ironic.post("/v1/allocations", wanted).await.expect(201);
    assert_eq!((&made.body["state"], &made.body["node_uuid"]), (&json!("active"), &json!(uuid)));
    assert_eq!(ironic.get("/v1/allocations/a1").await.expect(200).body, made.body);
    assert_eq!(ironic.get("/v1/nodes/n1/allocation").await.expect(200).body, made.body);
    let node = ironic.get("/v1/nodes/n1").await.body;
    assert_eq!(node["allocation_uuid"], made.body["uuid"]);
    assert_eq!(node["instance_uuid"], made.body["uuid"]);
    for (list, count) in [("", 1), ("?node=n1", 1), ("?state=error", 0), ("?resource_class=x", 0)] {
        let page = ironic.get(&format!("/v1/allocations{list}")).await.expect(200).body;
        assert_eq!(page["allocations"].as_array().unwrap().len(), count, "{list}");
    }
    let associated = ironic.get("/v1/nodes?associated=true").await.expect(200).body;
    assert_eq!(associated["nodes"].as_array().unwrap().len(), 1);
    ironic
        .post("/v1/allocations", json!({"resource_class": "gold", "colour": 1}))
        .await
        .expect(400);
    ironic.get_in("1.51", "/v1/allocations").await.expect(406);
    ironic.delete("/v1/nodes/n1/allocation").await.expect(204);
    ironic.get("/v1/nodes/n1/allocation").await.expect(404);
    ironic.get("/v1/allocations/a1").await.expect(404);
}

#[tokio::test]
async fn later_verbs_are_known_by_their_versions() {
    let ironic = Ironic::start().await;
    let provision = "/v1/nodes/n1/states/provision";
    ironic.create("n1").await;
    for (body, part) in [
        (json!({"target": "rescue"}), "rescue_password is required"),
        (json!({"target": "rescue", "rescue_password": "secret"}), "`rescue`"),
        (json!({"target": "unrescue"}), "`unrescue`"),
        (json!({"target": "unhold"}), "`unhold`"),
        (json!({"target": "service", "service_steps": 1}), "service_steps"),
        (json!({"target": "manage", "service_steps": []}), "service_steps is only for"),
        (json!({"target": "clean", "runbook": "CUSTOM_NONE"}), "CUSTOM_NONE"),
    ] {
        let refused = ironic.put(provision, body.clone()).await;
        assert!((400..=404).contains(&refused.status), "{body}: {}", refused.body);
        assert!(refused.message().contains(part), "{body}: {}", refused.message());
        assert!(!refused.message().contains("secret"));
    }
    let old = [("x-openstack-ironic-api-version", "1.37")];
    let rescue = json!({"target": "rescue", "rescue_password": "secret"});
    ironic.ask(Method::PUT, provision, &old, &rescue).await.expect(406);
}

#[tokio::test]
async fn power_is_asked_for_in_ironics_words() {
    let ironic = Ironic::start().await;
    let power = "/v1/nodes/n1/states/power";
    ironic.create("n1").await;
    ironic.running.claim("n1").await;
    ironic.put(power, json!({"target": "power on"})).await.expect(202);
    assert_eq!(ironic.get("/v1/nodes/n1/states").await.body["target_power_state"], "power on");
    ironic.put(power, json!({"target": "rebooting"})).await.expect(202);
    assert_eq!(ironic.get("/v1/nodes/n1").await.body["target_power_state"], "rebooting");
    ironic.put(power, json!({"target": "explode"})).await.expect(400);
    ironic.put(power, json!({"target": "power on", "timeout": 0})).await.expect(400);
    let soft = json!({"target": "soft power off", "timeout": 5});
    ironic.put(power, soft.clone()).await.expect(202);
    let states = ironic.get("/v1/nodes/n1/states").await.body;
    assert_eq!(states["target_power_state"], "soft power off");
    let old = [("x-openstack-ironic-api-version", "1.26")];
    ironic.ask(Method::PUT, power, &old, &soft).await.expect(406);
    ironic.get("/v1/nodes/n1/inventory").await.expect(404);
}

#[tokio::test]
async fn a_request_that_is_repeated_is_one_and_versions_are_compared() {
    let ironic = Ironic::start().await;
    let body = json!({"driver": "fake-hardware"});
    let id = [("x-request-id", "req-1")];
    let first = ironic.ask(Method::POST, "/v1/nodes", &id, &body).await.expect(201);
    let again = ironic.ask(Method::POST, "/v1/nodes", &id, &body).await.expect(201);
    assert_eq!(again.body["uuid"], first.body["uuid"]);
    let other = [("x-request-id", "req-2")];
    let other = ironic.ask(Method::POST, "/v1/nodes", &other, &body).await.expect(201);
    assert_ne!(other.body["uuid"], first.body["uuid"]);

    let path = format!("/v1/nodes/{}", first.body["uuid"].as_str().unwrap());
    assert_eq!(first.header("etag"), "\"1\"");
    let patch = json!([{"op": "add", "path": "/extra/a", "value": 1}]);
    let old = [("if-match", "\"1\"")];
    let changed = ironic.ask(Method::PATCH, &path, &old, &patch).await.expect(200);
    assert_eq!(changed.header("etag"), "\"2\"");
    let patch = json!([{"op": "add", "path": "/extra/a", "value": 2}]);
    ironic.ask(Method::PATCH, &path, &old, &patch).await.expect(412);
    ironic.ask(Method::DELETE, &path, &old, &Value::Null).await.expect(412);
    ironic.ask(Method::DELETE, &path, &[("if-match", "\"2\"")], &Value::Null).await.expect(204);
}

#[tokio::test]
async fn ports_conductors_and_drivers_are_shown() {
    let ironic = Ironic::start().await;
    let node = ironic.create("n1").await;
    let body = json!({"node_uuid": node, "address": "52:54:00:AA:00:01", "extra": {"a": 1}});
    let port = ironic.post("/v1/ports", body.clone()).await.expect(201);
    assert_eq!(port.body["address"], "52:54:00:aa:00:01");
    assert_eq!(port.body["pxe_enabled"], true);
    ironic.post("/v1/ports", body).await.expect(409);
    ironic.post("/v1/ports", json!({"address": "52:54:00:aa:00:02"})).await.expect(400);
    let path = format!("/v1/ports/{}", port.body["uuid"].as_str().unwrap());
    assert_eq!(ironic.get(&path).await.expect(200).body, port.body);
    for list in ["/v1/ports", "/v1/nodes/n1/ports", "/v1/ports/detail?node=n1"] {
        let ports = ironic.get(list).await.expect(200).body;
        assert_eq!(ports["ports"][0]["uuid"], port.body["uuid"], "{list}");
    }
    let none = ironic.get("/v1/ports?address=52:54:00:aa:00:09").await.expect(200).body;
    assert_eq!(none, json!({"ports": []}));
    ironic.delete(&path).await.expect(204);
    ironic.get(&path).await.expect(404);

    let conductors = ironic.get("/v1/conductors").await.expect(200).body;
    assert_eq!(conductors["conductors"][0]["hostname"], "conductor-1");
    assert_eq!(conductors["conductors"][0]["alive"], true);
    let conductor = ironic.get("/v1/conductors/conductor-1").await.expect(200).body;
    assert_eq!(conductor["drivers"], json!(["fake-hardware"]));
    ironic.get("/v1/conductors/nobody").await.expect(404);
    let drivers = ironic.get("/v1/drivers").await.expect(200).body;
    assert_eq!(drivers["drivers"][0]["name"], "fake-hardware");
    let driver = ironic.get("/v1/drivers/fake-hardware").await.expect(200).body;
    assert_eq!(driver["hosts"], json!(["conductor-1"]));
    assert_eq!(driver["default_deploy_interface"], "direct");
    ironic.get("/v1/drivers/abacus").await.expect(404);
}

#[tokio::test]
async fn bodies_without_end_or_measure_are_refused() {
    let ironic = Ironic::start().await;
    let send = async |body: String| {
        let request = ironic.http.post(format!("{}/v1/nodes", ironic.running.rest));
        request.body(body).send().await.unwrap().status().as_u16()
    };
    assert_eq!(send(format!("{}{}", "[".repeat(10_000), "]".repeat(10_000))).await, 400);
    assert_eq!(send(format!("\"{}\"", "x".repeat(2 * 1024 * 1024))).await, 413);
    assert_eq!(send("{".to_owned()).await, 400);
    let revision = ironic.running.revision().await;
    // It says that it is a gigabyte: nothing of it is waited for.
    let address = ironic.running.rest.trim_start_matches("http://").to_owned();
    let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /v1/nodes HTTP/1.1\r\nHost: {address}\r\nContent-Length: 1073741824\r\n\r\n{{"
    );
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_eq!(ironic.running.revision().await, revision);
}
