//! Secrets stay secret: in nothing that the processes write, and in nothing that they say.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bessemer_client::Client;
use bessemer_proto::v1::{
    DeploymentSpec, GetNodeRequest, ListEventsRequest, NodeSpec, RequestedStep, UpdateNodeRequest,
};
use bessemer_testkit::{Cluster, IpmiSimulator, Options, binary, prost_struct, verb};

use crate::plugins::install;

const NAME: &str = "vault";
const PASSWORD: &str = "pl4nt3d-bmc-7731";
const INSTANCE_TOKEN: &str = "pl4nt3d-instance-5119";

/// What a BMC of a machine that is off calls.
const CHASSIS: &str = "#!/bin/sh\nif [ \"$2\" = get ]; then echo \"$3:0\"; fi\n";

fn options(sealed: bool) -> Options {
    Options { members: 1, conductors: 1, nats: false, tls: true, sealed, ..Options::default() }
}

/// A node whose BMC wants a password, which the command reads from a file.
async fn enrol(cluster: &Cluster) -> IpmiSimulator {
    let machine = cluster.home().join("bmc");
    fs::create_dir_all(&machine).unwrap();
    let bmc = IpmiSimulator::start(&machine, CHASSIS, PASSWORD).unwrap();
    let aside = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = aside.path().join(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        path.display().to_string()
    };
    let password = file("password", PASSWORD);
    let port = format!("ipmi_port={}", bmc.port);
    let password = format!("ipmi_password=@{password}");
    let create = ["node", "create", "--name", NAME, "--driver", "ipmi", "--driver-info"];
    let more = ["--driver-info", "ipmi_address=127.0.0.1", "--driver-info", "ipmi_username=admin"];
    let more = [&more[..], &["--driver-info", "ipmi_cipher_suite=3", "--driver-info", &password]];
    run(cluster, &[&create[..], &[&port], &more.concat()].concat());
    let spec = NodeSpec {
        instance_info: Some(prost_struct([("app_token", INSTANCE_TOKEN)])),
        ..NodeSpec::default()
    };
    let update_mask = prost_types::FieldMask { paths: vec!["spec.instance_info".into()] };
    let update = UpdateNodeRequest {
        node: NAME.into(),
        spec: Some(spec),
        update_mask: Some(update_mask),
        ..UpdateNodeRequest::default()
    };
    cluster.client.update_node(update).await.unwrap();
    bmc
}

fn run(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = cluster.bessemer(&[1], arguments).unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said} {output:?}");
    said
}

/// Every file below a directory, but for those that hold secrets because they must: keys, tokens, and the BMC's own.
fn written(home: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(home).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if matches!(name.as_str(), "pki" | "secret-keys" | "tokens" | "bmc") {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            files.extend(written(&path));
        } else if entry.file_type().unwrap().is_file() {
            files.push(path);
        }
    }
    files
}

fn holders(home: &Path, secret: &str) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    };
    written(home).into_iter().filter(holds).collect()
}

/// The conductor opens what the member sealed: the BMC takes the password. Then everything that was written is searched. That the
/// search finds what is there is shown by a cluster without keys.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_written_holds_a_secret() {
    let open = Cluster::start(&options(false)).await.unwrap();
    let _bmc = enrol(&open).await;
    open.client.manage_node(verb(NAME)).await.unwrap();
    open.until_state(NAME, "manageable").await.unwrap();
    for secret in [PASSWORD, INSTANCE_TOKEN] {
        let found = holders(open.home(), secret);
        assert!(found.iter().any(|path| path.starts_with(open.member_directory(1))), "{found:?}");
    }
    drop(open);

    let cluster = Cluster::start(&options(true)).await.unwrap();
    let _bmc = enrol(&cluster).await;
    cluster.client.manage_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "manageable").await.unwrap();
    run(&cluster, &["cluster", "snapshot"]);
    let (export, backup) = (cluster.home().join("export"), cluster.home().join("backup"));
    let mut said = run(&cluster, &["event", "export", &export.display().to_string()]);
    said += &run(&cluster, &["cluster", "backup", &backup.display().to_string()]);
    said += &run(&cluster, &["event", "verify"]);
    said += &run(&cluster, &["node", "show", NAME, "-o", "json"]);
    said += &run(&cluster, &["node", "history", NAME, "-o", "json"]);
    for event in cluster.events(NAME).await.unwrap() {
        said += &String::from_utf8_lossy(&event.record);
    }
    assert!(said.contains("******") && said.contains("sealed:v1:"), "{said}");
    for secret in [PASSWORD, INSTANCE_TOKEN] {
        assert!(!said.contains(secret), "{said}");
        assert_eq!(holders(cluster.home(), secret), Vec::<PathBuf>::new());
    }
    // Nor is a key written anywhere but in its file.
    let keys = fs::read_to_string(cluster.home().join("secret-keys")).unwrap();
    let key = keys.split_whitespace().nth(1).unwrap();
    assert_eq!(holders(cluster.home(), key), Vec::<PathBuf>::new());
}

