//! The threads that turn frames into chunks on the disk. Each has a decoder and an aligned buffer
//! of its own, so decoding, checking and writing of different chunks overlap.
//!
//! Memory is bounded by slots: a job needs one, and there are only so many.

use std::sync::{Arc, Mutex, PoisonError};

use bessemer_image::pack::{
    CHUNK_BYTES, ChunkDecoder, ChunkIndex, ChunkRefused, MAX_FRAME_BYTES, Manifest,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::plan;
use crate::disk::{AlignedBuffer, DiskError, OpenDisk};
use crate::task::{Meter, TaskError};

/// Threads: enough writes of 1 MiB in flight for a fast disk, and at 1.3 MiB each (buffer, decoder)
/// little memory.
const THREADS: usize = 4;

/// Jobs that are queued or being done. Twelve frames of at most 1 MiB keep the threads busy while
/// the network pauses, and keep the agent well below its 64 MiB.
const SLOTS: usize = 12;

/// Room for one frame. Whoever has it may hand in one job.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) frame: Vec<u8>,
}

/// What there is to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job {
    /// Decode the slot's frame, check it, and write it unless it holds a partition table. `source`
    /// is who sent it.
    Write { index: ChunkIndex, source: usize },
    /// Make a range of the disk zero.
    Zero { offset_bytes: u64, length_bytes: u64 },
    /// Read a chunk back and check it.
    Check { index: ChunkIndex },
}

/// What became of a job.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The disk holds what it should there.
    Done,
    /// The chunk is right, and to be written last.
    Held {
        index: ChunkIndex,
        raw: Vec<u8>,
    },
    /// Nothing was written: the frame is not the chunk's.
    Refused {
        refused: ChunkRefused,
        source: usize,
    },
    /// What the disk holds is the chunk.
    Right {
        index: ChunkIndex,
        bytes: u64,
    },
    /// What the disk holds is something else.
    Wrong,
    Failed(DiskError),
}

#[derive(Debug)]
struct Report {
    slot: Slot,
    outcome: Outcome,
}

/// The threads, and the slots that are free.
#[derive(Debug)]
pub(super) struct Crew {
    jobs: mpsc::Sender<(Slot, Job)>,
    reports: mpsc::Receiver<Report>,
    threads: JoinSet<Result<(), TaskError>>,
    free: Vec<Slot>,
}

impl Crew {
    /// Threads that write chunks of `manifest` to `disk`, and tell `meter` how many bytes are right.
    pub(super) fn start(
        disk: &Arc<OpenDisk>,
        manifest: &Arc<Manifest>,
        meter: &Arc<Meter>,
    ) -> Self {
        let (jobs, queue) = mpsc::channel(SLOTS);
        let (reports_in, reports) = mpsc::channel(SLOTS);
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = JoinSet::new();
        for _ in 0..THREADS {
            let (disk, manifest, meter) =
                (Arc::clone(disk), Arc::clone(manifest), Arc::clone(meter));
            let (queue, reports) = (Arc::clone(&queue), reports_in.clone());
            threads
                .spawn_blocking(move || Worker::new(disk, manifest, meter)?.work(&queue, &reports));
        }
        let slot = || Slot { frame: Vec::with_capacity(MAX_FRAME_BYTES) };
        Self { jobs, reports, threads, free: std::iter::repeat_with(slot).take(SLOTS).collect() }
    }

    /// A slot that is free now.
    pub(super) fn free_slot(&mut self) -> Option<Slot> {
        self.free.pop()
    }

    /// Gives a slot back that was not needed.
    pub(super) fn give_back(&mut self, slot: Slot) {
        self.free.push(slot);
    }

    /// Hands in a job.
    pub(super) async fn submit(&self, slot: Slot, job: Job) -> Result<(), TaskError> {
        // There is room for as many jobs as slots; it fails when the threads are gone.
        self.jobs.send((slot, job)).await.map_err(|_| gone("its queue is closed"))
    }

