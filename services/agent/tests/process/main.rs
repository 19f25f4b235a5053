//! The agent as a process: killed, left by its conductor, resumed, measured.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cache;
mod conductor;
mod plugins;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use bessemer_proto::v1::start_task::Task;
use bessemer_proto::v1::task_succeeded::Result as TaskResult;
use bessemer_proto::v1::task_update::Update;
use bessemer_proto::v1::{StartTask, SyncTask, TaskSucceeded, WriteReport};

use cache::Cache;
use conductor::{Api, Conductor};

const MIB: usize = 1 << 20;

/// The agent's bound for images of any size.
const RSS_LIMIT_BYTES: u64 = 64 << 20;

/// A machine: a disk, memory that outlives the agent, and perhaps an agent.
struct Machine {
    directory: tempfile::TempDir,
    agent: Option<Child>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Machine {
    fn new(disk_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk = std::fs::File::create(directory.path().join("disk")).unwrap();
        disk.set_len(disk_bytes as u64).unwrap();
        Self { directory, agent: None }
    }

    fn disk(&self) -> std::path::PathBuf {
        self.directory.path().join("disk")
    }

    fn start(&mut self, api: &Api) {
        let child = Command::new(env!("CARGO_BIN_EXE_bessemer-agent"))
            // Nobody listens at the first one.
            .args(["--api-url", "http://127.0.0.1:1", "--api-url", &api.url()])
            .args(["--mac", "52:54:00:00:00:01", "--system-uuid", "6b1c"])
            .arg("--disk")
            .arg(self.disk())
            .arg("--state-dir")
            .arg(self.directory.path().join("memory"))
            .arg("--steps-dir")
            .arg(self.directory.path().join("steps.d"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.agent = Some(child);
    }

    fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }
}

/// An image with an MBR, every second MiB random.
fn image(mebibytes: usize) -> Vec<u8> {
    let mut raw = vec![0; mebibytes * MIB];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for chunk in raw.chunks_mut(MIB).step_by(2) {
        for word in chunk.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
    }
    raw[..512].fill(0);
    raw[446..462].copy_from_slice(&[0x80, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0x80, 0, 0]);
    raw[510..512].copy_from_slice(&[0x55, 0xaa]);
    raw
}

fn has_boot_signature(disk: &Path) -> bool {
    std::fs::read(disk).unwrap()[510..512] == [0x55, 0xaa]
}

fn sync(task_id: &str) -> StartTask {
    let task = Some(Task::Sync(SyncTask {}));
    StartTask { task_id: task_id.to_owned(), task, ..StartTask::default() }
}

fn report_of(update: Update) -> WriteReport {
    match update {
        Update::Succeeded(TaskSucceeded { result: Some(TaskResult::WriteImage(report)) }) => report,
        other => panic!("not written: {other:?}"),
    }
}

/// Whether half of the bytes behind the gate of `cache` have been reported as done.
/// Half of an image's bytes are empty, and may all be done before any other.
fn is_half_of_data_done(update: &Update) -> bool {
    matches!(update, Update::Progress(p) if p.total_bytes > 0 && p.done_bytes * 4 >= p.total_bytes * 3)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_comes_back_as_itself_and_goes_on() {
    let raw = image(200);
    let cache = Cache::start(&raw, 60).await;
    let conductor = Conductor::start(7);
    let api = Api::start(&conductor);
    let mut machine = Machine::new(200 * MIB);
    machine.start(&api);
    let first = conductor.session(1).await;
    assert_eq!(first.inventory.as_ref().unwrap().disks[0].size_bytes, (200 * MIB) as u64);
    conductor.send(cache.task("plan/4", false)).await;
    conductor.update("plan/4", is_half_of_data_done).await;

    machine.kill();
    assert!(!has_boot_signature(&machine.disk()), "half an image would boot");
    cache.open_gate();
    machine.start(&api);

    let second = conductor.session(2).await;
    assert_eq!(second.token, first.token);
    conductor.send(cache.task("plan/4", true)).await;
    let report = report_of(conductor.end("plan/4").await);
    assert!(raw == std::fs::read(machine.disk()).unwrap(), "the disk is not the image");
    assert!(report.resumed_bytes >= (40 * MIB) as u64, "{report:?}");
    assert!(report.wire_bytes < (cache.pack_bytes as u64) - (40 * MIB) as u64, "{report:?}");
    assert!(report.agent_peak_rss_bytes <= RSS_LIMIT_BYTES, "{report:?}");
    let lookups = api.lookups();
    assert!(lookups.iter().all(|lookup| {
        lookup.token == first.token
            && lookup.mac_addresses == ["52:54:00:00:00:01"]
            && lookup.system_uuid == "6b1c"
    }));
}

/// Frames that an agent has in memory at once, and those that the network holds for it: what a kill may cost.
const FRAMES_IN_FLIGHT: u64 = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_a_hundred_times_it_still_makes_headway_and_never_leaves_a_table() {
    const KILLS: u64 = 100;
    let raw = image(64);
    let cache = Cache::start(&raw, 0).await;
    let conductor = Conductor::start(7);
    let api = Api::start(&conductor);
    let mut machine = Machine::new(64 * MIB);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for kill in 1..=KILLS {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // Killed anywhere in the next hundredth of the pack, most often in the middle of a frame.
        let share = (kill - 1) * 1000 + state % 1000;
        let position = cache.pack_bytes as u64 * share / (KILLS * 1000);
        machine.start(&api);
        conductor.session(kill).await;
        conductor.send(cache.task("plan/4", kill > 1)).await;
        cache.open_gate_to(position as usize);
        cache.sent(position as usize).await;
        machine.kill();
        assert!(!has_boot_signature(&machine.disk()), "half an image would boot");
    }
    cache.open_gate();
    machine.start(&api);
    conductor.session(KILLS + 1).await;
    conductor.send(cache.task("plan/4", true)).await;
    let report = report_of(conductor.end("plan/4").await);
    assert!(raw == std::fs::read(machine.disk()).unwrap(), "the disk is not the image");
    assert!(report.resumed_bytes > 0, "{report:?}");
    let repeated = cache.sent_bytes() - cache.pack_bytes as u64;
    assert!(repeated <= KILLS * FRAMES_IN_FLIGHT * MIB as u64, "{repeated} bytes were sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_goes_on_without_its_conductor_and_the_next_one_attaches() {
    let raw = image(200);
    let cache = Cache::start(&raw, 60).await;
    let first = Conductor::start(7);
    let api = Api::start(&first);
    let mut machine = Machine::new(200 * MIB);
    machine.start(&api);
    first.session(1).await;
    first.send(cache.task("plan/4", false)).await;
    first.update("plan/4", is_half_of_data_done).await;

    first.kill();
    cache.open_gate();
    let second = Conductor::start(8);
    api.set_owner(&second);
    second.session(1).await;
    second.send(cache.task("plan/4", true)).await;

    let report = report_of(second.end("plan/4").await);
    assert!(raw == std::fs::read(machine.disk()).unwrap(), "the disk is not the image");
    // It is the same write: nothing was read back, nothing came twice.
    assert_eq!(report.resumed_bytes, 0);
    let once = (cache.pack_bytes + cache.manifest.encoded().len()) as u64;
    assert!(report.wire_bytes <= once, "{report:?}");
    assert!(report.agent_peak_rss_bytes <= RSS_LIMIT_BYTES, "{report:?}");

    // The answer is repeated, and another task begins.
    second.send(cache.task("plan/4", true)).await;
    assert_eq!(report_of(second.end("plan/4").await), report);
    second.send(sync("plan/5")).await;
    assert!(matches!(second.end("plan/5").await, Update::Succeeded(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conductor_with_an_old_claim_is_not_obeyed() {
    let (old, new) = (Conductor::start(7), Conductor::start(8));
    let api = Api::start(&new);
    let mut machine = Machine::new(4 * MIB);
    machine.start(&api);
    new.session(1).await;
    new.send(sync("plan/1")).await;
    assert!(matches!(new.end("plan/1").await, Update::Succeeded(_)));
    // Even an agent that was restarted remembers whom it obeyed.
    machine.kill();
    api.set_owner(&old);
    machine.start(&api);
    old.session(2).await;
    api.set_owner(&new);
    new.session(2).await;
}
