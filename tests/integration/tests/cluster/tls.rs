//! A cluster with certificates: it does its job, and nobody without the right ones is let in.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bessemer_client::{Client, Error};
use bessemer_proto::v1::agent_message::Message;
use bessemer_proto::v1::agent_session_service_client::AgentSessionServiceClient;
use bessemer_proto::v1::{
    AgentHello, AgentMessage, GetStatusRequest, HeartbeatRequest, ListConductorsRequest,
    ListImagesRequest, ProposeRequest,
};
use bessemer_runtime::tls::{Config, Transport};
use bessemer_testkit::{Cluster, Options, Pki, assert_stream_complete, wait_for};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

use crate::images::{LARGE_DISK_BYTES, assert_holds_image, deployment};

const PATIENCE: Duration = Duration::from_secs(60);

fn small() -> Options {
    Options { members: 1, conductors: 1, nats: false, tls: true, ..Options::default() }
}

/// A client that soon says that nobody answers.
fn client(transport: &Transport, cluster: &Cluster) -> Client {
    let client = Client::over(transport, cluster.api_urls()).unwrap();
    client.with_deadline(Duration::from_secs(2))
}

async fn said(client: &Client) -> Result<u64, Error> {
    client.get_status(GetStatusRequest {}).await.map(|status| status.member_id)
}

