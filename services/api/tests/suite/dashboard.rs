//! The dashboard, as a browser asks for it.

use std::time::Duration;

use bessemer_domain::node::StepResult;
use bessemer_proto::v1;
use reqwest::{Client, Response, StatusCode};
use tokio::time::timeout;

use crate::member::{CONDUCTOR, Running, command_id, id_of, new_node, state_of};

const LIMIT: Duration = Duration::from_secs(30);

/// What somebody may have put where text is shown.
const HOSTILE: &str = "</td><script>alert(1)</script><img src=x onerror=alert(1)>";

const PAGES: [&str; 5] = ["/", "/stuck", "/images", "/cluster", "/events"];

fn browser() -> Client {
    bessemer_runtime::install_tls_provider();
    let redirect = reqwest::redirect::Policy::none();
    Client::builder().redirect(redirect).timeout(LIMIT).build().unwrap()
}

impl Running {
    async fn page(&self, path: &str) -> (StatusCode, String) {
        let answer = browser().get(format!("{}{path}", self.dashboard)).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// Sends a form as the page at `origin` would.
    async fn submit(&self, path: &str, origin: &str, fields: &[(&str, &str)]) -> Response {
        let body: Vec<_> = fields
            .iter()
            .map(|(name, value)| {
                format!("{name}={}", value.replace(':', "%3A").replace('/', "%2F"))
            })
            .collect();
        browser()
            .post(format!("{}{path}", self.dashboard))
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.join("&"))
            .send()
            .await
            .unwrap()
    }
}

/// A stream of server-sent events, as text.
struct Stream {
    answer: Response,
    heard: String,
}

impl Stream {
    async fn open(running: &Running, path: &str) -> Self {
        let answer = browser().get(format!("{}{path}", running.dashboard)).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, heard: String::new() }
    }

    /// What was heard when `wanted` is among it.
    async fn until(&mut self, wanted: &str) -> String {
        let hearing = async {
            while !self.heard.contains(wanted) {
                let chunk = self.answer.chunk().await.unwrap().expect("the stream goes on");
                self.heard.push_str(&String::from_utf8_lossy(&chunk));
            }
        };
        let heard = timeout(LIMIT, hearing).await;
        heard.unwrap_or_else(|_| panic!("`{wanted}` was not heard, but {}", self.heard));
        std::mem::take(&mut self.heard)
    }
}

#[tokio::test]
async fn every_page_keeps_to_a_policy_that_forbids_foreign_and_inline_code() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_conductor(dir.path()).await;
    running.create("m1").await;
    let pages = PAGES.into_iter().chain(["/nodes/m1", "/nodes/m1/deploy", "/nodes/m1/maintenance"]);
    for path in pages {
        let url = format!("{}{path}", running.dashboard);
        let answer = browser().get(&url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let page = answer.text().await.unwrap();
        for forbidden in ["<script>", " style=\"", " onclick=", "http://", "https://"] {
            let shown = page.replace("http://127.0.0.1", "").replace("http://www.w3.org", "");
            assert!(!shown.contains(forbidden), "{path} has {forbidden}");
        }
        assert!(page.contains("member 1 leads"), "{path} does not say whose copy it shows");
    }
    for (path, status) in [("/nodes/nobody", 404), ("/nodes/m1/explode", 404), ("/x", 404)] {
        assert_eq!(running.page(path).await.0.as_u16(), status, "{path}");
    }
    running.stop().await;
}

#[tokio::test]
async fn files_are_kept_by_browsers_only_in_the_version_of_their_page() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(dir.path()).await;
    let page = running.page("/").await.1;
    let files: Vec<_> = page.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let kept = async |file: &str| {
            let url = format!("{}{file}", running.dashboard);
            let answer = browser().get(&url).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{file}");
            answer.headers()["cache-control"].to_str().unwrap().contains("immutable")
        };
        assert!(kept(file).await, "{file}");
        assert!(!kept(&format!("{file}x")).await, "{file}");
    }
    running.stop().await;
}