    /// The outcome of one job, which frees its slot; none when no job is left.
    pub(super) async fn outcome(&mut self) -> Result<Option<Outcome>, TaskError> {
        if self.free.len() == SLOTS {
            return Ok(None);
        }
        tokio::select! {
            biased;
            Some(report) = self.reports.recv() => {
                self.free.push(report.slot);
                Ok(Some(report.outcome))
            }
            // No thread ends before the queue is closed, unless something is wrong with it.
            ended = self.threads.join_next() => match ended {
                Some(Ok(Err(error))) => Err(error),
                Some(Err(abnormal)) => Err(gone(&abnormal.to_string())),
                Some(Ok(Ok(()))) | None => Err(gone("it left")),
            },
        }
    }

    /// Drops what is queued and waits until nothing is being written any more.
    pub(super) async fn disband(mut self) {
        self.reports.close();
        drop(self.jobs);
        while self.threads.join_next().await.is_some() {}
    }
}

fn gone(why: &str) -> TaskError {
    TaskError::Internal { message: format!("a writing thread is gone: {why}") }
}

/// The next job. The lock is held while waiting, by one thread, and not while working.
fn next_of(queue: &Mutex<mpsc::Receiver<(Slot, Job)>>) -> Option<(Slot, Job)> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

struct Worker {
    disk: Arc<OpenDisk>,
    manifest: Arc<Manifest>,
    meter: Arc<Meter>,
    decoder: ChunkDecoder,
    raw: AlignedBuffer,
}

impl Worker {
    fn new(
        disk: Arc<OpenDisk>,
        manifest: Arc<Manifest>,
        meter: Arc<Meter>,
    ) -> Result<Self, TaskError> {
        let decoder = ChunkDecoder::new()
            .map_err(|error| TaskError::Internal { message: format!("no decoder: {error}") })?;
        Ok(Self { disk, manifest, meter, decoder, raw: AlignedBuffer::new(CHUNK_BYTES) })
    }

    fn work(
        mut self,
        queue: &Mutex<mpsc::Receiver<(Slot, Job)>>,
        reports: &mpsc::Sender<Report>,
    ) -> Result<(), TaskError> {
        // Nobody listens once the task is over: what is still queued is not done then.
        while !reports.is_closed()
            && let Some((slot, job)) = next_of(queue)
            && !reports.is_closed()
        {
            let outcome = self.perform(&slot, job).unwrap_or_else(Outcome::Failed);
            if reports.blocking_send(Report { slot, outcome }).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn perform(&mut self, slot: &Slot, job: Job) -> Result<Outcome, DiskError> {
        match job {
            Job::Write { index, source } => self.write(index, &slot.frame, source),
            Job::Zero { offset_bytes, length_bytes } => {
                self.disk.zero(offset_bytes, length_bytes)?;
                self.meter.add_done(length_bytes);
                Ok(Outcome::Done)
            }
            Job::Check { index } => self.check(index),
        }
    }

    fn write(
        &mut self,
        index: ChunkIndex,
        frame: &[u8],
        source: usize,
    ) -> Result<Outcome, DiskError> {
        match self.decoder.decode(&self.manifest, index, frame, &mut self.raw) {
            Ok(raw) if plan::holds_table(&self.manifest, index) => {
                Ok(Outcome::Held { index, raw: raw.to_vec() })
            }
            Ok(raw) => {
                self.disk.write_at(raw, index.raw_offset_bytes())?;
                self.meter.add_done(raw.len() as u64);
                Ok(Outcome::Done)
            }
            Err(refused) => Ok(Outcome::Refused { refused, source }),
        }
    }

    fn check(&mut self, index: ChunkIndex) -> Result<Outcome, DiskError> {
        let Some(chunk) = self.manifest.chunk(index) else { return Ok(Outcome::Wrong) };
        let raw = &mut self.raw[..chunk.raw_bytes];
        self.disk.read_at(raw, index.raw_offset_bytes())?;
        Ok(match self.manifest.verify_raw(index, raw) {
            Ok(()) => {
                let bytes = chunk.raw_bytes as u64;
                self.meter.add_done(bytes);
                Outcome::Right { index, bytes }
            }
            Err(_) => Outcome::Wrong,
        })
    }
}
