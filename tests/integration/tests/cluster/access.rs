//! Who may do what: every RPC and every route by every role, as the table says; tokens; projects.

use std::fs;
use std::process::Output;
use std::time::Duration;

use bessemer_access::table::{DASHBOARD_ROUTES, Need, REST_ROUTES, RPCS};
use bessemer_access::{Identity, Role};
use bessemer_client::Client;
use bessemer_proto::v1::{GetNodeRequest, ListNodesRequest, UpdateNodeRequest};
use bessemer_runtime::tls::{Config, Transport};
use bessemer_testkit::{Cluster, Options, binary, verb, wait_for};
use reqwest::Method;
use serde_json::Value;
use tonic::transport::Channel;
use tonic::{Code, Status};

const PATIENCE: Duration = Duration::from_secs(60);

/// A refusal comes at once; what is let through may take its time, and need not be waited for.
const REFUSAL_LIMIT: Duration = Duration::from_secs(3);

fn alone() -> Options {
    Options { members: 1, conductors: 0, nats: false, tls: true, ..Options::default() }
}

/// Somebody of each role, somebody who is held to a project, and somebody who shows nothing.
fn everybody(cluster: &Cluster) -> Vec<(Option<Identity>, Transport)> {
    let pki = cluster.pki.as_ref().unwrap();
    let mut everybody = Vec::new();
    for role in Role::ALL {
        let listens = matches!(role, Role::Member | Role::Conductor | Role::ImageCache);
        let more: &[&str] = if listens { &["--host", "127.0.0.1"] } else { &[] };
        let config = pki.issue(role.as_str(), "somebody", more).unwrap();
        let identity = Identity::try_new(role, "somebody", None).unwrap();
        everybody.push((Some(identity), config.client(None).unwrap()));
    }
    let config = pki.issue("operator", "bound", &["--project", "team-a"]).unwrap();
    let identity = Identity::try_new(Role::Operator, "bound", Some("team-a")).unwrap();
    everybody.push((Some(identity), config.client(None).unwrap()));
    everybody.push((None, nobody(cluster)));
    everybody
}

fn nobody(cluster: &Cluster) -> Transport {
    let ca_file = cluster.pki.as_ref().map(|pki| pki.ca_file());
    Config { ca_file, ..Config::default() }.client(None).unwrap()
}

/// What the table says about somebody: let through, or refused so.
fn expected(need: Need, who: Option<&Identity>) -> Result<(), Code> {
    match (need, who) {
        (Need::Nothing, _) => Ok(()),
        (Need::One { .. }, None) => Err(Code::Unauthenticated),
        (Need::One { roles, by_project }, Some(identity)) => {
            let has_role = roles.contains(&identity.role);
            let is_free = identity.project.is_none() || by_project;
            if has_role && is_free { Ok(()) } else { Err(Code::PermissionDenied) }
        }
    }
}

async fn call(channel: Channel, rpc: &str) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = format!("/{rpc}").parse().unwrap();
    // An empty message: every service takes it for one of its own.
    let request = tonic::Request::new(futures::stream::iter([()]));
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let called = grpc.streaming(request, path, codec);
    match tokio::time::timeout(REFUSAL_LIMIT, called).await {
        Ok(answer) => answer.map(drop),
        Err(_elapsed) => Ok(()),
    }
}

