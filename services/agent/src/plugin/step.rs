//! Doing a plug-in's step: once, unless the plug-in says that twice does no harm.

use std::path::Path;
use std::time::Duration;

use bessemer_domain::node::{OfferedStep, STEP_ARGS_BYTES_MAX};
use bessemer_process::{Cut, Process};
use bessemer_proto::v1::{PluginReport, PluginTask};
use serde_json::{Map, Value, json};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::record::{Record, RecordFile, Running};
use crate::machine::Machine;
use crate::root_device;
use crate::task::{Meter, TaskError};

/// Limit of a step whose conductor gives none.
const LIMIT_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// Largest result: it is kept in history.
const RESULT_BYTES_MAX: usize = STEP_ARGS_BYTES_MAX;

/// Does the task, or says what became of it before. `may_have_begun` means that an earlier boot of the machine, of which
/// nothing is known here, may have.
pub(crate) async fn run(
    machine: &Machine,
    task_id: &str,
    task: &PluginTask,
    may_have_begun: bool,
    meter: &Meter,
    stop: &CancellationToken,
) -> Result<PluginReport, TaskError> {
    let Some((plugin, step)) = machine.plugins().find(&task.step) else {
        let offered: Vec<_> = machine.plugins().steps().map(ToString::to_string).collect();
        return Err(TaskError::StepNotOffered {
            step: task.step.clone(),
            offered: offered.join(", "),
        });
    };
    let record = RecordFile::new(machine.state_dir(), task_id);
    let begun = match read(&record)? {
        Some(Record::Succeeded { result }) => return Ok(report(result)),
        Some(Record::Failed { message }) => return Err(TaskError::StepFailed { message }),
        Some(Record::Begun { process }) => {
            process.iter().for_each(Running::kill);
            true
        }
        None => may_have_begun,
    };
    if begun && !step.repeatable {
        return Err(TaskError::StepInterrupted { step: task.step.clone() });
    }
    let input = input(machine, task, begun)?;
    let outcome = once(plugin, step, task, input, &record, meter, stop).await;
    match &outcome {
        Ok(result) => write(&record, &Record::Succeeded { result: result.clone() })?,
        Err(TaskError::StepFailed { message }) => {
            write(&record, &Record::Failed { message: message.clone() })?;
        }
        // Stopped half way: what is recorded is that it was begun.
        Err(_) => {}
    }
    outcome.map(report)
}

async fn once(
    plugin: &Path,
    step: &OfferedStep,
    task: &PluginTask,
    input: Vec<u8>,
    record: &RecordFile,
    meter: &Meter,
    stop: &CancellationToken,
) -> Result<Map<String, Value>, TaskError> {
    let failed = |how: String| TaskError::StepFailed {
        message: format!("step `{}` of plug-in {} {how}", step.name, plugin.display()),
    };
    write(record, &Record::Begun { process: None })?;
    let mut command = Command::new(plugin);
    command.args(["run", &step.name]);
    // By this, what it starts is known to be this machine's.
    if let Some(state_dir) = record.path().parent().and_then(Path::parent) {
        command.env("BESSEMER_AGENT_STATE_DIR", state_dir);
    }
    let process =
        Process::spawn(command).map_err(|error| failed(format!("cannot be run: {error}")))?;
    write(record, &Record::Begun { process: process.id().and_then(Running::of) })?;

    let limit = task.limit.and_then(|limit| limit.try_into().ok()).unwrap_or(LIMIT_DEFAULT);
    let mut result = Map::new();
    let ended = process.finish(input, limit, stop, |line| hear(line, meter, &mut result)).await;
    let (status, last_words) = ended.map_err(|cut| match cut {
        Cut::Stopped => TaskError::Cancelled,
        Cut::TimedOut => failed(format!("was killed after {} s", limit.as_secs())),
        Cut::Io(error) => failed(format!("cannot be waited for: {error}")),
    })?;
    if !status.success() {
        return Err(failed(format!("ended with {status}{}", last_words.as_reason())));
    }
    let bytes = serde_json::to_vec(&result).map_or(usize::MAX, |json| json.len());
    if bytes > RESULT_BYTES_MAX {
        return Err(failed(format!("has a result of {bytes} bytes, more than {RESULT_BYTES_MAX}")));
    }
    Ok(result)
}

/// One line of a plug-in's standard output: an object with any of `progress`, `message` and `result`.
fn hear(line: &[u8], meter: &Meter, result: &mut Map<String, Value>) {
    let Ok(Value::Object(said)) = serde_json::from_slice(line) else {
        tracing::info!(line = %String::from_utf8_lossy(line), "plug-in prints");
        return;
    };
    if let Some(message) = said.get("message").and_then(Value::as_str) {
        tracing::info!(message, "plug-in reports");
        meter.set_message(message);
    }
    if let Some(progress) = said.get("progress") {
        let bytes = |key: &str| progress.get(key).and_then(Value::as_u64);
        if let Some(total) = bytes("total_bytes") {
            meter.set_total(total);
        }
        if let Some(done) = bytes("done_bytes") {
            meter.restart();
            meter.add_done(done);
        }
    }
    if let Some(Value::Object(object)) = said.get("result") {
        result.clone_from(object);
    }
}

/// What the conductor says, and what only the machine knows.
fn input(machine: &Machine, task: &PluginTask, begun: bool) -> Result<Vec<u8>, TaskError> {
    let parsed = serde_json::from_str(&task.input);
    let mut input: Map<String, Value> =
        parsed.map_err(|error| TaskError::invalid("input", "", error.to_string()))?;
    let disks = machine.disks();
    let described = disks.iter().map(|found| {
        json!({
            "path": found.path,
            "size_bytes": found.disk.size_bytes,
            "logical_sector_bytes": found.disk.logical_sector_bytes,
            "model": found.disk.model,
            "serial": found.disk.serial,
            "wwn": found.disk.wwn,
        })
    });
    input.insert("disks".to_owned(), described.collect());
    // Where there is none, or several may be meant, the plug-in has to choose, or to fail.
    let root = root_device::choose(&disks, &task.root_device).ok();
    input.insert("root_device".to_owned(), json!(root.map(|found| found.path)));
    input.insert("was_interrupted".to_owned(), begun.into());
    let mut line = serde_json::to_vec(&input)
        .map_err(|error| TaskError::Internal { message: error.to_string() })?;
    line.push(b'\n');
    Ok(line)
}

fn report(result: Map<String, Value>) -> PluginReport {
    PluginReport { result: Value::Object(result).to_string() }
}

fn read(record: &RecordFile) -> Result<Option<Record>, TaskError> {
    record.read().map_err(|error| unkept("read", record, &error))
}

fn write(file: &RecordFile, record: &Record) -> Result<(), TaskError> {
    file.write(record).map_err(|error| unkept("write", file, &error))
}

fn unkept(action: &str, record: &RecordFile, error: &std::io::Error) -> TaskError {
    let message = format!("cannot {action} {}: {error}", record.path().display());
    TaskError::Internal { message }
}
