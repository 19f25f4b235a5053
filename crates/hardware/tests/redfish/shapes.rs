//! What vendors make of the schemas.

use bessemer_hardware::redfish::Redfish;
use bessemer_hardware::{Bmc, BootDevice, NetworkProtocol, unclaimed};
use serde_json::{Value, json};

use crate::server::{CD, ISO, SYSTEM, Server, drive};

const INSERT: &str = "POST /redfish/v1/Systems/1/VirtualMedia/Cd/Actions/VirtualMedia.InsertMedia";
const EJECT: &str = "POST /redfish/v1/Systems/1/VirtualMedia/Cd/Actions/VirtualMedia.EjectMedia";

async fn boot(server: &Server, device: BootDevice) {
    server.machine().set_boot_device(device, &unclaimed).await.unwrap();
}

fn boot_patches(server: &Server) -> Vec<Value> {
    let orders = server.orders();
    let patches =
        orders.iter().filter_map(|order| order.strip_prefix("PATCH /redfish/v1/Systems/1 "));
    patches.map(|body| serde_json::from_str::<Value>(body).unwrap()["Boot"].clone()).collect()
}

#[tokio::test]
async fn a_usual_machine_boots_the_ramdisk_once_and_the_disk_from_then_on() {
    let server = Server::start().await;
    boot(&server, BootDevice::Ramdisk).await;
    assert_eq!(server.shows(CD, "/Image"), ISO);
    boot(&server, BootDevice::Disk).await;
    assert_eq!(server.shows(CD, "/Inserted"), false);
    let expected = [
        json!({"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"}),
        json!({"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Continuous"}),
    ];
    assert_eq!(boot_patches(&server), expected);
}

#[tokio::test]
async fn a_machine_boots_from_the_network_with_nothing_in_its_drives() {
    let network = |protocol, lasting| BootDevice::Network { protocol, lasting };
    let server = Server::start().await;
    boot(&server, BootDevice::Ramdisk).await;
    boot(&server, network(NetworkProtocol::Pxe, false)).await;
    assert_eq!(server.shows(CD, "/Inserted"), false);
    boot(&server, network(NetworkProtocol::Pxe, true)).await;
    let http = network(NetworkProtocol::UefiHttp, false);
    let error = server.machine().set_boot_device(http, &unclaimed).await.unwrap_err();
    assert!(
        error.to_string().contains("no BootSourceOverrideTarget UefiHttp is allowed"),
        "{error}"
    );
    let allowed = "/Boot/BootSourceOverrideTarget@Redfish.AllowableValues";
    server.bend(SYSTEM, allowed, json!(["Pxe", "UefiHttp"]));
    boot(&server, http).await;
    let expected = [
        json!({"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"}),
        json!({"BootSourceOverrideTarget": "Pxe"}),
        json!({"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Continuous"}),
        json!({"BootSourceOverrideTarget": "UefiHttp", "BootSourceOverrideEnabled": "Once"}),
    ];
    assert_eq!(boot_patches(&server), expected);
}

#[tokio::test]
async fn media_may_be_the_managers_and_drives_be_slow() {
    let server = Server::start().await;
    let (floppy, cd) =
        ("/redfish/v1/Managers/1/VirtualMedia/1", "/redfish/v1/Managers/1/VirtualMedia/2");
    let link = |path: &str| json!({"@odata.id": path});
    server.bend(SYSTEM, "/VirtualMedia", Value::Null);
    server.bend(
        "/redfish/v1/Managers/1",
        "/VirtualMedia",
        link("/redfish/v1/Managers/1/VirtualMedia"),
    );
    server.bend("/redfish/v1/Managers/1/VirtualMedia", "/Members", json!([link(floppy), link(cd)]));
    server.bend(floppy, "/MediaTypes", json!(["Floppy", "USBStick"]));
    server.insides().resources.insert(cd.to_owned(), drive(cd));
    server.insides().looks_until_shown = 2;
    boot(&server, BootDevice::Ramdisk).await;
    assert_eq!(server.shows(cd, "/Image"), ISO);
    boot(&server, BootDevice::Disk).await;
    assert_eq!(server.shows(cd, "/Image"), "");
}