/// The table is what the servers do.
#[tokio::test(flavor = "multi_thread")]
async fn every_rpc_answers_every_role_as_the_table_says() {
    let cluster = Cluster::start(&alone()).await.unwrap();
    let mut wrong = Vec::new();
    for (identity, transport) in everybody(&cluster) {
        let url = &cluster.api_urls()[0];
        let channel = transport.connect(&transport.endpoint(url).unwrap()).await.unwrap();
        for (rpc, need) in RPCS {
            let answer = call(channel.clone(), rpc).await;
            let code = answer.as_ref().err().map(Status::code);
            let refused =
                code.filter(|it| matches!(it, Code::Unauthenticated | Code::PermissionDenied));
            if refused != expected(*need, identity.as_ref()).err() {
                wrong.push(format!("{rpc} by {identity:?}: {answer:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What is in no table is for nobody.
    let config = cluster.pki.as_ref().unwrap().issue("admin", "curious", &[]).unwrap();
    let admin = config.client(None).unwrap();
    let channel = admin.connect(&admin.endpoint(&cluster.api_urls()[0]).unwrap()).await.unwrap();
    let status = call(channel, "bessemer.v1.NodeService/ExplodeNode").await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_every_role_as_the_table_says() {
    let cluster = Cluster::start(&alone()).await.unwrap();
    let rest = cluster.rest_url(1).unwrap();
    let mut wrong = Vec::new();
    for (identity, transport) in everybody(&cluster) {
        let tls = transport.http_client().unwrap();
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap();
        for (method, route, need) in REST_ROUTES {
            let path: Vec<_> = route
                .split('/')
                .map(|part| if part.starts_with('{') { "nothing" } else { part })
                .collect();
            let method: Method = method.parse().unwrap();
            let url = format!("{rest}{}", path.join("/"));
            let request = http.request(method.clone(), url).body("{}");
            let request = request.header("x-openstack-ironic-api-version", "latest");
            let status = request.send().await.unwrap().status().as_u16();
            let refused = Some(status).filter(|it| matches!(it, 401 | 403));
            let wanted = expected(*need, identity.as_ref()).err();
            let wanted = wanted.map(|it| if it == Code::Unauthenticated { 401 } else { 403 });
            if refused != wanted {
                wrong.push(format!("{method} {route} by {identity:?}: {status}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_is_for_who_has_signed_in() {
    let cluster = Cluster::start(&Options { conductors: 1, ..alone() }).await.unwrap();
    let output = cluster.bessemer(&[1], &["node", "create", "--name", "n", "--driver", "fake"]);
    assert!(output.unwrap().status.success());
    let url = cluster.dashboard_url(1).unwrap();
    let mut wrong = Vec::new();
    for (identity, transport) in everybody(&cluster) {
        let http = browser(&transport);
        for (method, route, need) in DASHBOARD_ROUTES {
            let path = route.replace("{node}", "n").replace("{action}", "manage");
            let path = path.replace("{name}", "style.css");
            let request = http.request(method.parse().unwrap(), format!("{url}{path}"));
            let request = request.header("sec-fetch-site", "same-origin");
            let answer = request.header("accept", "application/json").send().await.unwrap();
            let status = answer.status().as_u16();
            // Signing in without a token is refused like that, too.
            let is_sign_in = *route == "/sign-in";
            let refused = Some(status).filter(|it| !is_sign_in && matches!(it, 401 | 403));
            let wanted = expected(*need, identity.as_ref()).err();
            let wanted = wanted.map(|it| if it == Code::Unauthenticated { 401 } else { 403 });
            if refused != wanted {
                wrong.push(format!("{method} {route} by {identity:?}: {status}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // A person without a certificate is led to the form, and a token opens.
    let http = browser(&nobody(&cluster));
    let led = http.get(&url).header("accept", "text/html").send().await.unwrap();
    assert_eq!(
        (led.status().as_u16(), &led.headers()["location"]),
        (303, &"/sign-in".parse().unwrap())
    );
    let (reader, line) = issue(&["rita", "--role", "reader"]);
    fs::write(cluster.home().join("tokens"), format!("{line}\n")).unwrap();
    let sign_in = async |token: &str| {
        let request = http.post(format!("{url}/sign-in")).header("sec-fetch-site", "same-origin");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(format!("token={token}")).send().await.unwrap()
    };
    assert_eq!(sign_in("bsm_guess").await.status(), 401);
    let cookie = wait_for("a token that is known", PATIENCE, async || {
        let answer = sign_in(&reader).await;
        let cookie = answer.headers().get("set-cookie");
        cookie.map(|it| it.to_str().unwrap().to_owned()).ok_or_else(|| answer.status().to_string())
    })
    .await
    .unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert!(cookie.contains("; Secure"), "{cookie}");
    let pair = cookie.split(';').next().unwrap();
    let page = http.get(format!("{url}/nodes/n")).header("cookie", pair).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let text = page.text().await.unwrap();
    assert!(!text.contains("What can be done"), "readers are offered nothing");
    let post = http.post(format!("{url}/nodes/n/manage")).header("cookie", pair);
    let post = post.header("sec-fetch-site", "same-origin").send().await.unwrap();
    assert_eq!(post.status(), 403);
}

fn browser(transport: &Transport) -> reqwest::Client {
    let tls = transport.http_client().unwrap();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    client.timeout(PATIENCE).tls_backend_preconfigured(tls).build().unwrap()
}

/// A route that somebody adds and forgets in the table is found here; it would be refused to everybody.
#[test]
fn the_tables_hold_every_route() {
    for (source, table) in [
        (include_str!("../../../../services/api/src/rest/mod.rs"), REST_ROUTES),
        (include_str!("../../../../services/api/src/dashboard/mod.rs"), DASHBOARD_ROUTES),
    ] {
        let methods = ["get(", "post(", "put(", "patch(", "delete("];
        let mut count = 0;
        for route in source.split(".route(").skip(1) {
            let end = route.find(".route(").unwrap_or(route.len());
            let route = route[..end].split("Router::new()").next().unwrap();
            let route = route.split(".fallback(").next().unwrap();
            for method in methods {
                let word =
                    |before: char| !before.is_alphanumeric() && before != '_' && before != ':';
                count += route
                    .match_indices(method)
                    .filter(|(at, _)| route[..*at].chars().next_back().is_some_and(word))
                    .count();
            }
        }
        assert_eq!(count, table.len(), "routes in the source, and rows of the table");
    }
}

fn issue(arguments: &[&str]) -> (String, String) {
    let mut command = std::process::Command::new(binary("bessemer"));
    let output = command.args(["-o", "json", "token", "issue"]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let issued: Value = serde_json::from_slice(&output.stdout).unwrap();
    (issued["token"].as_str().unwrap().to_owned(), issued["line"].as_str().unwrap().to_owned())
}

/// Runs the command with a token in a file, and without a certificate.
fn bessemer(cluster: &Cluster, token: &str, arguments: &[&str]) -> Output {
    let path = cluster.home().join("token-of-somebody");
    fs::write(&path, token).unwrap();
    let mut command = std::process::Command::new(binary("bessemer"));
    command.arg("--api").arg(&cluster.api_urls()[0]);
    command.arg("--ca-file").arg(cluster.pki.as_ref().unwrap().ca_file());
    command.arg("--token-file").arg(path).args(arguments);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn people_come_with_tokens_for_as_long_as_their_lines_are_there() {
    let cluster = Cluster::start(&Options { conductors: 1, ..alone() }).await.unwrap();
    let tokens = cluster.home().join("tokens");
    let (reader, reader_line) = issue(&["rita", "--role", "reader"]);
    let (operator, operator_line) = issue(&["oscar", "--role", "operator"]);
    let (late, late_line) = issue(&["lena", "--role", "admin", "--valid-for", "0s"]);
    fs::write(&tokens, format!("{reader_line}\n{operator_line}\n{late_line}\n")).unwrap();

    let create = |name: &str| {
        format!("node create --name {name} --driver fake").split(' ').map(str::to_owned).collect()
    };
    let run = |token: &str, arguments: Vec<String>| {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        bessemer(&cluster, token, &arguments)
    };
    wait_for("the new tokens", PATIENCE, async || {
        let output = run(&operator, create("made"));
        if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
    })
    .await
    .unwrap();
    let actor = cluster.events("made").await.unwrap()[0].actor.clone();
    assert_eq!(actor, "oscar");
    assert!(bessemer(&cluster, &reader, &["node", "list"]).status.success());
    let refused = |output: Output, reason: &str| {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(reason), "{text}");
    };
    refused(run(&reader, create("more")), "reader rita may not call");
    refused(run(&late, create("more")), "has expired");
    refused(run("bsm_guess", create("more")), "is not in this service's token_file");
    // A secret is neither shown nor sent where others can read it.
    let path = cluster.home().join("token-of-somebody");
    let mut plain = std::process::Command::new(binary("bessemer"));
    plain.args(["--api", "http://127.0.0.1:1", "node", "list", "--token-file"]).arg(path);
    refused(plain.output().unwrap(), "not sent in the clear");

    fs::write(&tokens, format!("{reader_line}\n")).unwrap();
    wait_for("a token that is taken back", PATIENCE, async || {
        let output = run(&operator, create("again"));
        if output.status.success() { Err("still good".to_owned()) } else { Ok(()) }
    })
    .await
    .unwrap();

    // Ironic's clients show theirs in a header of their own.
    let rest = cluster.rest_url(1).unwrap();
    let tls = nobody(&cluster).http_client().unwrap();
    let http = reqwest::Client::builder().tls_backend_preconfigured(tls).build().unwrap();
    let nodes = http.get(format!("{rest}/v1/nodes")).header("x-auth-token", &reader);
    let answer = nodes.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    assert!(text.contains("https://"), "{text}");
    let delete = http.delete(format!("{rest}/v1/nodes/made")).header("x-auth-token", &reader);
    let answer = delete.send().await.unwrap();
    assert_eq!(answer.status(), 403);
    let text = answer.text().await.unwrap();
    assert!(text.contains("reader rita may not call DELETE /v1/nodes/{node}"), "{text}");
}

/// An owner works with its nodes, a lessee uses them, and neither sees those of others.
#[tokio::test(flavor = "multi_thread")]
async fn people_of_a_project_see_its_nodes_alone() {
    let cluster = Cluster::start(&Options { conductors: 1, ..alone() }).await.unwrap();
    for (name, change) in [("owned", "owner"), ("leased", "lessee"), ("foreign", "description")] {
        let output =
            cluster.bessemer(&[1], &["node", "create", "--name", name, "--driver", "fake"]);
        assert!(output.unwrap().status.success());
        let change = format!("--{change}");
        let output = cluster.bessemer(&[1], &["node", "set", name, &change, "team-a"]).unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let pki = cluster.pki.as_ref().unwrap();
    let config = pki.issue("operator", "bob", &["--project", "team-a"]).unwrap();
    let bob = Client::over(&config.client(None).unwrap(), cluster.api_urls()).unwrap();
    let bob = bob.with_deadline(PATIENCE);

    let seen = bob.list_nodes(ListNodesRequest::default()).await.unwrap().nodes;
    let mut names: Vec<_> = seen.into_iter().map(|node| node.metadata.unwrap().name).collect();
    names.sort();
    assert_eq!(names, ["leased", "owned"]);
    let get = |node: &str| GetNodeRequest { node: node.into(), ..GetNodeRequest::default() };
    bob.get_node(get("leased")).await.unwrap();
    let error = bob.get_node(get("foreign")).await.unwrap_err();
    assert_eq!(error.reason(), Some("NODE_NOT_FOUND"), "not even that it is there is told");
    for node in ["owned", "leased"] {
        bob.manage_node(verb(node)).await.unwrap();
    }
    let error = bob.manage_node(verb("foreign")).await.unwrap_err();
    assert_eq!(error.reason(), Some("NODE_NOT_FOUND"), "{error}");

    let set = |node: &str, field: &str| UpdateNodeRequest {
        node: node.into(),
        update_mask: Some(prost_types::FieldMask { paths: vec![format!("spec.{field}")] }),
        spec: Some(bessemer_proto::v1::NodeSpec {
            description: "mine".into(),
            owner: "team-b".into(),
            ..Default::default()
        }),
        ..UpdateNodeRequest::default()
    };
    bob.update_node(set("owned", "description")).await.unwrap();
    for (node, field) in [("leased", "description"), ("owned", "owner")] {
        let error = bob.update_node(set(node, field)).await.unwrap_err();
        assert_eq!(error.reason(), Some("PERMISSION_DENIED"), "{node} {field}: {error}");
    }
}
