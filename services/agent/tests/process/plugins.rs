//! Steps of plug-ins by an agent that is killed: none is done twice that may not be, and no end is forgotten.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bessemer_proto::v1::start_task::Task;
use bessemer_proto::v1::task_succeeded::Result as TaskResult;
use bessemer_proto::v1::task_update::Update;
use bessemer_proto::v1::{PluginTask, StartTask, TaskFailed, TaskSucceeded};

use crate::conductor::{Api, Conductor};
use crate::{MIB, Machine};

/// Notes that it runs beside itself, and waits for the file `gate` there.
const PLUGIN: &str = r#"#!/bin/sh
here=$(dirname "$0")
case $1 in
describe) echo '{"steps": [{"name": "once", "priority": 90}, {"name": "again", "repeatable": true}]}' ;;
run)
    cat >> "$here/../told"
    echo '{"message": "at the gate", "progress": {"done_bytes": 1, "total_bytes": 4}}'
    while [ ! -e "$here/../gate" ]; do sleep 0.02; done
    echo '{"result": {"step": "'"$2"'"}}'
    ;;
esac
"#;

impl Machine {
    fn with_plugin() -> Self {
        let machine = Self::new(4 * MIB);
        let plugin = machine.file("steps.d/plugin");
        std::fs::create_dir(plugin.parent().unwrap()).unwrap();
        std::fs::write(&plugin, PLUGIN).unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        machine
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What each run of the plug-in was told.
    fn told(&self) -> Vec<String> {
        let told = std::fs::read_to_string(self.file("told")).unwrap_or_default();
        told.lines().map(str::to_owned).collect()
    }

    async fn until_told(&self, times: usize) {
        let deadline = Instant::now() + crate::conductor::PATIENCE;
        while self.told().len() < times {
            assert!(Instant::now() < deadline, "told {:?}", self.told());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn step(name: &str, task_id: &str) -> StartTask {
    let task = PluginTask {
        step: name.to_owned(),
        input: r#"{"args":{"speed":3},"step":"x"}"#.to_owned(),
        ..PluginTask::default()
    };
    StartTask {
        task_id: task_id.to_owned(),
        task: Some(Task::Plugin(task)),
        ..StartTask::default()
    }
}

fn result_of(end: &Update) -> &str {
    match end {
        Update::Succeeded(TaskSucceeded { result: Some(TaskResult::Plugin(report)) }) => {
            &report.result
        }
        other => panic!("not done: {other:?}"),
    }
}

fn failure_of(end: &Update) -> &str {
    match end {
        Update::Failed(TaskFailed { reason, .. }) => reason,
        other => panic!("did not fail: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_of_a_step_outlives_the_agent() {
    let conductor = Conductor::start(7);
    let api = Api::start(&conductor);
    let mut machine = Machine::with_plugin();
    machine.start(&api);
    let hello = conductor.session(1).await;
    let offered: Vec<_> = hello.steps.iter().map(|it| (it.name.as_str(), it.repeatable)).collect();
    assert_eq!(offered, [("once", false), ("again", true)]);
    conductor.send(step("once", "plan/2")).await;
    let is_at_gate = |update: &Update| matches!(update, Update::Progress(it) if it.message == "at the gate" && it.total_bytes == 4);
    conductor.update("plan/2", is_at_gate).await;
    std::fs::write(machine.file("gate"), "").unwrap();
    let end = conductor.end("plan/2").await;
    assert_eq!(result_of(&end), r#"{"step":"once"}"#);

    machine.kill();
    machine.start(&api);
    conductor.session(2).await;
    // It knows better than a conductor that says that it may have been begun before a boot.
    conductor.send(StartTask { resume: true, ..step("once", "plan/2") }).await;
    assert_eq!(result_of(&conductor.end("plan/2").await), r#"{"step":"once"}"#);
    let told = machine.told();
    assert_eq!(told.len(), 1);
    let told: serde_json::Value = serde_json::from_str(&told[0]).unwrap();
    assert_eq!(told["args"]["speed"], 3);
    assert_eq!(told["disks"][0]["size_bytes"], 4 * MIB);
    assert_eq!(told["was_interrupted"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_was_cut_off_is_repeated_only_if_it_may_be() {
    let conductor = Conductor::start(7);
    let api = Api::start(&conductor);
    let mut machine = Machine::with_plugin();
    for (number, (name, task_id)) in
        [("once", "plan/2"), ("again", "plan/3")].into_iter().enumerate()
    {
        machine.start(&api);
        conductor.session(2 * number as u64 + 1).await;
        conductor.send(step(name, task_id)).await;
        machine.until_told(number + 1).await;
        machine.kill();
        machine.start(&api);
        conductor.session(2 * number as u64 + 2).await;
        conductor.send(step(name, task_id)).await;
        if name == "once" {
            assert_eq!(failure_of(&conductor.end(task_id).await), "STEP_INTERRUPTED");
        } else {
            machine.until_told(3).await;
            std::fs::write(machine.file("gate"), "").unwrap();
            assert_eq!(result_of(&conductor.end(task_id).await), r#"{"step":"again"}"#);
        }
        machine.kill();
    }
    let told = machine.told();
    assert_eq!(told.len(), 3);
    assert!(told[1].contains(r#""was_interrupted":false"#), "{told:?}");
    assert!(told[2].contains(r#""was_interrupted":true"#), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_step_that_another_boot_may_have_begun_nothing_is_known() {
    let conductor = Conductor::start(7);
    let api = Api::start(&conductor);
    let mut machine = Machine::with_plugin();
    std::fs::write(machine.file("gate"), "").unwrap();
    machine.start(&api);
    conductor.session(1).await;
    conductor.send(StartTask { resume: true, ..step("once", "plan/2") }).await;
    assert_eq!(failure_of(&conductor.end("plan/2").await), "STEP_INTERRUPTED");
    conductor.send(StartTask { resume: true, ..step("again", "plan/3") }).await;
    assert_eq!(result_of(&conductor.end("plan/3").await), r#"{"step":"again"}"#);
    conductor.send(step("unknown", "plan/4")).await;
    assert_eq!(failure_of(&conductor.end("plan/4").await), "STEP_NOT_OFFERED");
}
