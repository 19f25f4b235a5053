//! Deploy templates and runbooks, and what takes its steps from them.

use bessemer_proto::v1;

use crate::member::{Running, command_id, new_node, refusal, verb};

fn step(step: &str, priority: Option<u32>) -> v1::RequestedStep {
    v1::RequestedStep { step: step.into(), priority, ..Default::default() }
}

fn template(kind: &str, name: &str, steps: Vec<v1::RequestedStep>) -> v1::CreateTemplateRequest {
    let (kind, name) = (kind.to_owned(), name.to_owned());
    v1::CreateTemplateRequest {
        command_id: command_id(),
        spec: Some(v1::TemplateSpec { kind, name, steps, ..Default::default() }),
        ..Default::default()
    }
}

fn planned(node: &v1::Node) -> Vec<String> {
    let plan = node.status.as_ref().unwrap().plan.as_ref().unwrap();
    plan.steps.iter().map(|step| step.name.clone()).collect()
}

#[tokio::test]
async fn a_cleaning_does_a_runbooks_steps_on_nodes_that_it_is_for() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    let steps = vec![step("burn_in", None), step("reboot", None), step("erase_devices", None)];
    let request = template("runbook", "CUSTOM_BURN_IN", steps);
    let made = api.client.create_template(request.clone()).await.unwrap();
    assert_eq!(api.client.create_template(request).await.unwrap(), made, "a repeat");
    let by_name = v1::GetTemplateRequest {
        template: "CUSTOM_BURN_IN".into(),
        kind: "runbook".into(),
        stale_ok: false,
    };
    assert_eq!(api.client.get_template(by_name.clone()).await.unwrap(), made);

    api.create("n").await;
    api.make_available("n").await;
    api.client.manage_node(verb("n")).await.unwrap();
    let clean = |clean_steps: &[&str]| v1::CleanNodeRequest {
        node: "n".into(),
        runbook: "CUSTOM_BURN_IN".into(),
        clean_steps: clean_steps.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let refused = refusal(api.client.clean_node(clean(&[]))).await;
    assert!(refused.message.contains("is not for node n, which has not trait CUSTOM_BURN_IN"));
    let both = refusal(api.client.clean_node(clean(&["erase_devices"]))).await;
    assert_eq!(
        (both.reason.as_str(), both.metadata["field"].as_str()),
        ("INVALID_FIELD", "runbook")
    );
    let update = v1::UpdateNodeRequest {
        node: "n".into(),
        spec: Some(v1::NodeSpec { traits: vec!["CUSTOM_BURN_IN".into()], ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["spec.traits".into()] }),
        ..Default::default()
    };
    api.client.update_node(update).await.unwrap();
    let node = api.client.clean_node(clean(&[])).await.unwrap();
    let expected = ["prepare_cleaning", "burn_in", "reboot", "erase_devices", "tear_down_cleaning"];
    assert_eq!(planned(&node), expected);

    let delete = v1::DeleteTemplateRequest {
        command_id: command_id(),
        template: by_name.template.clone(),
        kind: by_name.kind.clone(),
    };
    for _ in 0..2 {
        api.client.delete_template(delete.clone()).await.unwrap();
    }
    assert_eq!(refusal(api.client.get_template(by_name)).await.reason, "RESOURCE_NOT_FOUND");
    let listed = api.client.list_templates(v1::ListTemplatesRequest::default()).await.unwrap();
    assert!(listed.templates.is_empty());
    api.stop().await;
}

#[tokio::test]
async fn a_deployment_does_the_steps_of_the_templates_that_its_traits_mean() {
    let dir = tempfile::tempdir().unwrap();
    let api = Running::with_conductor(dir.path()).await;
    let steps = vec![step("flash_nic", Some(95)), step("burn_in", Some(90))];
    api.client.create_template(template("deploy_template", "CUSTOM_FAST", steps)).await.unwrap();
    let mut node = new_node("n");
    let spec = node.spec.as_mut().unwrap();
    spec.resource_class = "gold".into();
    spec.traits = vec!["CUSTOM_FAST".into()];
    api.client.create_node(node).await.unwrap();
    api.make_available("n").await;
    let allocation = v1::CreateAllocationRequest {
        spec: Some(v1::AllocationSpec {
            resource_class: "gold".into(),
            traits: vec!["CUSTOM_FAST".into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    api.client.create_allocation(allocation).await.unwrap();
    let deploy = v1::DeployNodeRequest {
        node: "n".into(),
        deployment: Some(v1::DeploymentSpec {
            deploy_interface: "custom-agent".into(),
            // The request's own wins.
            deploy_steps: vec![step("burn_in", Some(60))],
            ..Default::default()
        }),
        ..Default::default()
    };
    let node = api.client.deploy_node(deploy).await.unwrap();
    let steps = planned(&node);
    assert_eq!(steps[..2], ["deploy", "flash_nic"]);
    assert_eq!(steps.iter().filter(|step| *step == "burn_in").count(), 1);
    let held = node.status.unwrap().deployment.unwrap().spec.unwrap().deploy_steps;
    let burn_in = held.iter().find(|step| step.step == "burn_in").unwrap();
    assert_eq!(burn_in.priority, Some(60));
    api.stop().await;
}
