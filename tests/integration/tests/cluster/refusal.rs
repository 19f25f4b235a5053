//! Wrong input: each is refused with the field and the value named, and nothing has changed.

use std::fs;
use std::path::Path;
use std::process::Command;

use bessemer_client::Error;
use bessemer_proto::v1::{
    DeployNodeRequest, DeploymentSpec, GetStatusRequest, ImageSpec, ListImagesRequest, NodeSpec,
    SetNodeMaintenanceRequest, UpdateNodeRequest,
};
use bessemer_testkit::{Cluster, Options, deployment_of, digest_of_file, verb};
use uuid::Uuid;

use crate::images::{LARGE_DISK_BYTES, placed};

const NAME: &str = "refuser";

/// What the API says without asking anybody: nothing is appended.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_refuses_before_anything_is_appended() {
    let options = Options { members: 1, conductors: 1, nats: false, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    cluster.available_node(NAME, LARGE_DISK_BYTES).await.unwrap();
    let before = cluster.client.get_status(GetStatusRequest {}).await.unwrap().revision;

    let url = "http://images.example/a.qcow2";
    let image = |change: &dyn Fn(&mut ImageSpec)| {
        let mut image = ImageSpec { source: url.to_owned(), ..ImageSpec::default() };
        change(&mut image);
        image
    };
    let cases: [(ImageSpec, &str, &str); 7] = [
        (image(&|_| {}), "deployment.image.checksum", "is required for"),
        (
            image(&|image| image.os_hash_algo = "sha256".to_owned()),
            "deployment.image.os_hash_value",
            "because os_hash_algo `sha256` is set",
        ),
        (
            image(&|image| image.os_hash_value = "ab".repeat(32)),
            "deployment.image.os_hash_algo",
            "because os_hash_value",
        ),
        (
            image(&|image| image.checksum = "ab".repeat(20)),
            "deployment.image.checksum",
            "has 40 characters; md5 has 32",
        ),
        (
            image(&|image| {
                image.os_hash_algo = "sha1".to_owned();
                image.os_hash_value = "ab".repeat(20);
            }),
            "deployment.image.os_hash_algo",
            "`sha1` is none of: md5, sha256, sha512",
        ),
        (
            image(&|image| image.source = "ftp://images.example/a".to_owned()),
            "deployment.image.source",
            "`ftp://images.example/a` is not a URL that begins with",
        ),
        (
            image(&|image| image.disk_format = "qed".to_owned()),
            "deployment.image.disk_format",
            "`qed` is not one of raw, qcow2, vmdk, vhd, vhdx, vdi",
        ),
    ];
    for (image, field, reason) in cases {
        let deployment = DeploymentSpec { image: Some(image), ..DeploymentSpec::default() };
        let error = cluster.deploy(NAME, deployment).await.unwrap_err();
        assert_refused(&error, "INVALID_FIELD", &[field, reason]);
    }

    let unknown = cluster.deploy("nobody", deployment_of(Path::new("/a"), &"ab".repeat(32)));
    assert_refused(&unknown.await.unwrap_err(), "NODE_NOT_FOUND", &["no node `nobody`"]);
    let illegal = cluster.client.provide_node(verb(NAME)).await.unwrap_err();
    let wanted = ["`available`, which does not allow `provide`", "`manage`, `deploy`"];
    assert_refused(&illegal.into(), "ILLEGAL_TRANSITION", &wanted);
    let stale = UpdateNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: NAME.to_owned(),
        version: 1,
        spec: Some(NodeSpec { description: "x".to_owned(), ..NodeSpec::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["spec.description".to_owned()] }),
        ..UpdateNodeRequest::default()
    };
    let stale = cluster.client.update_node(stale).await.unwrap_err();
    assert_refused(&stale.into(), "VERSION_CONFLICT", &["has version", "not 1"]);

    let after = cluster.client.get_status(GetStatusRequest {}).await.unwrap().revision;
    assert_eq!(after, before, "nothing was appended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_command_id_has_the_first_outcome() {
    let options = Options { members: 1, conductors: 1, nats: false, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    cluster.enrol(NAME, LARGE_DISK_BYTES).await.unwrap();
    let request = SetNodeMaintenanceRequest {
        command_id: Uuid::new_v4().to_string(),
        node: NAME.to_owned(),
        version: 0,
        maintenance: true,
        reason: "fan".to_owned(),
    };
    let first = cluster.client.set_node_maintenance(request.clone()).await.unwrap();
    let again = cluster.client.set_node_maintenance(request.clone()).await.unwrap();
    assert_eq!(first, again);
    // A refusal is an outcome as well, and stays one when the state would allow it by now.
    let refused = DeployNodeRequest {
        command_id: Uuid::new_v4().to_string(),
        node: NAME.to_owned(),
        version: 0,
        deployment: Some(deployment_of(Path::new("/a"), &"ab".repeat(32))),
    };
    let first = cluster.client.deploy_node(refused.clone()).await.unwrap_err();
    let again = cluster.client.deploy_node(refused).await.unwrap_err();
    assert_eq!(first.to_string(), again.to_string());
    let other = SetNodeMaintenanceRequest { reason: "disk".to_owned(), ..request };
    let error = cluster.client.set_node_maintenance(other).await.unwrap_err();
    assert_refused(&error.into(), "COMMAND_ID_REUSED", &["draw a new one"]);
}

/// What only the image itself shows: the deployment fails before the machine is touched, and the cache keeps nothing.
#[tokio::test(flavor = "multi_thread")]
async fn bad_images_fail_before_the_machine_is_touched() {
    let options = Options { members: 1, conductors: 1, nats: false, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    let node = cluster.available_node(NAME, LARGE_DISK_BYTES).await.unwrap();
    let disk = cluster.disk(&node);
    let untouched = digest_of_file(&disk).unwrap();
    let console_before = fs::read_to_string(disk.with_file_name("console.log")).ok();
    for case in bad_images(&cluster) {
        cluster.deploy(NAME, case.deployment.clone()).await.unwrap();
        let failed = cluster.until_state(NAME, "deploy failed").await.unwrap();
        let error = failed.status.unwrap().last_error;
        for part in &case.wanted {
            assert!(error.contains(part.as_str()), "{}: `{error}` lacks `{part}`", case.name);
        }
        assert_eq!(digest_of_file(&disk).unwrap(), untouched, "{}", case.name);
        let power = fs::read_to_string(disk.with_file_name("power")).unwrap();
        assert_eq!(power, "off", "{}: the machine was not booted", case.name);
    }
    let images = cluster.client.list_images(ListImagesRequest {}).await.unwrap().images;
    let names: Vec<_> = images.iter().map(|image| image.name.as_str()).collect();
    assert!(names.iter().all(|name| *name == "too-large.qcow2"), "kept {names:?}");
    assert_eq!(fs::read_to_string(disk.with_file_name("console.log")).ok(), console_before);
}

struct BadImage {
    name: &'static str,
    deployment: DeploymentSpec,
    wanted: Vec<String>,
}

fn bad_images(cluster: &Cluster) -> Vec<BadImage> {
    let home = cluster.home();
    let good = placed(cluster);
    let right = digest_of_file(&good).unwrap();
    let wrong = "ab".repeat(32);
    let declared = |path: &Path, format: &str| {
        let mut deployment = deployment_of(path, &digest_of_file(path).unwrap());
        deployment.image.as_mut().unwrap().disk_format = format.to_owned();
        deployment
    };
    let case = |name, deployment, wanted: &[&str]| BadImage {
        name,
        deployment,
        wanted: wanted.iter().map(|part| (*part).to_owned()).collect(),
    };

    let truncated = home.join("truncated.qcow2");
    let whole = fs::read(&good).unwrap();
    fs::write(&truncated, &whole[..whole.len() / 2]).unwrap();
    let raw = home.join("small.raw");
    fs::write(&raw, vec![7; 1 << 20]).unwrap();
    let backed = home.join("backed.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", path(&good), path(&backed)]);
    let external = home.join("external.qcow2");
    let data = home.join("external.data");
    let option = format!("data_file={}", data.display());
    qemu_img(&["create", "-q", "-f", "qcow2", "-o", &option, path(&external), "64M"]);
    let large = home.join("too-large.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", path(&large), "8G"]);
    vec![
        case("wrong checksum", deployment_of(&good, &wrong), &[&wrong, &right]),
        case(
            "truncated",
            deployment_of(&truncated, &digest_of_file(&truncated).unwrap()),
            &["truncated"],
        ),
        case("qcow2 declared raw", declared(&good, "raw"), &["disk_format", "raw", "qcow2"]),
        case("raw declared qcow2", declared(&raw, "qcow2"), &["disk_format", "raw", "qcow2"]),
        case("backing file", declared(&backed, "qcow2"), &["backing file", "disk.qcow2"]),
        case(
            "external data file",
            declared(&external, "qcow2"),
            &["external file", "qemu-img convert"],
        ),
        case(
            "larger than the disk",
            declared(&large, "qcow2"),
            &["8589934592", &LARGE_DISK_BYTES.to_string()],
        ),
    ]
}

fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn assert_refused(error: &anyhow::Error, reason: &str, parts: &[&str]) {
    let refusal = match error.downcast_ref::<Error>() {
        Some(Error::Refused(refusal)) => refusal,
        other => panic!("not a refusal: {other:?} {error:#}"),
    };
    assert_eq!(refusal.reason, reason, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{error}` lacks `{part}`");
    }
}
