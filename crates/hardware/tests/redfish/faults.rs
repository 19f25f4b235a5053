//! What goes wrong with BMCs: each fault leads to success in another attempt, or to an error that names the BMC, the
//! request and the answer.

use bessemer_hardware::redfish::Redfish;
use bessemer_hardware::{Bmc, BootDevice, unclaimed};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::server::{CD, ISO, SYSTEM, Server, persist, refusal};

const RESET: &str = "POST /redfish/v1/Systems/1/Actions/ComputerSystem.Reset";

fn login() -> Value {
    json!({"redfish_username": "admin", "redfish_password": "secret"})
}

#[tokio::test]
async fn a_bmc_that_is_busy_is_asked_again() {
    let server = Server::start().await;
    server.fail("GET /redfish/v1/Systems/1", 500, "");
    server.fail(RESET, 503, &refusal("the BMC is starting"));
    server.fail(RESET, 429, "");
    server.fail(RESET, 409, &refusal("another operation is running"));
    let machine = server.machine();
    let (done, passing) = persist(async || machine.power_on(&unclaimed).await).await;
    done.unwrap();
    let bmc = &server.address;
    assert_eq!(
        passing,
        [
            format!("BMC {bmc}: GET {SYSTEM}: 500 Internal Server Error"),
            format!("BMC {bmc}: {RESET}: 503 Service Unavailable: the BMC is starting"),
            format!("BMC {bmc}: {RESET}: 429 Too Many Requests"),
            format!("BMC {bmc}: {RESET}: 409 Conflict: another operation is running"),
        ]
    );
}

#[tokio::test]
async fn every_request_of_a_boot_may_fail_once() {
    let server = Server::start().await;
    server.bend(CD, "/Inserted", json!(true));
    server.bend(CD, "/Image", json!("http://elsewhere/other.iso"));
    for line in ["POST", "GET /redfish/v1/Systems/1/V", "POST", "PATCH", "GET /redfish/v1/"] {
        server.fail(line, 502, "");
    }
    let machine = server.machine();
    let (done, passing) =
        persist(async || machine.set_boot_device(BootDevice::Ramdisk, &unclaimed).await).await;
    done.unwrap();
    assert_eq!(passing.len(), 5, "{passing:?}");
    assert_eq!(server.shows(CD, "/Image"), ISO);
    assert_eq!(server.shows(SYSTEM, "/Boot/BootSourceOverrideTarget"), "Cd");
}

#[tokio::test]
async fn a_refused_order_that_is_moot_is_a_success() {
    let server = Server::start().await;
    // Somebody presses the button between our look and our order.
    server.fail(RESET, 400, &refusal("the system is on already"));
    let machine = server.machine();
    let race = || -> futures::future::BoxFuture<'_, ()> {
        server.bend(SYSTEM, "/PowerState", json!("On"));
        unclaimed()
    };
    machine.power_on(&race).await.unwrap();
    server.fail(RESET, 400, &refusal("never"));
    let error = machine.power_off(&unclaimed).await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(error.to_string().ends_with(": 400 Bad Request: never"), "{error}");
}

#[tokio::test]
async fn a_power_supply_that_is_stuck_is_an_error_although_the_bmc_took_the_order() {
    let server = Server::start().await;
    server.insides().is_stuck = true;
    let error = server.machine().power_on(&unclaimed).await.unwrap_err();
    assert!(error.is_retryable());
    let bmc = &server.address;
    let expected = format!("BMC {bmc}: {RESET}: accepted, but 60 s later PowerState is not On");
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn what_is_missing_may_come_and_what_is_wrong_stays() {
    let server = Server::start().await;
    let machine = server.machine();
    let bmc = server.address.clone();
    server.bend(SYSTEM, "/PowerState", Value::Null);
    let error = machine.is_on().await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(
        error.to_string(),
        format!("BMC {bmc}: GET {SYSTEM}: the answer has no `PowerState`")
    );

    server.bend(SYSTEM, "/PowerState", json!({"Value": 1}));
    let error = machine.is_on().await.unwrap_err();
    assert!(!error.is_retryable());
    let expected = "`PowerState` of the answer is {\"Value\":1}, not text";
    assert_eq!(error.to_string(), format!("BMC {bmc}: GET {SYSTEM}: {expected}"));

    server.bend(SYSTEM, "/PowerState", json!("Off"));
    server.bend(SYSTEM, "/Actions", json!({}));
    let error = machine.power_on(&unclaimed).await.unwrap_err();
    assert!(
        error.to_string().ends_with("has no `Actions.#ComputerSystem.Reset.target`"),
        "{error}"
    );

    server.bend("/redfish/v1/Systems", "/Members", json!([]));
    let error = machine.is_on().await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().ends_with("there is no system"), "{error}");

    server.fail("GET", 200, "<html>starting</html>");
    let error = machine.is_on().await.unwrap_err();
    assert!(error.is_retryable());
    let expected = "GET /redfish/v1/: 200 OK, but no JSON object: <html>starting</html>";
    assert_eq!(error.to_string(), format!("BMC {bmc}: {expected}"));

    server.fail("GET", 200, &"x".repeat(5 * 1024 * 1024));
    let error = machine.is_on().await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(error.to_string().ends_with("an answer of more than 4194304 bytes"), "{error}");
}

