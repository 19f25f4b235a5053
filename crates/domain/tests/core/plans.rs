//! Which steps a deployment goes through: a function of the request, and of nothing else.

use bessemer_domain::command::ProvisionVerb;
use bessemer_domain::ids::PlanId;
use bessemer_domain::node::{
    BootInterface, BootcOptions, ConfigDrive, DeployInterface, DeploymentSpec, DiskFormat,
    FieldChange, ImageSpec, KernelAndRamdisk, Plan, PowerState, ProvisionState, RequestedStep,
    Step, StepReport,
};
use bessemer_domain::{CommandBody, Rejection};
use serde_json::json;
use uuid::Uuid;

use crate::world::{
    World, bootc, custom_agent, deployment, node_id, plugin_step, ramdisk, raw_over_http, requested,
};

fn plan(spec: &DeploymentSpec) -> Plan {
    Plan::deploy(PlanId::new(Uuid::from_u128(1)), spec)
}

/// Names and priorities, in order.
fn steps(spec: &DeploymentSpec) -> Vec<String> {
    let steps = plan(spec).steps;
    steps.iter().map(|it| format!("{} {}", it.step.name(), it.priority())).collect()
}

fn with_steps(steps: Vec<RequestedStep>) -> DeploymentSpec {
    DeploymentSpec { deploy_steps: steps, ..deployment() }
}

fn with_drive(spec: DeploymentSpec) -> DeploymentSpec {
    let drive = ConfigDrive {
        meta_data: serde_json::Map::new(),
        network_data: None,
        user_data: None,
        vendor_data: None,
    };
    DeploymentSpec { config_drive: Some(drive), ..spec }
}

#[test]
fn each_interface_has_its_steps() {
    let direct = [
        "prepare_image 300",
        "deploy 100",
        "write_image 80",
        "prepare_instance_boot 60",
        "tear_down_agent 40",
        "boot_instance 20",
    ];
    assert_eq!(steps(&deployment()), direct);
    assert_eq!(steps(&raw_over_http()), direct[1..]);
    let custom = [
        "deploy 100",
        "burn_in 95",
        "write_raw 80",
        "write_configdrive 70",
        "prepare_instance_boot 60",
        "tear_down_agent 40",
        "boot_instance 20",
    ];
    assert_eq!(steps(&with_drive(custom_agent())), custom);
    assert_eq!(steps(&ramdisk()), ["boot_ramdisk 100"]);
    let contained = [
        "pin_container 300",
        "deploy 100",
        "execute_bootc_install 80",
        "write_configdrive 70",
        "prepare_instance_boot 60",
        "tear_down_agent 40",
        "boot_instance 20",
    ];
    assert_eq!(steps(&with_drive(bootc())), contained);
    let ansible = DeploymentSpec { deploy_interface: DeployInterface::Ansible, ..deployment() };
    let played = direct.map(|step| step.replace("write_image", "run_playbook"));
    assert_eq!(steps(&ansible), played);
    let no_image = DeploymentSpec { image: None, ..ansible };
    assert_eq!(no_image.check(), Ok(()));
    assert_eq!(steps(&no_image), played[1..]);
}

#[test]
fn an_operators_steps_come_among_the_interfaces_own() {
    let spec = with_steps(vec![
        requested("after_boot_setup", 41),
        requested("beside_the_write", 80),
        requested("first", 99),
        requested("prepare_instance_boot", 90),
    ]);
    let expected = [
        "prepare_image 300",
        "deploy 100",
        "first 99",
        "prepare_instance_boot 90",
        "write_image 80",
        "beside_the_write 80",
        "after_boot_setup 41",
        "tear_down_agent 40",
        "boot_instance 20",
    ];
    assert_eq!(steps(&spec), expected);
}

#[test]
fn priority_0_leaves_a_step_out() {
    let left_out = ["write_image", "write_configdrive", "prepare_instance_boot", "boot_instance"];
    let spec = with_drive(with_steps(left_out.map(|step| requested(step, 0)).to_vec()));
    // Without a write there is nothing to prepare.
    assert_eq!(steps(&spec), ["deploy 100", "tear_down_agent 40"]);
}