#[tokio::test]
async fn another_medium_goes_first_and_the_right_one_stays() {
    let server = Server::start().await;
    server.bend(CD, "/Image", json!("http://elsewhere/other.iso"));
    server.bend(CD, "/Inserted", json!(true));
    boot(&server, BootDevice::Ramdisk).await;
    boot(&server, BootDevice::Ramdisk).await;
    let orders = server.orders();
    let media: Vec<_> = orders.iter().filter(|order| order.contains("Media ")).collect();
    assert_eq!(media.len(), 2, "{orders:?}");
    assert!(media[0].starts_with(EJECT) && media[1].starts_with(INSERT), "{orders:?}");
}

#[tokio::test]
async fn a_machine_without_a_drive_for_cds_says_so_and_boots_its_disk() {
    let server = Server::start().await;
    server.bend(CD, "/MediaTypes", json!(["USBStick"]));
    let machine = server.machine();
    let error = machine.set_boot_device(BootDevice::Ramdisk, &unclaimed).await.unwrap_err();
    assert!(!error.is_retryable());
    let expected = format!(
        "BMC {}: GET {SYSTEM}: neither the system nor its managers have a virtual drive for CDs",
        server.address
    );
    assert_eq!(error.to_string(), expected);
    boot(&server, BootDevice::Disk).await;
}