#[tokio::test]
async fn a_bmc_that_is_gone_may_come_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let info = json!({"redfish_address": address});
    Server::start().await;
    let machine = Redfish::default().machine(info.as_object().unwrap()).unwrap();
    let error = machine.is_on().await.unwrap_err();
    assert!(error.is_retryable());
    let error = error.to_string();
    assert!(error.starts_with(&format!("BMC {address}: GET /redfish/v1/: ")), "{error}");
    assert!(error.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_session_is_used_again_and_renewed_when_the_bmc_has_lost_it() {
    let server = Server::start().await;
    server.insides().has_login = true;
    let redfish = Redfish::default();
    for _ in 0..3 {
        server.machine_with(&redfish, login()).is_on().await.unwrap();
    }
    assert_eq!(server.insides().logins, 1);
    server.insides().token = None;
    server.machine_with(&redfish, login()).power_on(&unclaimed).await.unwrap();
    assert_eq!(server.insides().logins, 2);
}

#[tokio::test]
async fn without_sessions_there_is_basic_authentication_unless_forbidden() {
    let server = Server::start().await;
    server.insides().has_login = true;
    let sessions = "POST /redfish/v1/SessionService/Sessions";
    let redfish = Redfish::default();
    server.fail(sessions, 503, &refusal("there are too many sessions"));
    server.machine_with(&redfish, login()).is_on().await.unwrap();
    server.machine_with(&redfish, login()).is_on().await.unwrap();
    assert_eq!(server.orders().len(), 1, "it is not tried again");

    server.fail(sessions, 503, &refusal("there are too many sessions"));
    let mut only_sessions = login();
    only_sessions["redfish_auth_type"] = json!("session");
    let error = server.machine_with(&redfish, only_sessions).is_on().await.unwrap_err();
    assert!(error.is_retryable());
    assert!(error.to_string().ends_with("Unavailable: there are too many sessions"), "{error}");

    let mut only_basic = login();
    only_basic["redfish_auth_type"] = json!("basic");
    server.machine_with(&redfish, only_basic).is_on().await.unwrap();
    assert_eq!(server.insides().logins, 0);
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_and_shown_never() {
    let server = Server::start().await;
    server.insides().has_login = true;
    let info = json!({"redfish_username": "admin", "redfish_password": "hunter2"});
    let redfish = Redfish::default();
    let machine = server.machine_with(&redfish, info);
    let error = machine.is_on().await.unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(server.orders().len(), 1);
    let shown = format!("{error} {error:?} {machine:?} {redfish:?}");
    assert!(shown.contains("): wrong password \"******\""), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_bmc_that_repeats_the_isos_token_does_not_spread_it() {
    let server = Server::start().await;
    server.fail("POST", 400, &refusal(&format!("cannot fetch {ISO}")));
    let machine = server.machine();
    let error = machine.set_boot_device(BootDevice::Ramdisk, &unclaimed).await.unwrap_err();
    let shown = format!("{error} {error:?} {machine:?}");
    assert!(!shown.contains("s3same"), "{shown}");
    assert!(shown.contains("cannot fetch http://images.example/deploy.iso?******"), "{shown}");
}

#[tokio::test]
async fn an_iso_that_nobody_named_is_missing_by_name() {
    let server = Server::start().await;
    let machine = server.machine_with(&Redfish::default(), json!({}));
    let error = machine.set_boot_device(BootDevice::Ramdisk, &unclaimed).await.unwrap_err();
    assert!(!error.is_retryable());
    let expected = "driver_info.deploy_iso is missing, and so is deploy_iso in [redfish] of the conductor's configuration";
    assert_eq!(error.to_string(), expected);
    assert!(server.orders().is_empty());
    // The node's own comes before the conductor's.
    let redfish = Redfish::new(Some("http://images.example/site.iso".to_owned()));
    let machine = server.machine_with(&redfish, json!({"deploy_iso": ISO}));
    machine.set_boot_device(BootDevice::Ramdisk, &unclaimed).await.unwrap();
    assert_eq!(server.shows(CD, "/Image"), ISO);
}

#[tokio::test]
async fn a_token_does_not_follow_to_another_server() {
    let other = Server::start().await;
    let server = Server::start().await;
    server.insides().has_login = true;
    server.insides().redirect = Some(other.address.clone());
    let error = server.machine_with(&Redfish::default(), login()).is_on().await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("307 Temporary Redirect"), "{error}");
    assert!(other.insides().requests.is_empty());

    let server = Server::start().await;
    let elsewhere = json!({"@odata.id": format!("{}/redfish/v1/Systems", other.address)});
    server.bend("/redfish/v1/", "/Systems", elsewhere);
    let error = server.machine().is_on().await.unwrap_err();
    assert!(error.to_string().ends_with("the path leads to another server"), "{error}");
    assert!(other.insides().requests.is_empty());
}