#[test]
fn what_cannot_be_is_refused_by_its_place() {
    let large = json!({"blob": "x".repeat(70_000)}).as_object().unwrap().clone();
    let args = json!({"a": 1}).as_object().unwrap().clone();
    let cases = [
        (vec![requested("burn_in", 40)], "deploy_steps[0].priority", "between 41 and 99"),
        (vec![requested("burn_in", 100)], "deploy_steps[0].priority", "between 41 and 99"),
        (vec![requested("burn_in", 0)], "deploy_steps[0].priority", "between 41 and 99"),
        (vec![requested("write_image", 40)], "deploy_steps[0].priority", "must be 0"),
        (vec![requested("boot_instance", 30)], "deploy_steps[0].priority", "cannot be moved"),
        (vec![requested("deploy", 0)], "deploy_steps[0].step", "neither moved nor left out"),
        (vec![requested("tear_down_agent", 0)], "deploy_steps[0].step", "neither moved"),
        (vec![requested("a b", 90)], "deploy_steps[0].step", "is not a name of a step"),
        (vec![requested("../x", 90)], "deploy_steps[0].step", "is not a name of a step"),
        (vec![requested("", 90)], "deploy_steps[0].step", "is not a name of a step"),
        (vec![requested("a", 90), requested("a", 91)], "deploy_steps[1].step", "is there twice"),
        (
            vec![RequestedStep { args: large, ..requested("a", 90) }],
            "deploy_steps[0].args",
            "are larger than 65536 bytes",
        ),
        (
            vec![RequestedStep { args, ..requested("write_image", 90) }],
            "deploy_steps[0].args",
            "takes none",
        ),
        (
            vec![RequestedStep { limit_seconds: Some(0), ..requested("a", 90) }],
            "deploy_steps[0].limit_seconds",
            "is not between 1 and 604800",
        ),
    ];
    for (steps, field, reason) in cases {
        let invalid = with_steps(steps).check().unwrap_err();
        assert_eq!(invalid.field, field, "{invalid}");
        assert!(invalid.reason.contains(reason), "{invalid}");
    }
    let many = (0..65).map(|number| requested(&format!("a{number}"), 90)).collect();
    assert_eq!(with_steps(many).check().unwrap_err().field, "deploy_steps");
}

#[test]
fn each_interface_wants_what_it_needs() {
    let no_image = DeploymentSpec { image: None, ..deployment() };
    assert_eq!(no_image.check().unwrap_err().field, "image");
    // The image is what the steps are told; it need not be one that this cluster could write.
    let told = DeploymentSpec { image: deployment().image, ..custom_agent() };
    assert_eq!(told.check(), Ok(()));
    let idle = DeploymentSpec { deploy_steps: Vec::new(), ..custom_agent() };
    assert_eq!(idle.check().unwrap_err().field, "deploy_steps");
    let divided = DeploymentSpec { partitions: Some(Default::default()), ..custom_agent() };
    assert_eq!(divided.check().unwrap_err().field, "partitions");

    let boot_iso = || Some("http://images/live.iso".to_owned());
    assert_eq!(ramdisk().check(), Ok(()));
    // Beside the ISO; the steps are the same.
    assert_eq!(with_drive(ramdisk()).check(), Ok(()));
    assert_eq!(steps(&with_drive(ramdisk())), ["boot_ramdisk 100"]);
    let boots = |kernel: &str| {
        let (kernel, ramdisk) = (kernel.to_owned(), "http://images/initrd".to_owned());
        Some(KernelAndRamdisk { kernel, ramdisk, arguments: Default::default() })
    };
    let from_kernel = || DeploymentSpec {
        boot_iso: None,
        network_boot: boots("http://images/kernel"),
        ..ramdisk()
    };
    assert_eq!(from_kernel().check(), Ok(()));
    assert_eq!(from_kernel().check_bootable_by(BootInterface::Ipxe), Ok(()));
    assert_eq!(ramdisk().check_bootable_by(BootInterface::RedfishVirtualMedia), Ok(()));
    for boot in [BootInterface::Ipxe, BootInterface::Http] {
        assert_eq!(ramdisk().check_bootable_by(boot).unwrap_err().field, "boot_iso");
        assert_eq!(deployment().check_bootable_by(boot), Ok(()));
    }
    for boot in [BootInterface::RedfishVirtualMedia, BootInterface::Http] {
        assert_eq!(from_kernel().check_bootable_by(boot).unwrap_err().field, "kernel");
    }
    let autodetected =
        DeploymentSpec { deploy_interface: DeployInterface::Autodetect, ..from_kernel() };
    assert_eq!(autodetected.detected().deploy_interface, DeployInterface::Ramdisk);
    let refused = [
        (DeploymentSpec { network_boot: boots("http://a/k"), ..ramdisk() }, "kernel"),
        (DeploymentSpec { network_boot: boots("http://a/k"), ..deployment() }, "kernel"),
        (DeploymentSpec { network_boot: boots("http://a/ k"), ..from_kernel() }, "kernel"),
        (DeploymentSpec { network_boot: boots("http://a/${k}"), ..from_kernel() }, "kernel"),
        (with_drive(from_kernel()), "config_drive"),
        (DeploymentSpec { boot_iso: None, ..ramdisk() }, "boot_iso"),
        (DeploymentSpec { boot_iso: Some("file:///a.iso".to_owned()), ..ramdisk() }, "boot_iso"),
        (DeploymentSpec { boot_iso: Some("http://".to_owned()), ..ramdisk() }, "boot_iso"),
        (
            DeploymentSpec { boot_iso: Some("http://me:secret@images/a".to_owned()), ..ramdisk() },
            "boot_iso",
        ),
        (DeploymentSpec { image: deployment().image, ..ramdisk() }, "image"),
        (DeploymentSpec { deploy_steps: vec![requested("a", 90)], ..ramdisk() }, "deploy_steps"),
        (DeploymentSpec { boot_iso: boot_iso(), ..deployment() }, "boot_iso"),
        (DeploymentSpec { boot_iso: boot_iso(), ..custom_agent() }, "boot_iso"),
    ];
    for (spec, field) in refused {
        let invalid = spec.check().unwrap_err();
        assert_eq!(invalid.field, field, "{invalid}");
        assert!(!invalid.to_string().contains("secret"), "{invalid}");
    }
}