#[tokio::test]
async fn what_people_wrote_is_shown_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_conductor(dir.path()).await;
    let mut request = new_node("m1");
    let spec = request.spec.as_mut().unwrap();
    spec.description = HOSTILE.to_owned();
    spec.owner = HOSTILE.to_owned();
    spec.resource_class = HOSTILE.to_owned();
    let secret = prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue("hunter2".to_owned())),
    };
    spec.driver_info =
        Some(prost_types::Struct { fields: [("bmc_password".to_owned(), secret)].into() });
    running.client.create_node(request).await.unwrap();
    let maintenance = v1::SetNodeMaintenanceRequest {
        node: "m1".into(),
        maintenance: true,
        reason: HOSTILE.into(),
        ..Default::default()
    };
    running.client.set_node_maintenance(maintenance).await.unwrap();
    for path in PAGES.into_iter().chain(["/nodes/m1", "/nodes/m1/manage", "/events?actor=<script>"])
    {
        let page = running.page(path).await.1;
        assert!(!page.contains("<script>") && !page.contains("<img src=x"), "{path}: {page}");
    }
    for path in ["/nodes/m1", "/events", "/events.jsonl", "/fleet.json"] {
        let page = running.page(path).await.1;
        assert!(!page.contains("hunter2"), "{path} shows a secret: {page}");
    }
    let mut live = Stream::open(&running, "/nodes/m1/live").await;
    let heard = live.until("history").await;
    assert!(heard.contains("&lt;script&gt;") && !heard.contains("<script>"), "{heard}");
    running.stop().await;
}

#[tokio::test]
async fn a_form_does_what_it_says_once_and_only_when_it_is_ours() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_conductor(dir.path()).await;
    let id = id_of(&running.create("m1").await);
    let path = format!("/nodes/{id}/manage");
    let command = command_id();
    let fields = [("command_id", command.as_str())];

    let refused = running.submit(&path, "http://evil.example", &fields).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(refused.text().await.unwrap().contains("nothing was done"));
    let rebound = browser().get(&running.dashboard).header("host", "evil.example:6387");
    let rebound = rebound.send().await.unwrap();
    assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
    assert!(rebound.text().await.unwrap().contains("dashboard_hosts"));
    assert_eq!(state_of(&running.get("m1").await), "enroll");

    for _ in 0..2 {
        let done = running.submit(&path, &running.dashboard, &fields).await;
        assert_eq!(done.status(), StatusCode::SEE_OTHER);
        assert_eq!(done.headers()["location"], format!("/nodes/{id}"));
    }
    let node = running.get("m1").await;
    assert_eq!(state_of(&node), "verifying");
    // Enrolled, moved, given a plan: the second time did nothing.
    assert_eq!(node.version, 3);
    assert!(running.page("/events").await.1.contains("dashboard/127.0.0.1"));

    let other = command_id();
    let refused = running.submit(&path, &running.dashboard, &[("command_id", &other)]).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    let page = refused.text().await.unwrap();
    assert!(page.contains("ILLEGAL_TRANSITION") && page.contains("does not allow"), "{page}");
    running.stop().await;
}

#[tokio::test]
async fn a_deployment_without_what_it_needs_is_refused_in_the_words_of_the_api() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_conductor(dir.path()).await;
    running.create("m1").await;
    running.make_available("m1").await;
    let deploy = async |fields: &[(&str, &str)]| {
        let answer = running.submit("/nodes/m1/deploy", &running.dashboard, fields).await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, page) = deploy(&[("image", "http://h/a.qcow2")]).await;
    assert!(status == 400 && page.contains("checksum"), "{status} {page}");
    let (status, page) = deploy(&[("image", "debian-12")]).await;
    assert!(status == 503 && page.contains("NO_IMAGE_CACHE"), "{status} {page}");
    let (status, page) = deploy(&[]).await;
    assert!(status == 400 && page.contains("is required"), "{status} {page}");
    let (status, _) = deploy(&[("image", "http://h/a.qcow2"), ("checksm", "1")]).await;
    assert_eq!(status, 422);
    let (status, _) = deploy(&[
        ("image", "http://h/a.raw"),
        ("checksum", &"0".repeat(64)),
        ("hostname", "web-1"),
    ])
    .await;
    assert_eq!(status, 303);
    let status = running.get("m1").await.status.unwrap();
    assert_eq!(status.provision_state, "deploying");
    let drive = status.deployment.unwrap().spec.unwrap().config_drive.unwrap();
    assert!(drive.meta_data.unwrap().fields.contains_key("hostname"));
    running.stop().await;
}