/// A plug-in that writes what it is given where it is told.
const PLUGIN: &str = r#"#!/bin/sh
case $1 in
describe)
    echo '{"steps": [{"name": "license", "args": {"license_key": {"type": "string", "required": true},'
    echo '"out": {"type": "string", "required": true}}}]}'
    ;;
run)
    input=$(cat)
    text() { printf '%s\n' "$input" | sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p'; }
    text license_key > "$(text out)"
    echo '{"result": {}}'
    ;;
esac
"#;

const LICENSE: &str = "pl4nt3d-license-8842";

/// A secret among the arguments of a step reaches the plug-in, and is written nowhere on the way.
#[tokio::test(flavor = "multi_thread")]
async fn arguments_of_steps_reach_the_plug_in_alone() {
    let cluster = Cluster::start(&options(true)).await.unwrap();
    install(&cluster, "license", PLUGIN);
    cluster.available_node("licensed", 64 << 20).await.unwrap();
    let aside = tempfile::tempdir().unwrap();
    let out = aside.path().join("out");
    let args = [("license_key", LICENSE), ("out", out.to_str().unwrap())];
    let step = RequestedStep {
        step: "license".to_owned(),
        args: Some(prost_struct(args)),
        priority: Some(90),
        ..RequestedStep::default()
    };
    let wanted = DeploymentSpec {
        deploy_interface: "custom-agent".to_owned(),
        deploy_steps: vec![step],
        ..DeploymentSpec::default()
    };
    cluster.deploy("licensed", wanted).await.unwrap();
    let node = cluster.until_state("licensed", "active").await.unwrap();
    assert_eq!(fs::read_to_string(out).unwrap().trim(), LICENSE);
    assert!(!format!("{node:?}").contains(LICENSE), "{node:?}");
    assert_eq!(holders(cluster.home(), LICENSE), Vec::<PathBuf>::new());
}

/// A new key seals from then on and for what there is; the old one can go.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_changed_as_the_cluster_runs() {
    let cluster = Cluster::start(&options(true)).await.unwrap();
    let _bmc = enrol(&cluster).await;
    let file = cluster.home().join("secret-keys");
    let old = fs::read_to_string(&file).unwrap();
    let new = Command::new(binary("bessemer")).args(["secrets", "key"]).output().unwrap().stdout;
    let new = String::from_utf8(new).unwrap();
    let name = |line: &str| line.split_whitespace().next().unwrap().to_owned();
    fs::write(&file, format!("{new}{old}")).unwrap();
    // Within a second of the change the members may not have looked yet; each attempt seals what it finds.
    bessemer_testkit::wait_for("secrets by the new key", PATIENCE, async || {
        let said = run(&cluster, &["secrets", "rotate"]);
        assert!(said.contains("of 1 nodes"), "{said}");
        let last = cluster.events(NAME).await.unwrap().pop().unwrap();
        let record = String::from_utf8_lossy(&last.record).into_owned();
        let is_new = record.contains(&format!("sealed:v1:{}:", name(&new)));
        let is_old = record.contains(&format!("sealed:v1:{}:", name(&old)));
        if is_new && !is_old { Ok(()) } else { Err(record) }
    })
    .await
    .unwrap();
    fs::write(&file, &new).unwrap();
    cluster.client.manage_node(verb(NAME)).await.unwrap();
    cluster.until_state(NAME, "manageable").await.unwrap();
}

/// A cluster without keys has plain secrets in its history. Who only looks is told of them masked, and that they were.
#[tokio::test(flavor = "multi_thread")]
async fn readers_are_told_no_secret_of_old() {
    let cluster = Cluster::start(&options(false)).await.unwrap();
    let _bmc = enrol(&cluster).await;
    let reader = cluster.pki.as_ref().unwrap().transport("reader", "rita").unwrap();
    let reader = Client::over(&reader, cluster.api_urls()).unwrap().with_deadline(PATIENCE);
    let request = ListEventsRequest { page_size: 1000, ..ListEventsRequest::default() };
    let told = reader.list_events(request.clone()).await.unwrap().events;
    let admin = cluster.client.list_events(request).await.unwrap().events;
    assert_eq!(told.len(), admin.len());
    let text = |events: &[bessemer_proto::v1::Event]| {
        events.iter().map(|it| String::from_utf8_lossy(&it.record).into_owned()).collect::<String>()
    };
    assert!(text(&admin).contains(PASSWORD), "who keeps history has all of it");
    assert!(!text(&told).contains(PASSWORD) && text(&told).contains("******"));
    assert!(told.iter().any(|event| event.masked) && told.iter().any(|event| !event.masked));
    let get = GetNodeRequest { node: NAME.into(), ..GetNodeRequest::default() };
    let node = format!("{:?}", reader.get_node(get).await.unwrap());
    assert!(!node.contains(PASSWORD) && node.contains("******"));
}

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