#[test]
fn a_container_is_in_a_registry_and_nothing_of_a_disk_image_is_told_of_it() {
    assert_eq!(bootc().check(), Ok(()));
    assert_eq!(DeploymentSpec { bootc: None, ..bootc() }.check(), Ok(()));
    let detected = DeploymentSpec { deploy_interface: DeployInterface::Autodetect, ..bootc() };
    assert_eq!(detected.detected(), bootc());
    let keys = |keys: &str| {
        let options = BootcOptions { authorized_keys: keys.to_owned(), tpm2_luks: false };
        DeploymentSpec { bootc: Some(options), ..bootc() }
    };
    let with_format = || {
        let image =
            bootc().image.map(|image| ImageSpec { disk_format: Some(DiskFormat::Raw), ..image });
        DeploymentSpec { image, ..bootc() }
    };
    let refused = [
        (DeploymentSpec { image: None, ..bootc() }, "image"),
        (DeploymentSpec { image: deployment().image, ..bootc() }, "image.source"),
        (with_format(), "image.disk_format"),
        (DeploymentSpec { partitions: Some(Default::default()), ..bootc() }, "partitions"),
        (DeploymentSpec { boot_iso: Some("http://a/b".to_owned()), ..bootc() }, "boot_iso"),
        (DeploymentSpec { bootc: bootc().bootc, ..deployment() }, "bootc"),
        (keys("only-one-word"), "bootc.authorized_keys"),
        (keys(&"ssh-rsa A\n".repeat(10_000)), "bootc.authorized_keys"),
    ];
    for (spec, field) in refused {
        let invalid = spec.check().unwrap_err();
        assert_eq!(invalid.field, field, "{invalid}");
    }
}

#[test]
fn requests_and_nodes_from_before_are_direct() {
    let mut stored = serde_json::to_value(deployment()).unwrap();
    let request: DeploymentSpec = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(request.deploy_interface, DeployInterface::Direct);
    stored["deploy_interface"] = json!("direct");
    assert_eq!(serde_json::from_value::<DeploymentSpec>(stored).unwrap(), deployment());
    let step: Step = serde_json::from_value(json!("write_image")).unwrap();
    assert_eq!(step, Step::WriteImage);
    assert_eq!(serde_json::to_value(Step::WriteImage).unwrap(), json!("write_image"));
    let stored = json!({"plugin": {"step": "burn_in", "priority": 95}});
    assert_eq!(serde_json::to_value(plugin_step("burn_in", 95)).unwrap(), stored);
    assert_eq!(serde_json::from_value::<Step>(stored).unwrap(), plugin_step("burn_in", 95));
}