#[tokio::test]
async fn the_map_is_told_of_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_conductor(dir.path()).await;
    let mut live = Stream::open(&running, "/fleet/live").await;
    live.until("event: begin").await;
    let id = id_of(&running.create("m1").await).to_string();
    let heard = live.until(&id).await;
    assert!(heard.contains("event: rows") && heard.contains("\"m1\""), "{heard}");
    running.make_available("m1").await;
    let fleet: serde_json::Value =
        serde_json::from_str(&running.page("/fleet.json").await.1).unwrap();
    let state = fleet["rows"][0][3].as_u64().unwrap();
    assert_eq!(fleet["states"][state as usize]["name"], "available");
    live.until(&format!("[\"{id}\",\"m1\",{}", fleet["rows"][0][2])).await;
    // The ring moves: any node may have another conductor now.
    let drain = v1::DrainConductorRequest {
        conductor: CONDUCTOR.into(),
        force: true,
        ..Default::default()
    };
    running.client.drain_conductor(drain).await.unwrap();
    live.until("event: reset").await;
    let delete = v1::DeleteNodeRequest { node: "m1".into(), ..Default::default() };
    running.client.delete_node(delete).await.unwrap();
    live.until(&format!("\"gone\":[\"{id}\"]")).await;
    running.stop().await;
}

#[tokio::test]
async fn a_nodes_page_follows_its_progress() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_conductor(dir.path()).await;
    let id = id_of(&running.create("m1").await).to_string();
    running.make_available("m1").await;
    running
        .submit(
            "/nodes/m1/deploy",
            &running.dashboard,
            &[("image", "http://h/a.raw"), ("checksum", &"0".repeat(64))],
        )
        .await;
    running.start_step("m1").await;
    let mut live = Stream::open(&running, "/nodes/m1/live").await;
    live.until("the image cache to prepare the image").await;
    let progress = v1::Progress {
        step: "deploy.prepare_image".into(),
        done_bytes: 512 << 20,
        total_bytes: 1 << 30,
        bytes_per_second: 64 << 20,
        ..Default::default()
    };
    let told = v1::NodeProgress { node_id: id, progress: Some(progress) };
    assert!(running.heartbeat(vec![told]).await);
    let heard = live.until("512 MiB of 1.0 GiB, 64 MiB/s, 8.0s left").await;
    assert!(heard.contains("50 %"), "{heard}");
    assert!(running.page("/images").await.1.contains("Being prepared"));
    assert!(running.page("/stuck").await.1.contains("the image cache to prepare the image"));
    running.run_step("m1", StepResult::Done).await;
    live.until("deploy.prepare_image done").await;
    running.stop().await;
}

#[tokio::test]
async fn events_are_found_by_what_is_known_of_them_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::with_conductor(dir.path()).await;
    for number in 0..120 {
        running.create(&format!("m{number}")).await;
    }
    running.make_available("m7").await;
    let page = running.page("/events?kind=node.created").await.1;
    assert_eq!(page.matches("enrolled with driver fake").count(), 100);
    let older = page.split('"').find(|part| part.contains("to=")).unwrap().replace("&amp;", "&");
    let page = running.page(&older).await.1;
    assert_eq!(page.matches("enrolled with driver fake").count(), 20);
    assert!(!page.contains("rel=\"next\""));
    let page = running.page("/events?node=m7&actor=TEST&kind=node.provision").await.1;
    assert!(
        page.contains("enroll → verifying (manage)") && !page.contains("verifying → manageable")
    );
    let newest = running.revision().await;
    let page = running.page(&format!("/events?from={newest}")).await.1;
    assert_eq!(page.matches("<details>").count(), 1);
    let (status, page) = running.page("/events?from=yesterday").await;
    assert!(status == 400 && page.contains("`yesterday` is not a revision"), "{page}");
    let lines = running.page("/events.jsonl?kind=node.created&from=3").await.1;
    assert_eq!(lines.lines().count(), 120);
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["event"]["type"], "node.created");
    running.stop().await;
}