/// Three members, two conductors, two caches: members speak Raft, a conductor claims, an agent writes from both caches.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_certificates_deploys() {
    let options = Options { caches: 2, tls: true, ..Options::default() };
    let cluster = Cluster::start(&options).await.unwrap();
    let node = cluster.available_node("sealed", LARGE_DISK_BYTES).await.unwrap();
    cluster.deploy("sealed", deployment(&cluster)).await.unwrap();
    cluster.until_state("sealed", "active").await.unwrap();
    assert_holds_image(&cluster, &node);
    let images = cluster.client.list_images(ListImagesRequest {}).await.unwrap().images;
    let urls: Vec<_> = images.into_iter().flat_map(|image| image.urls).collect();
    assert!(!urls.is_empty() && urls.iter().all(|url| url.starts_with("https://")), "{urls:?}");

    assert_stream_complete(&cluster).await.unwrap();

    // Who asked is who the certificate says, not who the client says that it is.
    let actors: Vec<_> =
        cluster.events("sealed").await.unwrap().into_iter().map(|event| event.actor).collect();
    assert!(actors.contains(&"test".to_owned()), "{actors:?}");
    assert!(actors.iter().any(|actor| actor.starts_with("conductor/c")), "{actors:?}");
    let output = cluster.bessemer(&[1, 2, 3], &["node", "maintenance", "on", "sealed"]).unwrap();
    assert!(output.status.success(), "{output:?}");
    let last = cluster.events("sealed").await.unwrap().pop().unwrap();
    assert_eq!(last.actor, "command", "the name in the command's certificate");
    let output = cluster.bessemer(&[1, 2, 3], &["doctor"]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_without_the_right_certificate() {
    let cluster = Cluster::start(&small()).await.unwrap();
    let pki = cluster.pki.clone().unwrap();
    said(&client(&pki.transport("reader", "good").unwrap(), &cluster)).await.unwrap();

    // Of another authority, whose own it believes, or ours.
    let other = Pki::init(&cluster.home().join("other-pki")).unwrap();
    let stranger = other.issue("admin", "mallory", &[]).unwrap();
    let unbelieving = client(&stranger.client(None).unwrap(), &cluster);
    let error = said(&unbelieving).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    let forged = Config { ca_file: Some(pki.ca_file()), ..stranger };
    let error = said(&client(&forged.client(None).unwrap(), &cluster)).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");

    // Without one, by TLS: known as nobody.
    let nobody = Config { ca_file: Some(pki.ca_file()), ..Config::default() };
    let nobody = nobody.client(None).unwrap();
    let error = said(&client(&nobody, &cluster)).await.unwrap_err();
    assert_eq!(error.reason(), Some("UNAUTHENTICATED"), "{error}");

    // In the clear.
    let plain: Vec<_> =
        cluster.api_urls().iter().map(|url| url.replace("https://", "http://")).collect();
    let plain = Client::new(&plain).unwrap().with_deadline(Duration::from_secs(2));
    let error = said(&plain).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");

    // One whose time is over.
    let short = pki.issue("admin", "yesterday", &["--valid-for", "1s"]).unwrap();
    let short = short.client(None).unwrap();
    wait_for("certificate that has expired", PATIENCE, async || {
        match said(&client(&short, &cluster)).await {
            Err(Error::Unreachable { .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .unwrap();

    // Everything but TLS 1.3, with and without a certificate for it.
    for address in cluster.api_urls().iter().map(|url| url.trim_start_matches("https://")) {
        let authority = CertificateDer::from_pem_file(pki.ca_file()).unwrap();
        let shake = async |version| handshake(address, authority.clone(), version).await;
        shake(&rustls::version::TLS13).await.unwrap();
        let error = shake(&rustls::version::TLS12).await.unwrap_err();
        assert!(error.contains("ProtocolVersion"), "{error}");
    }
    // What was refused is counted, by each kind of service.
    let member = cluster.api_urls()[0].clone();
    for (process, field, metric) in [
        ("api-1", "", "bessemer_api_access_refused_total"),
        ("conductor-0", "advertised_address = ", "bessemer_conductor_access_refused_total"),
        ("image-cache-0", "grpc_listen = ", "bessemer_image_cache_access_refused_total"),
    ] {
        let config = fs::read_to_string(cluster.home().join(format!("{process}.toml"))).unwrap();
        let line = config.lines().find_map(|line| line.strip_prefix(field));
        let address = line.unwrap().trim_matches('"').trim_start_matches("https://");
        let url = if field.is_empty() { member.clone() } else { format!("https://{address}") };
        let client = Client::over(&nobody, &[url]).unwrap().with_deadline(Duration::from_secs(2));
        let error = client.list_images(ListImagesRequest {}).await.unwrap_err();
        assert_eq!(error.reason(), Some("UNAUTHENTICATED"), "{process}: {error}");
        let url = cluster.metrics_url(process).unwrap();
        let text = get(&nobody, &format!("{url}/metrics")).await;
        let is_counted = |line: &str| {
            line.starts_with(metric)
                && line.contains("ImageService/ListImages")
                && line.contains("unauthenticated")
        };
        assert!(text.lines().any(is_counted), "{text}");
    }
}

/// What a service's certificate is good for is its job alone.
#[tokio::test(flavor = "multi_thread")]
async fn services_are_held_to_their_job() {
    let cluster = Cluster::start(&small()).await.unwrap();
    let pki = cluster.pki.clone().unwrap();
    let service = |role: &str, name: &str| {
        let config = pki.issue(role, name, &["--host", "127.0.0.1"]).unwrap();
        client(&config.client(None).unwrap(), &cluster)
    };
    let cache = service("image-cache", "thief");
    assert_eq!(said(&cache).await.unwrap_err().reason(), Some("PERMISSION_DENIED"));

    let conductor = service("conductor", "c7");
    conductor.list_conductors(ListConductorsRequest {}).await.unwrap_err();
    // It speaks for nobody else, and does what no conductor has to do not even for itself.
    let heartbeat = |id: &str| HeartbeatRequest {
        conductor_id: id.to_owned(),
        incarnation: uuid::Uuid::new_v4().to_string(),
        progress: Vec::new(),
    };
    let own = conductor.heartbeat(heartbeat("c7")).await.remove(0);
    assert!(!own.unwrap().registered);
    let others = conductor.heartbeat(heartbeat("c0")).await.remove(0).unwrap_err();
    assert_eq!(others.reason(), Some("PERMISSION_DENIED"), "{others}");
    for (actor, body) in [
        ("test", r#"{"type":"resume_conductor","data":{"conductor":"c0"}}"#),
        ("conductor/c7", r#"{"type":"resume_conductor","data":{"conductor":"c0"}}"#),
        (
            "conductor/c7",
            r#"{"type":"unregister_conductor","data":{"conductor":"c0","incarnation":"0192f1a6-0000-7000-8000-000000000001"}}"#,
        ),
    ] {
        let command = format!(
            r#"{{"id":"{}","actor":"{actor}","at":1700000000000000,"body":{body}}}"#,
            uuid::Uuid::new_v4()
        );
        let request = ProposeRequest { commands: vec![command.into_bytes()] };
        let error = conductor.propose(request).await.unwrap_err();
        assert_eq!(error.reason(), Some("PERMISSION_DENIED"), "{actor} {body}: {error}");
    }
}

/// The authority's certificate is not on the machine, only its fingerprint: the servers send it.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_knows_the_fingerprint_alone_is_safe_too() {
    let cluster = Cluster::start(&small()).await.unwrap();
    let pki = cluster.pki.clone().unwrap();
    let fingerprint = |path: &Path| {
        let der = CertificateDer::from_pem_file(path).unwrap();
        bessemer_runtime::tls::Fingerprint::of(&der)
    };
    let pinned = Config::default().client(Some(fingerprint(&pki.ca_file()))).unwrap();
    let error = said(&client(&pinned, &cluster)).await.unwrap_err();
    assert_eq!(error.reason(), Some("UNAUTHENTICATED"), "believed, and as nobody: {error}");
    let other = Pki::init(&cluster.home().join("other-pki")).unwrap();
    let pinned = Config::default().client(Some(fingerprint(&other.ca_file()))).unwrap();
    let error = said(&client(&pinned, &cluster)).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
}

/// A token is good for its node alone, and for as long as the deployment lasts.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_speaks_for_its_own_node_alone() {
    let cluster = Cluster::start(&small()).await.unwrap();
    let mut tokens = Vec::new();
    for name in ["left", "right"] {
        let node = cluster.available_node(name, LARGE_DISK_BYTES).await.unwrap();
        cluster.deploy(name, deployment(&cluster)).await.unwrap();
        let memory = cluster.disk(&node).with_file_name("memory");
        let token = wait_for("an agent's token", PATIENCE, async || {
            token_in(&memory).ok_or_else(|| format!("none in {}", memory.display()))
        });
        tokens.push((node.metadata.unwrap().id, token.await.unwrap()));
    }
    let pki = cluster.pki.clone().unwrap();
    let nobody = Config { ca_file: Some(pki.ca_file()), ..Config::default() }.client(None).unwrap();
    let config = fs::read_to_string(cluster.home().join("conductor-0.toml")).unwrap();
    let line = config.lines().find_map(|line| line.strip_prefix("advertised_address = ")).unwrap();
    let url = line.trim_matches('"').to_owned();
    let session = async |node: &str, token: &str| {
        let channel = nobody.connect(&nobody.endpoint(&url).unwrap()).await.unwrap();
        let hello = AgentHello {
            node_id: node.to_owned(),
            token: token.to_owned(),
            ..AgentHello::default()
        };
        let hello = AgentMessage { message: Some(Message::Hello(hello)) };
        let messages = futures::stream::iter([hello]);
        AgentSessionServiceClient::new(channel).session(messages).await.map(drop)
    };
    let (left, right) = (&tokens[0], &tokens[1]);
    for (node, token) in [(&left.0, &right.1), (&right.0, &left.1), (&left.0, &String::new())] {
        let status = session(node, token).await.unwrap_err();
        assert!(status.message().contains("the token is not the node's"), "{status}");
    }
    for name in ["left", "right"] {
        cluster.until_state(name, "active").await.unwrap();
    }
    // What was overheard is worth nothing afterwards.
    let status = session(&left.0, &left.1).await.unwrap_err();
    assert!(status.message().contains("the token is not the node's"), "{status}");
}

/// Members take new certificates as they run, and keep the old ones where the new cannot be used.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_without_a_restart() {
    let cluster = Cluster::start(&small()).await.unwrap();
    let pki = cluster.pki.clone().unwrap();
    let address = cluster.member_address(1);
    let authority = CertificateDer::from_pem_file(pki.ca_file()).unwrap();
    let shown = async || handshake(&address, authority.clone(), &rustls::version::TLS13).await;
    let first = shown().await.unwrap();
    let files = pki.issue("member", "1", &["--host", "127.0.0.1", "--force"]).unwrap();
    let second = wait_for("a new certificate", PATIENCE, async || match shown().await {
        Ok(now) if now != first => Ok(now),
        Ok(_) => Err("the old one".to_owned()),
        Err(error) => Err(error),
    })
    .await
    .unwrap();

    fs::write(files.certificate_file.as_ref().unwrap(), "not a certificate").unwrap();
    let log = "new certificates cannot be used; the ones before are kept";
    wait_for("a line in the log", PATIENCE, async || {
        let now = shown().await?;
        assert_eq!(now, second, "the one before is kept");
        let words = fs::read_to_string(cluster.home().join("api-1.log")).unwrap();
        if words.contains(log) { Ok(()) } else { Err("nothing was logged".to_owned()) }
    })
    .await
    .unwrap();

    // An authority takes the place of another: both are believed for a while.
    let next = Pki::init(&cluster.home().join("next-pki")).unwrap();
    let both = fs::read(pki.ca_file()).unwrap();
    let both = [both, fs::read(next.ca_file()).unwrap()].concat();
    pki.issue("member", "1", &["--host", "127.0.0.1", "--force"]).unwrap();
    let theirs = next.issue("reader", "newcomer", &[]).unwrap();
    let theirs = Config { ca_file: Some(pki.ca_file()), ..theirs };
    let theirs = client(&theirs.client(None).unwrap(), &cluster);
    assert!(matches!(said(&theirs).await, Err(Error::Unreachable { .. })));
    fs::write(pki.ca_file(), both).unwrap();
    wait_for("a newcomer that is believed", PATIENCE, async || {
        said(&theirs).await.map_err(|error| error.to_string())
    })
    .await
    .unwrap();
}

/// Shakes hands by one version of TLS, without a certificate; answers with the one that was shown.
async fn handshake(
    address: &str,
    authority: CertificateDer<'static>,
    version: &'static rustls::SupportedProtocolVersion,
) -> Result<CertificateDer<'static>, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority).unwrap();
    let mut config = rustls::ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connection = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tls = connector.connect(name, connection).await.map_err(|error| error.to_string())?;
    Ok(tls.get_ref().1.peer_certificates().unwrap()[0].clone())
}

async fn get(transport: &Transport, url: &str) -> String {
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(transport.http_client().unwrap())
        .build()
        .unwrap();
    http.get(url).send().await.unwrap().text().await.unwrap()
}

/// The token that an agent keeps in its machine's memory.
fn token_in(memory: &Path) -> Option<String> {
    let files = fs::read_dir(memory).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let texts = files.filter_map(|path: PathBuf| fs::read_to_string(path).ok());
    let mut kept = texts.filter_map(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    kept.find_map(|kept| kept["token"].as_str().map(str::to_owned))
}