#[test]
fn a_node_that_chose_no_interface_has_that_of_its_hardware_type() {
    let mut world = World::new();
    assert_eq!(world.node().spec.deploy_interface(), DeployInterface::Direct);
    let mut choose = |to| {
        let changes = vec![FieldChange::DeployInterface(to)];
        world.expect(CommandBody::UpdateNode { node: node_id(), expected_version: None, changes });
        world.node().spec.deploy_interface()
    };
    assert_eq!(choose(Some(DeployInterface::CustomAgent)), DeployInterface::CustomAgent);
    assert_eq!(choose(None), DeployInterface::Direct);
}

fn available() -> World {
    let mut world = World::new();
    world.verb(ProvisionVerb::Manage).unwrap();
    world.settle();
    world.verb(ProvisionVerb::Provide).unwrap();
    world.settle();
    world
}

#[test]
fn a_custom_agent_deploys_by_the_operators_steps_alone() {
    let mut world = available();
    world.verb(ProvisionVerb::Deploy(Box::new(custom_agent()))).unwrap();
    world.begin(plugin_step("write_raw", 80));
    assert_eq!(world.node().provision.state, ProvisionState::WaitCallBack);
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Active);
    assert_eq!(world.node().deployment.as_ref().unwrap().spec, custom_agent());

    world.verb(ProvisionVerb::Rebuild(None)).unwrap();
    world.begin(plugin_step("burn_in", 95));
    let (reason, message) = ("STEP_FAILED".to_owned(), "it smokes".to_owned());
    world.report(StepReport::Failed { reason, message });
    assert_eq!(world.node().provision.state, ProvisionState::DeployFailed);
    assert_eq!(world.node().last_error.as_deref(), Some("it smokes"));
}

#[test]
fn a_ramdisk_is_active_when_the_machine_is_on_and_no_agent_speaks_for_it() {
    let mut world = available();
    world.verb(ProvisionVerb::Deploy(Box::new(ramdisk()))).unwrap();
    world.begin(Step::BootRamdisk);
    assert_eq!(world.node().provision.state, ProvisionState::Deploying);
    let bind = CommandBody::BindAgent {
        node: node_id(),
        token_digest: "ab".repeat(32),
        held_digest: None,
    };
    assert!(matches!(world.send(bind), Err(Rejection::AgentNotExpected { .. })));
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Active);
    assert_eq!(world.node().power.state, Some(PowerState::On));

    world.verb(ProvisionVerb::Rebuild(None)).unwrap();
    world.begin(Step::BootRamdisk);
    world.verb(ProvisionVerb::Abort).unwrap();
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::DeployFailed);
    assert_eq!(world.node().power.state, Some(PowerState::Off));
}

#[test]
fn what_the_hardware_cannot_is_refused_with_what_it_can() {
    for (driver, default) in
        [("fake", "fake"), ("ipmi", "ipxe"), ("redfish", "redfish-virtual-media")]
    {
        assert_eq!(BootInterface::default_of(driver).as_str(), default);
    }
    assert_eq!(BootInterface::Http.check_supported_by("redfish"), Ok(()));
    let invalid = BootInterface::Http.check_supported_by("ipmi").unwrap_err().to_string();
    assert_eq!(
        invalid,
        "boot_interface `http` cannot be had with hardware type `ipmi`, only: ipxe"
    );
    let unknown = "pxe".parse::<BootInterface>().unwrap_err().to_string();
    assert_eq!(unknown, "boot_interface `pxe` is none of: fake, redfish-virtual-media, ipxe, http");
    let unknown = "iscsi".parse::<DeployInterface>().unwrap_err().to_string();
    assert_eq!(
        unknown,
        "deploy_interface `iscsi` is none of: direct, custom-agent, ramdisk, ansible, bootc, noop, autodetect"
    );
}

#[test]
fn a_cleaning_does_the_plugins_steps_too() {
    let mut world = available();
    world.verb(ProvisionVerb::Manage).unwrap();
    let steps = vec![Step::EraseDevices, plugin_step("burn_in", 50)];
    world.verb(ProvisionVerb::Clean(steps)).unwrap();
    let planned = &world.node().plan.as_ref().unwrap().steps;
    let names: Vec<_> = planned.iter().map(|it| it.step.name().to_owned()).collect();
    assert_eq!(names, ["prepare_cleaning", "burn_in", "erase_devices", "tear_down_cleaning"]);
    world.settle();
    assert_eq!(world.node().provision.state, ProvisionState::Manageable);

    let refused = world.verb(ProvisionVerb::Clean(vec![plugin_step("burn_in", 300)])).unwrap_err();
    let Rejection::Invalid(invalid) = refused else { panic!("{refused}") };
    assert_eq!(invalid.field, "plugin_steps[0].priority");
}