#[tokio::test]
async fn parameters_of_an_insertion_are_the_ones_that_the_bmc_wants() {
    let server = Server::start().await;
    server.insides().insert_needs = vec!["TransferProtocolType", "TransferMethod"];
    server.insides().insert_refuses = vec!["WriteProtected", "Inserted"];
    boot(&server, BootDevice::Ramdisk).await;
    let orders = server.orders();
    let last = orders.iter().rfind(|order| order.starts_with(INSERT)).unwrap();
    let body: Value = serde_json::from_str(last.strip_prefix(INSERT).unwrap()).unwrap();
    let expected =
        json!({"Image": ISO, "TransferProtocolType": "HTTP", "TransferMethod": "Stream"});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_drive_without_actions_is_patched() {
    let server = Server::start().await;
    server.bend(CD, "/Actions", Value::Null);
    server.bend(CD, "/Inserted", Value::Null);
    boot(&server, BootDevice::Ramdisk).await;
    assert_eq!(server.shows(CD, "/Image"), ISO);
    boot(&server, BootDevice::Disk).await;
    assert_eq!(server.shows(CD, "/Image"), Value::Null);
}

#[tokio::test]
async fn supermicro_has_its_cd_on_usb_and_wants_all_settings_each_time() {
    let server = Server::start().await;
    server.bend(SYSTEM, "/Manufacturer", json!("Super Micro / Supermicro"));
    server.bend(SYSTEM, "/Boot/BootSourceOverrideEnabled", json!("Once"));
    let allowed = "/Boot/BootSourceOverrideTarget@Redfish.AllowableValues";
    server.bend(SYSTEM, allowed, json!(["None", "Cd", "UsbCd", "Hdd"]));
    boot(&server, BootDevice::Ramdisk).await;
    let expected = json!({
        "BootSourceOverrideTarget": "UsbCd", "BootSourceOverrideEnabled": "Once",
        "BootSourceOverrideMode": "UEFI",
    });
    assert_eq!(boot_patches(&server), [expected]);
}

#[tokio::test]
async fn a_machine_in_legacy_mode_is_set_to_uefi() {
    let server = Server::start().await;
    server.bend(SYSTEM, "/Boot/BootSourceOverrideMode", json!("Legacy"));
    boot(&server, BootDevice::Disk).await;
    assert_eq!(server.shows(SYSTEM, "/Boot/BootSourceOverrideMode"), "UEFI");
}

#[tokio::test]
async fn etags_are_sent_back_in_the_form_that_the_bmc_takes() {
    for (given, wanted) in [
        (Some("\"7\""), "\"7\""),
        (Some("W/\"7\""), "W/\"7\""),
        (Some("W/\"7\""), "\"7\""),
        (None, "*"),
    ] {
        let server = Server::start().await;
        server.bend(SYSTEM, "/@odata.etag", json!(given));
        server.insides().if_match = Some(wanted);
        boot(&server, BootDevice::Disk).await;
        assert_eq!(server.shows(SYSTEM, "/Boot/BootSourceOverrideTarget"), "Hdd", "{given:?}");
    }
}

#[tokio::test]
async fn changes_for_the_next_boot_go_where_the_bmc_takes_them() {
    let server = Server::start().await;
    let settings = "/redfish/v1/Systems/1/Settings";
    server.bend(settings, "/Boot", json!({"BootSourceOverrideTarget": "None"}));
    let link = json!({"SettingsObject": {"@odata.id": settings}});
    server.bend(SYSTEM, "/@Redfish.Settings", link);
    boot(&server, BootDevice::Disk).await;
    assert_eq!(server.shows(settings, "/Boot/BootSourceOverrideTarget"), "Hdd");
    assert_eq!(server.shows(SYSTEM, "/Boot/BootSourceOverrideTarget"), "None");
}

#[tokio::test]
async fn a_bmc_that_knows_no_continuous_override_boots_the_disk_once() {
    let server = Server::start().await;
    server.fail("PATCH /redfish/v1/Systems/1", 400, "Continuous is not supported");
    boot(&server, BootDevice::Disk).await;
    assert_eq!(server.shows(SYSTEM, "/Boot/BootSourceOverrideEnabled"), "Once");
}

#[tokio::test]
async fn the_kind_of_reset_is_one_that_the_bmc_allows() {
    const ALLOWED: &str = "/Actions/#ComputerSystem.Reset/ResetType@Redfish.AllowableValues";
    let server = Server::start().await;
    server.bend(SYSTEM, ALLOWED, json!(["ForceOn", "PushPowerButton"]));
    server.machine().power_on(&unclaimed).await.unwrap();
    let error = server.machine().power_off(&unclaimed).await.unwrap_err();
    assert!(!error.is_retryable());
    let expected = format!(
        "BMC {}: GET {SYSTEM}: no ResetType ForceOff is allowed, only: ForceOn, PushPowerButton",
        server.address
    );
    assert_eq!(error.to_string(), expected);
    // One that does not say is taken at its word.
    server.bend(SYSTEM, ALLOWED, Value::Null);
    server.machine().power_off(&unclaimed).await.unwrap();
    assert_eq!(server.shows(SYSTEM, "/PowerState"), "Off");
}

#[tokio::test]
async fn of_several_systems_one_must_be_named() {
    let server = Server::start().await;
    let link = |path: &str| json!({"@odata.id": path});
    server.bend(
        "/redfish/v1/Systems",
        "/Members",
        json!([link(SYSTEM), link("/redfish/v1/Systems/2")]),
    );
    let error = server.machine().is_on().await.unwrap_err();
    assert!(!error.is_retryable());
    let listed = "names none: /redfish/v1/Systems/1, /redfish/v1/Systems/2";
    assert!(error.to_string().ends_with(listed), "{error}");

    let redfish = Redfish::default();
    let named = server.machine_with(&redfish, json!({"redfish_system_id": SYSTEM}));
    assert!(!named.is_on().await.unwrap());
    let wrong =
        server.machine_with(&redfish, json!({"redfish_system_id": "/redfish/v1/Systems/9"}));
    let error = wrong.is_on().await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("there is no system /redfish/v1/Systems/9"), "{error}");
}
